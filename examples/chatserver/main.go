// Chatserver is a server for ChatKit front ends on the whole stack: tracing, metrics, access control and a cache around
// SQLite, PostgreSQL, MySQL or MariaDB. It has a built-in page to try it.
//
//	go run ./examples/chatserver                                      SQLite in chatserver.db, on 127.0.0.1:8080
//	go run ./examples/chatserver -store postgres://localhost/chat     PostgreSQL, for any number of servers
//	go run ./examples/chatserver -store … -pooler -listen …           through pgbouncer, with a direct connection for LISTEN
//	go run ./examples/chatserver -store mysql://chat@localhost/chat   MySQL or MariaDB, for any number of servers
//	go run -tags redis ./examples/chatserver -store … -bus redis://…  announces changes to the other servers over Redis
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
	"regexp"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/go-logr/logr"

	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/sqlstore"
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
		// A cause itself may have the password.
		if why := sqlstore.Reason(err); !strings.Contains(err.Error(), why) {
			fmt.Fprintln(stderr, "because:", why)
		}
		return 1
	}
}

var errUsage = errors.New("usage") // already printed

func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(io.Discard) // the texts of package flag have values, and a value may be a password in the wrong place
	err := flags.Parse(args)
	flags.SetOutput(stderr)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stderr, "Usage of %s:\n", flags.Name())
		flags.PrintDefaults()
		return err
	} else if err != nil {
		fmt.Fprintf(stderr, "%s: %s; -h lists the flags\n", flags.Name(), flagFault(flags, err.Error()))
		return errUsage
	}
	// What else was typed may be the rest of a value with a password.
	if flags.NArg() == 1 && word.MatchString(flags.Arg(0)) {
		return fmt.Errorf("%q: unexpected argument", flags.Arg(0))
	}
	if flags.NArg() > 0 {
		return errors.New("unexpected arguments behind the flags: a value with spaces needs quotes")
	}
	return nil
}

// flagFault returns what is wrong with a flag, without the flag's value.
func flagFault(flags *flag.FlagSet, text string) string {
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok && word.MatchString(name) {
		return "-" + name + ": no such flag"
	}
	if m := flagName.FindStringSubmatch(text); m != nil && flags.Lookup(m[2]) != nil {
		return "-" + m[2] + map[bool]string{true: ": needs a value", false: ": the value is not valid"}[m[1] == ""]
	}
	return "an argument is no flag"
}

var flagName = regexp.MustCompile(`^(?:flag needs an argument:|(invalid) (?s:.*)" for (?:flag )?)\s?-([a-z-]+)`)

var word = regexp.MustCompile(`^[a-z]+$`)

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
	where := flags.String("store", "chatserver.db",
		"the `database`: the file of an SQLite database, sqlite:PATH, postgres://USER@HOST/NAME, \"host=HOST dbname=NAME\" or mysql://USER@HOST/NAME")
	pooler := flags.Bool("pooler", false, "the database is behind a pooler such as pgbouncer in transaction mode; then -listen is needed, or -bus")
	listen := flags.String("listen", "", "the `database` of -store over a direct connection, for LISTEN")
	over := flags.String("bus", "", "the `URL` of a Redis that carries changes to other servers; PostgreSQL and MySQL need none")
	dir := flags.String("files", "chatserver-files", "the `folder` of attachments; several servers share it")
	quota := flags.Int64("quota", 100, "how many `MiB` of attachments a user may keep; 0 is no limit")
	keyFile := keyFlag(flags)
	users := flags.String("users", "ada,grace", "the users who can sign in on the page, without a password")
	traces := flags.String("trace", "", "`stdout` prints traces")
	public := flags.String("url", "",
		"the server's public `URL` behind a proxy: its host name and its pages are accepted, and links to attachments begin with it")
	origins := flags.String("origins", "",
		"the `origins` of other front ends, such as https://app.example, after commas. Needs -url for attachments. "+
			"With an https -url the session cookie is also for pages of other sites (SameSite=None; Secure). "+
			"Otherwise such pages need a bearer token")
	metrics := flags.String("metrics", "",
		"the `address` at which Prometheus gets /metrics, such as 127.0.0.1:9464. Keep it from strangers: metrics tell whether a conversation "+
			"exists. If not set, -addr has /metrics, but only if it is a loopback address and -url is not set")
	grace := flags.Duration("grace", 10*time.Second, "how long streams may continue when the server is stopped")
	var zone *time.Location
	flags.Func("zone", "the time `zone` of stored times that have none, as the Python SDK stores them; UTC if not set",
		func(name string) (err error) { zone, err = time.LoadLocation(name); return err })
	assistant := assistantFlags(flags)
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	c := config{
		store: *where, pooler: *pooler, listen: *listen, bus: *over, files: *dir, quota: *quota << 20,
		url: strings.TrimSuffix(*public, "/"), origins: list(*origins), users: list(*users), grace: *grace, metrics: *metrics, log: log, wrap: wrap, zone: zone,
	}
	var err error
	if c.responder, err = assistant(log); err != nil {
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
	fmt.Fprintf(stdout, "chatserver: http://%s (conversations in %s; ^C stops)\n", l.Addr(), sqlstore.Redacted(databaseURL(*where)))
	if srv.metricsAt != nil {
		fmt.Fprintf(stdout, "chatserver: http://%s/metrics\n", srv.metricsAt)
	}
	return srv.serve(ctx, l)
}

// list returns the parts of a list with commas or spaces.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// exporters returns the exporters of traces. The OTLP exporter reads its settings from OpenTelemetry's environment
// variables.
func exporters(ctx context.Context, traces string, stdout io.Writer) ([]sdktrace.SpanProcessor, error) {
	var all []sdktrace.SpanProcessor
	var collected bool
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		at := os.Getenv(name)
		collected = collected || at != ""
		if _, err := url.Parse(at); err != nil {
			return nil, errors.New(name + ": not a URL") // the error has the text
		}
	}
	if collected {
		otel.SetLogger(logr.Discard()) // the default prints settings that it cannot read, such as headers with a password
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
