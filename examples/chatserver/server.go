package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/files"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/examples/chatserver/panel"
	"github.com/chatstore/chatstore/examples/chatserver/web"
	"github.com/chatstore/chatstore/store"
)

// config is what the flags say.
type config struct {
	store, bus string
	files      string
	key        []byte
	users      []string
	url        string // of the server, as clients reach it
	grace      time.Duration
	responder  chatkit.Responder
	exporters  []sdktrace.SpanProcessor
	log        *slog.Logger
	wrap       wrapper
}

// The limits of a request.
const (
	maxUpload  = 10 << 20
	maxSession = 4 << 10
	maxWait    = time.Minute
)

// maxFlush bounds how long the last spans may take to be exported when the server is stopped.
const maxFlush = 10 * time.Second

// server is the whole program but its flags and its listener.
type server struct {
	http     *http.Server
	chatkit  *chatkit.Handler
	registry *prometheus.Registry
	grace    time.Duration
	url      string
	closing  []func() error // in this order
}

// newServer opens the store and puts everything together. What it opened is closed by serve.
func newServer(ctx context.Context, c config) (_ *server, err error) {
	srv := &server{grace: c.grace, url: c.url}
	defer func() {
		if err != nil {
			err = errors.Join(err, srv.close())
		}
	}()
	issuer, err := identity.New(c.key, strings.HasPrefix(c.url, "https://"))
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	srv.registry = registry
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	seen := panel.New(registry)
	spans := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(seen.SpanProcessor())}
	for _, e := range c.exporters {
		spans = append(spans, sdktrace.WithSpanProcessor(e))
	}
	tp := sdktrace.NewTracerProvider(spans...)
	s, closeStore, err := openStack(ctx, c, registry, tp)
	if err != nil {
		return nil, errors.Join(err, tp.Shutdown(ctx))
	}
	srv.closing = append(srv.closing, closeStore, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), maxFlush)
		defer cancel()
		return tp.Shutdown(ctx)
	})
	folder, err := files.Open(c.files, s, c.url, maxUpload)
	if err != nil {
		return nil, err
	}
	srv.closing = append(srv.closing, folder.Close)
	srv.chatkit = chatkit.NewHandler(s, c.responder, chatkit.WithFiles(folder), chatkit.WithLogger(c.log),
		chatkit.WithMetrics(chatkit.NewMetrics(registry)))

	guarded := func(h http.Handler) http.Handler { return issuer.Require(chatkit.WriteError, h) }
	// A request of the user's own is what the panel shows, and not its looking.
	followed := func(h http.Handler) http.Handler {
		return guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen.Follow(r.Context())
			h.ServeHTTP(w, r)
		}))
	}
	traced := func(name string, h http.Handler) http.Handler {
		return otelhttp.NewHandler(h, name, otelhttp.WithTracerProvider(tp), otelhttp.WithPropagators(propagation.TraceContext{}),
			// A client's own trace is linked to, and not joined: anybody may claim to be in any.
			otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }))
	}
	sessions := sessions{issuer, c.users}
	// What streams has limits of its own.
	limited := func(h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), maxWait)
			defer cancel()
			h(w, r.WithContext(ctx))
		})
	}
	mux := routes([]route{
		{"POST /chatkit", traced("POST /chatkit", followed(srv.chatkit))},
		{"PUT /files/{id}", traced("PUT /files/{id}", followed(limited(folder.Put)))},
		{"GET /files/{id}", traced("GET /files/{id}", followed(limited(folder.Get)))},
		{"GET /panel", guarded(seen)},
		{"GET /session", http.HandlerFunc(sessions.show)},
		{"POST /session", http.HandlerFunc(sessions.begin)},
		{"DELETE /session", http.HandlerFunc(sessions.end)},
		{"GET /healthz", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
		{"GET /readyz", ready(s)},
		{"GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})},
	})
	// Without a method: one for GET alone would be at odds with the routes above.
	mux.Handle("/", methods(web.Handler(http.HandlerFunc(notFound)), "GET", "HEAD"))

	// What another site's page has a browser send must not count as its user's doing.
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chatkit.WriteError(w, &store.Error{Code: store.CodeDenied, Field: "the request comes from another site's page"})
	}))
	srv.http = &http.Server{
		Handler:           origin.Handler(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       maxWait,
		WriteTimeout:      maxWait, // of what is no stream: those have a limit for each event
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	return srv, nil
}

// route is a pattern of http.ServeMux, with its method, and what answers there.
type route struct {
	pattern string
	handler http.Handler
}

// routes is a mux that answers with JSON errors where there is nothing, and where there is another method.
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

// methods has h answer these methods, and an error the others; a nil h answers none.
func methods(h http.Handler, these ...string) http.Handler {
	allow := strings.Join(these, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h != nil && slices.Contains(these, r.Method) {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		chatkit.WriteError(w, chatkit.StatusError{
			Status: http.StatusMethodNotAllowed, Code: store.CodeInvalid.String(), Message: "the method is not one of " + allow,
		})
	})
}

// forHosts has h answer what was meant for this server, where it is reached from this machine alone: a name of somebody else's
// that is made to mean this machine would else have a browser take their page for the server's own.
func forHosts(h http.Handler, at net.Addr, public string) http.Handler {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return h
	}
	known := []string{"localhost", "127.0.0.1", "::1", tcp.IP.String()}
	if u, err := url.Parse(public); err == nil && u.Host != "" {
		known = append(known, u.Hostname())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := url.URL{Host: r.Host}
		if slices.Contains(known, strings.ToLower(asked.Hostname())) {
			h.ServeHTTP(w, r)
			return
		}
		chatkit.WriteError(w, chatkit.StatusError{
			Status: http.StatusMisdirectedRequest, Code: store.CodeDenied.String(), Message: "the server is not known by this name (see -url)",
		})
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	chatkit.WriteError(w, &store.Error{Code: store.CodeNotFound})
}

// ready says whether requests can be served: not when the database can't. (A server that stops takes no connections.)
func ready(s store.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if h, ok := store.As[store.HealthChecker](s); ok {
			if err := h.CheckHealth(ctx); err != nil {
				chatkit.WriteError(w, err)
			}
		}
	}
}

// serve answers on l until ctx ends. Then it finishes the streams under way, or, when the time for that is over, ends them and
// keeps what they have said so far; and closes everything.
func (srv *server) serve(ctx context.Context, l net.Listener) error {
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
		_ = srv.chatkit.Shutdown(grace) // its error: that streams were cut short
	}()
	// No longer accepts, and waits for what is under way, which Shutdown of the turns bounds but for slow clients.
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

// sessions is the demonstration's way to sign in: as one of the users that the server was started with.
type sessions struct {
	issuer *identity.Issuer
	users  []string
}

func (s sessions) show(w http.ResponseWriter, r *http.Request) {
	user, err := s.issuer.User(r)
	if err != nil {
		user = ""
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"user": user, "users": s.users}) // the client may be gone
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
		chatkit.WriteError(w, &store.Error{Code: store.CodeInvalid, Field: "user: not one of this demonstration's"})
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
