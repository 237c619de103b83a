package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// The flags of the assistant reach the model's answerer.
func TestAssistantFlags(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"Hello"}}]}`)
	}))
	t.Cleanup(endpoint.Close)
	assistant := func(args ...string) (chatkit.Responder, error) {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		build := assistantFlags(flags)
		testenv.Must(t, flags.Parse(append(args, "-openai-url="+endpoint.URL, "-openai-model=m")))
		return build(slog.New(slog.DiscardHandler))
	}
	for arg, want := range map[string]string{
		"-openai-context=8":    "Hello",
		"-openai-context=7":    "too long",
		"-openai-patience=10m": "Hello",
		"-openai-patience=1ns": "too long to answer",
	} {
		h := chatkit.NewHandler(memstore.New(), testenv.Value(assistant(arg))(t))
		w := httptest.NewRecorder()
		params := object{"input": chatkittest.Input("Good day")}
		h.ServeHTTP(w, testenv.Value(chatkittest.NewRequest(t.Context(), "/", "threads.create", params))(t))
		if said := w.Body.String(); !strings.Contains(said, want) {
			t.Errorf("%s: %q is not in %s", arg, want, said)
		}
	}
	t.Setenv("OPENAI_API_KEY", "sk-1\nsk-2")
	if _, err := assistant(); err == nil || !strings.Contains(err.Error(), "OPENAI_API_KEY: has a line break") || strings.Contains(err.Error(), "sk-") {
		t.Errorf("a key of two lines: %v", err)
	}
	for _, arg := range []string{"-openai-context=0", "-openai-patience=-1s"} {
		if _, err := assistant(arg); err == nil || !strings.Contains(fmt.Sprint(err), "positive") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
