// Quickstart replays chat conversations through a decorated Store and shows what each layer did.
//
//	go run ./examples/quickstart                      replays the built-in conversations
//	go run ./examples/quickstart -transcript my.json  replays a conversation of yours
//	go run ./examples/quickstart -dir conversations/  replays every *.json of a folder
//
// A transcript is a thread in ChatKit's JSON, with its items: a page as ChatKit sends it, or a plain array, oldest first.
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
// If an id comes a second time, it is a later state of the same item. Attachments may be left out: then they are taken from
// the messages that have them. Items may be of any type, and their content is kept as it is. These begin a new request to
// the server: each user message, each output of a client's tool, each answer to questions, and the first item after an end
// of turn.
//
// Everything is kept in memory. All printed figures are measured in the run that prints them.
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

// command is main with its environment as arguments. It returns the exit code.
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
	err := fmt.Errorf("%q: unexpected argument; name a file with -transcript", flags.Arg(0))
	if flags.NArg() == 0 {
		err = run(ctx, stdout, *file, *dir)
	}
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 1
	}
	return 0
}
