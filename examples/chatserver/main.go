// Chatserver is a server for ChatKit front ends on the whole stack: tracing, metrics, access control and a cache around
// SQLite or PostgreSQL. It has a built-in page to try it.
//
//	go run ./examples/chatserver                                      SQLite in chatserver.db, on 127.0.0.1:8080
//	go run ./examples/chatserver -store postgres://localhost/chat     PostgreSQL, for any number of servers
//	go run ./examples/chatserver -store … -bus redis://localhost      announces changes to the other servers over Redis
//	go run ./examples/chatserver -openai-url … -openai-model …        answers with a model; OPENAI_API_KEY is its key
//	go run ./examples/chatserver token -user ada                      prints a bearer token
//
// The built-in assistant needs no network; /help lists its commands. If OTEL_EXPORTER_OTLP_ENDPOINT is set, traces go there;
// -trace=stdout prints them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main with its environment as arguments. It returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	run := serve
	if len(args) > 0 && args[0] == "token" {
		run, args = token, args[1:]
	}
	switch err := run(ctx, args, stdout, stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintln(stderr, "chatserver:", err)
		if e, ok := errors.AsType[*store.Error](err); ok && e.Cause != nil {
			fmt.Fprintln(stderr, "because:", e.Cause) // the text of the error itself does not have the cause
		}
		return 1
	}
}

var errUsage = errors.New("usage") // already printed

func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q: unexpected argument", flags.Arg(0))
	}
	return nil
}

// keyFlag adds the flag for the file of the signing secret.
func keyFlag(flags *flag.FlagSet) *string {
	return flags.String("key", "chatserver.key",
		"the `file` with the secret that signs sessions and tokens; created if missing; several servers share it")
}

func token(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("chatserver token", flag.ContinueOnError)
	user := flags.String("user", "", "the user of the token")
	life := flags.Duration("life", time.Hour, "how long the token is valid")
	keyFile := keyFlag(flags)
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	key, err := identity.KeyFile(*keyFile)
	if err != nil {
		return err
	}
	issuer, err := identity.New(key, false)
	if err != nil {
		return err
	}
	t, err := issuer.Token(*user, *life)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, t)
	return err
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("chatserver", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "the address to listen on")
	where := flags.String("store", "chatserver.db", "an SQLite `file` or the URL of a PostgreSQL database")
	over := flags.String("bus", "", "the `URL` of a Redis that carries changes to other servers; PostgreSQL needs none")
	dir := flags.String("files", "chatserver-files", "the `folder` of attachments; several servers share it")
	keyFile := keyFlag(flags)
	users := flags.String("users", "ada,grace", "the users who can sign in on the page, without a password")
	traces := flags.String("trace", "", "`stdout` prints traces")
	public := flags.String("url", "",
		"the server's public `URL` behind a proxy: its host name is accepted, and links to attachments begin with it")
	grace := flags.Duration("grace", 10*time.Second, "how long streams may continue when the server is stopped")
	pace := flags.Duration("pace", 30*time.Millisecond, "the built-in assistant's time for a word")
	openaiURL := flags.String("openai-url", "",
		"the base `URL` of an OpenAI-compatible API that answers instead of the built-in assistant")
	openaiModel := flags.String("openai-model", "", "the model; after commas, further models that a message may choose")
	openaiSays := flags.String("openai-instructions", "", "a system message before every conversation")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	c := config{
		store: *where, bus: *over, files: *dir, url: strings.TrimSuffix(*public, "/"), grace: *grace, log: log, wrap: wrap,
		users: strings.FieldsFunc(*users, func(r rune) bool { return r == ',' || r == ' ' }),
	}
	var err error
	if c.responder, err = responder(*openaiURL, *openaiModel, *openaiSays, *pace, log); err != nil {
		return err
	}
	if c.key, err = identity.KeyFile(*keyFile); err != nil {
		return err
	}
	if c.exporters, err = exporters(ctx, *traces, stdout); err != nil {
		return err
	}
	srv, err := newServer(ctx, c)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return errors.Join(err, srv.close())
	}
	fmt.Fprintf(stdout, "chatserver: http://%s (conversations in %s; ^C stops)\n", l.Addr(), place(*where))
	return srv.serve(ctx, l)
}

// place returns where conversations are stored, without the password that a URL may have.
func place(where string) string {
	if strings.Contains(where, "://") {
		return "PostgreSQL"
	}
	if abs, err := filepath.Abs(where); err == nil {
		return abs
	}
	return where
}

func responder(at, models, instructions string, pace time.Duration, log *slog.Logger) (chatkit.Responder, error) {
	switch {
	case at == "" && models == "":
		return answer.NewDemo(answer.WithPace(pace)), nil
	case at == "" || models == "":
		return nil, errors.New("-openai-url and -openai-model go together")
	}
	if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("-openai-url: must be an http or https URL")
	}
	names := strings.Split(models, ",")
	return answer.NewOpenAI(at, os.Getenv("OPENAI_API_KEY"), names[0],
		answer.WithModels(names[1:]...), answer.WithInstructions(instructions), answer.WithLogger(log)), nil
}

// exporters returns the exporters of traces. The OTLP exporter reads its settings from OpenTelemetry's environment
// variables.
func exporters(ctx context.Context, traces string, stdout io.Writer) ([]sdktrace.SpanProcessor, error) {
	var all []sdktrace.SpanProcessor
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		e, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, sdktrace.NewBatchSpanProcessor(e))
	}
	switch traces {
	case "":
	case "stdout":
		e, err := stdouttrace.New(stdouttrace.WithWriter(stdout))
		if err != nil {
			return nil, err
		}
		all = append(all, sdktrace.NewBatchSpanProcessor(e))
	default:
		return nil, fmt.Errorf("-trace=%s: must be stdout or empty", traces)
	}
	return all, nil
}
