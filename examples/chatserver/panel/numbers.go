package panel

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

// totals has the numbers of a user's requests that have ended.
type totals struct {
	Requests int `json:"requests"`
	Hidden   int `json:"hidden"` // requests that are in no other number
	calls
	times    [store.NumOps]times // of the handler's calls
	baseTime times
}

// times has the durations of calls.
type times struct {
	count int
	sum   time.Duration
}

func (t *times) add(d time.Duration) {
	t.count++
	t.sum += d
}

func (t times) mean() float64 {
	if t.count == 0 {
		return 0
	}
	return milliseconds(t.sum / time.Duration(t.count))
}

func (t *totals) add(r *request) {
	t.Requests++
	if r.hidden() {
		t.Hidden++
		return
	}
	for _, s := range r.spans {
		t.calls.add(s)
		switch s.Layer {
		case outerLayer:
			t.times[ops[s.op]].add(s.took)
		case baseLayer:
			t.baseTime.add(s.took)
		}
	}
}

// ops has the operations of a store by their names.
var ops = func() map[string]store.Op {
	m := map[string]store.Op{}
	for _, o := range store.Ops() {
		m[o.String()] = o
	}
	return m
}()

// op has a user's numbers of one operation.
type op struct {
	Name  string  `json:"op"`
	Calls int     `json:"calls"`
	Mean  float64 `json:"mean_ms"`
}

// answer is the data of the page.
type answer struct {
	Stack    []string `json:"stack"` // names of layers, the outermost first and the base last
	Cache    bool     `json:"cache"` // the user's switch
	Totals   totals   `json:"totals"`
	BaseMean float64  `json:"base_mean_ms"` // of a call that reached the base
	Ops      []op     `json:"ops"`
	Last     *view    `json:"last"`
	Turn     *view    `json:"turn"`
}

// answer returns the data of a user, who may be nil.
func (u *user) answer(stack []string) answer {
	a := answer{Stack: stack, Cache: true, Ops: []op{}}
	if u == nil {
		return a
	}
	a.Cache, a.Totals, a.Last, a.Turn = !u.noCache, u.totals, u.last.view(), u.turn.view()
	a.BaseMean = u.totals.baseTime.mean()
	for _, o := range store.Ops() {
		if t := u.totals.times[o]; t.count > 0 {
			a.Ops = append(a.Ops, op{o.String(), t.count, t.mean()})
		}
	}
	return a
}

// Handler serves the panel of a stack with these layers. GET returns the caller's data as JSON. POST takes {"cache": false}
// or {"cache": true}, and turns the cache off or on for the caller's later requests.
func (p *Panel) Handler(stack []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if err := p.turn(w, r); err != nil {
				chatkit.WriteError(w, err)
				return
			}
		}
		p.mu.Lock()
		a := p.userOf(r.Context()).answer(stack)
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(a) // the client may be gone
	})
}

// maxSwitch limits the bytes of a POST.
const maxSwitch = 1 << 10

// turn turns the caller's cache on or off.
func (p *Panel) turn(w http.ResponseWriter, r *http.Request) error {
	// A form of another site cannot send this type.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return chatkit.StatusError{
			Status: http.StatusUnsupportedMediaType, Code: store.CodeInvalid.String(), Message: "the content type must be application/json",
		}
	}
	var now struct {
		Cache *bool `json:"cache"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSwitch))
	d.DisallowUnknownFields()
	err := d.Decode(&now)
	if _, more := d.Token(); err != nil || now.Cache == nil || !errors.Is(more, io.EOF) {
		return chatkit.StatusError{
			Status: http.StatusBadRequest, Code: store.CodeInvalid.String(), Message: `the body must be {"cache": true} or {"cache": false}`,
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.userOf(r.Context()); u != nil {
		u.noCache = !*now.Cache
	}
	return nil
}
