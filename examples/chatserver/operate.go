package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

// Metrics tell what others do: a counter shows a stranger whether the conversation that he asks for exists. So the server shows
// them at an address of their own (-metrics). Without that, it shows them only if it is reachable from this machine alone.

func (srv *server) metrics() http.Handler {
	return promhttp.HandlerFor(srv.registry, promhttp.HandlerOpts{
		Registry: srv.registry, EnableOpenMetrics: true, // the other format has no exemplars
	})
}

// ifPrivate hides h from the network. serve decides about that, because it knows the listener.
func (srv *server) ifPrivate(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !srv.private {
			notFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// serveMetrics serves h at /metrics of another address until the server closes.
func (srv *server) serveMetrics(addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("-metrics: %w", err)
	}
	srv.metricsAt = l.Addr()
	s := &http.Server{
		Handler: forHosts(routes([]route{{"GET /metrics", h}}), l.Addr(), ""), ErrorLog: srv.http.ErrorLog, MaxHeaderBytes: srv.http.MaxHeaderBytes,
		ReadHeaderTimeout: srv.http.ReadHeaderTimeout, ReadTimeout: srv.http.ReadTimeout, WriteTimeout: srv.http.WriteTimeout,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // until it is closed
	}()
	srv.closing = append([]func() error{func() error {
		defer func() { <-served }()
		return s.Close()
	}}, srv.closing...) // first, because metrics ask the store
	return nil
}

// ready reports whether requests can be served: not if the database is unavailable. A stopping server accepts none.
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
