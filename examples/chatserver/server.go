package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/files"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/examples/chatserver/panel"
	"github.com/chatstore/chatstore/examples/chatserver/shared"
	"github.com/chatstore/chatstore/examples/chatserver/web"
	"github.com/chatstore/chatstore/store"
)

// config has the values of the flags.
type config struct {
	store, bus string
	listen     string // the DSN of a direct connection to PostgreSQL
	pooler     bool   // whether the store's connections go through a pooler
	files      string
	quota      int64 // bytes of a user's files
	key        []byte
	users      []string
	url        string   // public URL of the server
	origins    []string // of other front ends
	metrics    string   // address of the metrics
	grace      time.Duration
	responder  chatkit.Responder
	exporters  []sdktrace.SpanProcessor
	log        *slog.Logger
	wrap       wrapper
	zone       *time.Location // nil means UTC
}

// These are the limits of a request.
const (
	maxUpload  = 10 << 20
	maxSession = 4 << 10
	maxWait    = time.Minute
)

// maxFlush limits the export of the last spans when the server stops.
const maxFlush = 10 * time.Second

// server is the program without its flags and listener.
type server struct {
	http     *http.Server
	chatkit  *chatkit.Handler
	registry *prometheus.Registry
	grace    time.Duration
	url      string
	closing  []func() error // called in order

	metricsAt net.Addr // nil if metrics have no address of their own
	private   bool     // only programs of this machine reach the server
}

// newServer opens the store and builds the server. serve closes everything.
func newServer(ctx context.Context, c config) (_ *server, err error) {
	srv := &server{grace: c.grace, url: c.url}
	defer func() {
		if err != nil {
			err = errors.Join(err, srv.close())
		}
	}()
	var foreign []identity.Option
	if len(c.origins) > 0 {
		foreign = append(foreign, identity.WithCrossSite())
	}
	issuer, err := identity.New(c.key, strings.HasPrefix(strings.ToLower(c.url), "https://"), foreign...)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	srv.registry = registry
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	seen := panel.New()
	spans := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(seen.SpanProcessor())}
	for _, e := range c.exporters {
		spans = append(spans, sdktrace.WithSpanProcessor(e))
	}
	tp := sdktrace.NewTracerProvider(spans...)
	s, grants, closeStore, err := openStack(ctx, c, registry, tp)
	if err != nil {
		return nil, errors.Join(err, tp.Shutdown(ctx))
	}
	srv.closing = append(srv.closing, closeStore, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), maxFlush)
		defer cancel()
		return tp.Shutdown(ctx)
	})
	folder, err := files.Open(c.files, s, c.url, files.Limits{File: maxUpload, User: c.quota})
	if err != nil {
		return nil, err
	}
	srv.closing = append(srv.closing, folder.Close)
	srv.chatkit = chatkit.NewHandler(s, c.responder, chatkit.WithFiles(folder), chatkit.WithLogger(c.log), chatkit.WithZone(c.zone),
		chatkit.WithRegisterer(registry))

	guarded := func(h http.Handler) http.Handler { return issuer.Require(chatkit.WriteError, h) }
	// The panel shows the user's own requests, but not the requests of the panel.
	followed := func(h http.Handler) http.Handler {
		return guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(seen.Follow(r.Context())))
		}))
	}
	traced := func(name string, h http.Handler) http.Handler {
		return otelhttp.NewHandler(h, name, otelhttp.WithTracerProvider(tp), otelhttp.WithPropagators(propagation.TraceContext{}),
			// A client's trace is linked, not joined, because a client can claim any trace.
			otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }))
	}
	others := shared.New(s, grants)
	sessions := sessions{issuer, c.users, knowsCommands(c.responder)}
	shown := guarded(seen.Handler(store.Layers(s)))
	// Streams have limits of their own.
	limited := func(h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), maxWait)
			defer cancel()
			h(w, r.WithContext(ctx))
		})
	}
	measured := srv.metrics()
	mux := routes([]route{
		{"POST /chatkit", traced("POST /chatkit", followed(srv.chatkit))},
		{"PUT /files/{id}", traced("PUT /files/{id}", followed(limited(folder.Put)))},
		{"GET /files/{id}", traced("GET /files/{id}", followed(limited(folder.Get)))},
		{"GET /shared", guarded(http.HandlerFunc(others.List))},
		{"GET /shared/{id}", guarded(http.HandlerFunc(others.Show))},
		{"PUT /shared/{id}", guarded(http.HandlerFunc(others.Change))},
		{"GET /panel", shown},
		{"POST /panel", shown},
		{"GET /session", http.HandlerFunc(sessions.show)},
		{"POST /session", http.HandlerFunc(sessions.begin)},
		{"DELETE /session", http.HandlerFunc(sessions.end)},
		{"GET /healthz", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
		{"GET /readyz", ready(s)},
		{"GET /metrics", srv.ifPrivate(measured)},
	})
	// The pattern has no method, because "GET /" would conflict with the routes above.
	mux.Handle("/", methods(web.Handler(http.HandlerFunc(notFound)), "GET", "HEAD"))

	protected, err := fromOrigins(mux, c.url, c.origins)
	if err != nil {
		return nil, err
	}
	srv.http = &http.Server{
		Handler:           protected,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       maxWait,
		WriteTimeout:      maxWait, // streams have a limit for each event instead
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	if c.metrics != "" {
		err = srv.serveMetrics(c.metrics, measured)
	}
	return srv, err
}

// route is a pattern of http.ServeMux with its method, and its handler.
type route struct {
	pattern string
	handler http.Handler
}

// routes returns a mux that answers other paths and methods with JSON errors.
func routes(all []route) *http.ServeMux {
	mux := http.NewServeMux()
	known := map[string][]string{}
	for _, r := range all {
		mux.Handle(r.pattern, r.handler)
		method, path, _ := strings.Cut(r.pattern, " ")
		known[path] = append(known[path], method)
	}
	for path, these := range known {
		mux.Handle(path, methods(nil, these...))
	}
	return mux
}

// methods restricts h to the given methods and answers others with an error. A nil h has no methods.
func methods(h http.Handler, these ...string) http.Handler {
	allow := strings.Join(these, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h != nil && slices.Contains(these, r.Method) {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		chatkit.WriteError(w, chatkit.StatusError{
			Status: http.StatusMethodNotAllowed, Code: store.CodeInvalid.String(), Message: "the method must be one of " + allow,
		})
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	chatkit.WriteError(w, &store.Error{Code: store.CodeNotFound})
}

// serve answers on l until ctx ends. Then it lets running streams finish. When the grace period is over, it ends them and
// saves their answers so far. At last it closes everything.
func (srv *server) serve(ctx context.Context, l net.Listener) error {
	srv.private = srv.metricsAt == nil && srv.url == "" && isLoopback(l.Addr())
	srv.http.Handler = forHosts(srv.http.Handler, l.Addr(), srv.url)
	served := make(chan error, 1)
	go func() { served <- srv.http.Serve(l) }()
	var err error
	select {
	case err = <-served: // the listener failed
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), srv.grace)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = srv.chatkit.Shutdown(grace) // an error means that streams were cut short
	}()
	// Shutdown stops accepting and waits for running requests. Only slow clients take longer than the shutdown of the turns.
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), srv.grace+5*time.Second)
	defer cancelLast()
	if srv.http.Shutdown(last) != nil {
		err = errors.Join(err, srv.http.Close())
	}
	<-stopped
	return errors.Join(err, srv.close())
}

func (srv *server) close() error {
	var errs []error
	for _, f := range srv.closing {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// sessions is the demo's sign-in, as one of the users that the server was started with.
type sessions struct {
	issuer   *identity.Issuer
	users    []string
	commands bool // see knowsCommands
}

func (s sessions) show(w http.ResponseWriter, r *http.Request) {
	user, err := s.issuer.User(r)
	if err != nil {
		user = ""
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"user": user, "users": s.users, "commands": s.commands}) // the client may be gone
}

func (s sessions) begin(w http.ResponseWriter, r *http.Request) {
	var who struct {
		User string `json:"user"`
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSession))
	if err == nil {
		err = json.Unmarshal(text, &who)
	}
	if err != nil || !slices.Contains(s.users, who.User) {
		chatkit.WriteError(w, &store.Error{Code: store.CodeInvalid, Field: "user: not a user of this demo"})
		return
	}
	if err := s.issuer.SignIn(w, who.User); err != nil {
		chatkit.WriteError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s sessions) end(w http.ResponseWriter, _ *http.Request) {
	s.issuer.SignOut(w)
	w.WriteHeader(http.StatusNoContent)
}
