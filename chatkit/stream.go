package chatkit

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/chatstore/chatstore/store"
)

// stream is the answer to one request: JSON, or events. Until the first event, an error can still set the status.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	zone *time.Location // of stored times without one

	mu      sync.Mutex
	started bool
	gone    error // error of the first failed write
}

// errGone ends a turn whose client is gone.
var errGone error = StatusError{499, store.CodeCanceled.String(), "the client is gone"}

// writeLimit is how long a client may take to read one event. Then it counts as gone.
const writeLimit = 30 * time.Second

// answer sends JSON.
func (s *stream) answer(v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	h := s.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	s.write(text)
	return nil
}

// send sends an event.
func (s *stream) send(e Event) error {
	text, err := encodeEvent(e, s.zone)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.write([]byte("data: "), text, []byte("\n\n"))
	if s.gone != nil {
		return errGone
	}
	return nil
}

// begin sets the headers of a stream of events, once. They keep a proxy from holding events back: nginx would buffer them, and
// any other proxy may compress them.
func (s *stream) begin() {
	if s.started {
		return
	}
	s.started = true
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

func (s *stream) write(texts ...[]byte) {
	if s.gone != nil {
		return
	}
	if s.started {
		// The server's own write limit would apply to the whole stream. A connection without deadlines works too.
		_ = s.rc.SetWriteDeadline(time.Now().Add(writeLimit))
	}
	for _, text := range texts {
		if _, err := s.w.Write(text); err != nil {
			s.gone = err
			return
		}
	}
	if err := s.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.gone = err
	}
}

func (s *stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// fail sends the error that ends the stream.
func (s *stream) fail(err error) {
	f, ok := errors.AsType[Failure](err)
	if !ok {
		f = Failure{Code: "stream.error", AllowRetry: true}
		if e, ok := errors.AsType[StatusError](err); ok {
			f.Message = e.Message
			f.AllowRetry = e.Status >= http.StatusInternalServerError // the client's own errors would repeat
		}
	}
	_ = s.send(f) // the client may be gone
}

// end removes the write deadline, for the next request on the connection.
func (s *stream) end() {
	if s.started {
		_ = s.rc.SetWriteDeadline(time.Time{})
	}
}

// heartbeat is how often a stream sends a comment, because proxies close silent connections.
const heartbeat = 15 * time.Second

// beat sends comments until ctx ends. It waits for the first event, because an error before it has a status.
func (s *stream) beat(ctx context.Context) {
	t := time.NewTicker(heartbeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.mu.Lock()
			if s.started {
				s.write([]byte(": still there\n\n"))
			}
			s.mu.Unlock()
		}
	}
}
