// Quickstart replays chat conversations through a decorated Store and shows what each layer did.
//
//	go run ./examples/quickstart                      the conversations that come with it
//	go run ./examples/quickstart -transcript my.json  one of yours
//	go run ./examples/quickstart -dir conversations/  every *.json of a folder
//
// A transcript is a thread in ChatKit's JSON, with its items: the page that ChatKit sends, or a plain array, oldest first.
//
//	{
//	  "id": "thr_1", "created_at": "2026-05-01T16:00:00Z", "title": "Tea", "status": {"type": "active"}, "metadata": {},
//	  "items": [
//	    {"id": "msg_1", "type": "user_message", "created_at": "2026-05-01T16:00:00Z", "content": […], …},
//	    {"id": "tc_1", "type": "client_tool_call", "status": "pending", …},
//	    {"id": "tc_1", "type": "client_tool_call", "status": "completed", …}
//	  ],
//	  "attachments": [{"id": "atc_1", "type": "file", "name": "tea.pdf", "mime_type": "application/pdf"}]
//	}
//
// An id that comes a second time is a later state of the same item. Attachments may be left out: those that messages carry
// are taken from there. Item types may be any, and what is in the items stays as it is. Each user message, each output of a
// client's tool, each answer to questions, and whatever comes behind an end of turn, begins a new request to the server.
//
// Everything is kept in memory, and everything printed was measured in the run that prints it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main, with what it has from outside as arguments. It returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("transcript", "", "replay the conversation in this `file`")
	dir := flags.String("dir", "", "replay the conversations in the *.json of this `folder`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	err := fmt.Errorf("%q: no arguments are taken; a file is named with -transcript", flags.Arg(0))
	if flags.NArg() == 0 {
		err = run(ctx, stdout, *file, *dir)
	}
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 1
	}
	return 0
}
