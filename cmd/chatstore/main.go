// Command chatstore moves, exports, erases, prunes and checks the conversations of a database.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/chatstore/chatstore/sqlstore"
)

const description = `Move, export, import, erase, prune and check the conversations of a chatstore database.

A database is sqlite:PATH, postgres://USER@HOST/NAME, mysql://USER@HOST/NAME (MySQL, MariaDB), keywords such as
"host=HOST dbname=NAME" (PostgreSQL), or env:NAME, which takes one of these from an environment variable. Other users of a machine see
arguments: give passwords by env:NAME; for PostgreSQL also by PGPASSWORD or ~/.pgpass.

Rows are taken as they are stored: those that package encrypt has sealed stay sealed, also in an export.

Only copy, import and migrate create a database or its tables. Only migrate changes the schema of tables that exist.

Exit codes: 0 success; 1 failure or differences; 2 wrong usage; 130 interrupted.`

// cli has the commands. Its own flags are for all of them.
type cli struct {
	Config           kong.ConfigFlag `help:"JSON file with flags, such as {\"parallel\": 4}. The command line and the environment come first." placeholder:"FILE" env:"CHATSTORE_CONFIG"`
	JSON             bool            `name:"json" help:"Print the result as one JSON object." env:"CHATSTORE_JSON"`
	Schema           string          `help:"PostgreSQL schema of the tables." env:"CHATSTORE_SCHEMA"`
	TablePrefix      string          `help:"Prefix of the tables' names." default:"chatstore_" env:"CHATSTORE_TABLE_PREFIX"`
	Pooler           bool            `help:"PostgreSQL is behind a pooler, such as pgbouncer." env:"CHATSTORE_POOLER"`
	StatementTimeout time.Duration   `help:"As in the programs that use the database. erase and copy --last wait for it." default:"30s" env:"CHATSTORE_STATEMENT_TIMEOUT"`
	LockTimeout      time.Duration   `help:"How long a statement waits for a lock, as in the programs that use the database." default:"10s" env:"CHATSTORE_LOCK_TIMEOUT"`

	Copy    copyCmd    `cmd:"" help:"Copy all rows to another database. Call it again to bring over what has changed."`
	Verify  verifyCmd  `cmd:"" help:"Compare two databases, and print each difference."`
	Export  exportCmd  `cmd:"" help:"Write rows to a file of JSON lines."`
	Import  importCmd  `cmd:"" help:"Save the rows of an exported file."`
	Erase   eraseCmd   `cmd:"" help:"Erase an owner: threads, attachments, grants, and the name."`
	Prune   pruneCmd   `cmd:"" help:"Delete old threads, or attachments that no message names."`
	Stats   statsCmd   `cmd:"" help:"Count rows and bytes."`
	Grants  grantsCmd  `cmd:"" help:"List the grants of a thread, or what is shared with somebody."`
	Migrate migrateCmd `cmd:"" help:"Create the tables, or bring their schema to this version."`
	Check   checkCmd   `cmd:"" help:"Check the connection, schema, permissions, health, triggers and clock."`
	Bench   benchCmd   `cmd:"" help:"Measure the calls of a chat turn, with and without the cache."`
}

// The exit codes.
const (
	success = iota
	failure
	wrongUsage
	interrupted = 130
)

// app is what all commands use.
type app struct {
	*cli
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Reset() // the next one ends the process
		_, _ = fmt.Fprintln(os.Stderr, "\nchatstore: stopping; interrupt again to end at once")
		cancel()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs a command and returns the exit code. If ctx ends, the command stops.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{cli: &cli{}, stdin: stdin, stdout: stdout, stderr: stderr}
	helped := false
	parser := kong.Must(a.cli, kong.Name("chatstore"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), kong.Configuration(configuration), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	command, err := parser.Parse(args)
	if helped {
		return success
	}
	say := func(format string, v ...any) { _, _ = fmt.Fprintf(stderr, "chatstore: "+format+"\n", v...) }
	if err != nil {
		say("%s\nsee chatstore --help", withoutArguments(shown(err)))
		return wrongUsage
	}
	command.BindTo(ctx, (*context.Context)(nil))
	var s *sqlstore.Store // what a command opens by taking it as an argument
	_ = command.BindToProvider(func() (_ *sqlstore.Store, err error) {
		s, err = a.open(ctx, command.Selected().Target.Interface().(interface{ url() databaseURL }).url())
		return s, err
	})
	err = command.Run(a)
	if s != nil {
		err = errors.Join(err, s.Close())
	}
	name := command.Selected().Name
	switch {
	case err == nil:
		return success
	case ctx.Err() == nil:
		say("%s", shown(err))
		if _, ok := errors.AsType[usageError](err); ok {
			return wrongUsage
		}
		return failure
	}
	say("interrupted: %s", shown(err))
	if slices.Contains([]string{"copy", "import", "erase", "prune"}, name) {
		say("run the same %s again: it goes on where it stopped", name)
	}
	return interrupted
}

// secretive finds what may be a database in the wrong place, such as that of a file or a thread.
var secretive = regexp.MustCompile(`:/|password`)

// shown returns the text of an error with its reason, without what may have a password.
func shown(err error) string {
	text := err.Error()
	if why := sqlstore.Reason(err); !strings.Contains(text, why) {
		text += ": " + why
	}
	if f, ok := errors.AsType[*fs.PathError](err); ok && secretive.MatchString(f.Path) {
		text = strings.ReplaceAll(text, f.Path, "…")
	}
	return text
}

// withoutArguments cuts off what the parser's texts repeat of the arguments and the environment. Any of it may have a password.
func withoutArguments(text string) string {
	for _, before := range []string{"unexpected argument", "unexpected flag argument", "unexpected token", "unknown flag"} {
		if begin, rest, ok := strings.Cut(text, before+" "); ok {
			text = begin + before
			if i := strings.LastIndex(rest, ", did you mean "); i >= 0 {
				text += rest[i:]
			}
		}
	}
	for _, before := range []string{" but got ", " (from envar ", "; perhaps try "} {
		text, _, _ = strings.Cut(text, before)
	}
	return text
}

// print prints the result: v as JSON, or the text.
func (a *app) print(v any, text string) {
	if !a.JSON {
		_, _ = fmt.Fprintln(a.stdout, text)
		return
	}
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// isTerminal reports whether v is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
