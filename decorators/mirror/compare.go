package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// kept returns v with rows of its own if it is a page, because the caller may change the slice.
func kept[T any](v T) T {
	switch p := any(&v).(type) {
	case *store.Page[chat.Thread]:
		p.Data = slices.Clone(p.Data)
	case *store.Page[chat.Item]:
		p.Data = slices.Clone(p.Data)
	}
	return v
}

type result int

const (
	equal result = iota
	different
	failed
	dropped
	skipped
	refused // by the first store; not reported
	numResults
)

func (d *Divergence) result() result {
	switch {
	case !isAnswer(d.First):
		return skipped
	case !isAnswer(d.Second):
		return failed
	case d.First != d.Second || d.Field != "":
		return different
	}
	return equal
}

// isAnswer reports whether a call with this code says something about the stored rows.
func isAnswer(c store.Code) bool {
	return c == store.CodeOK || c == store.CodeNotFound || c == store.CodeConflict || c == store.CodeInvalid
}

type row[T any] interface {
	Equal(T) bool
	JSON() chat.JSON
}

// field returns the name of a field in which the rows differ.
func field[T row[T]](a, b *T) string {
	if (*a).Equal(*b) {
		return ""
	}
	j, k := (*a).JSON(), (*b).JSON()
	if j.Equal(k) {
		return "owner" // which is not in the JSON
	}
	var in, other map[string]json.RawMessage
	_, _ = json.Unmarshal([]byte(j.String()), &in), json.Unmarshal([]byte(k.String()), &other)
	for _, name := range [...]string{"id", "thread_id", "created_at", "type", "title", "status", "metadata", "content"} {
		if !bytes.Equal(in[name], other[name]) {
			return name
		}
	}
	return "json"
}

func pageField[T row[T]](a, b *store.Page[T]) string {
	for i := range min(len(a.Data), len(b.Data)) {
		if name := field(&a.Data[i], &b.Data[i]); name != "" {
			return fmt.Sprintf("data[%d].%s", i, name)
		}
	}
	switch {
	case len(a.Data) != len(b.Data):
		return "data"
	case a.HasMore != b.HasMore:
		return "has_more"
	case a.After != b.After:
		return "after"
	}
	return ""
}

var resultNames = [...]string{"equal", "different", "failed", "dropped", "skipped"}

// AppendStats appends the number of calls by kind and result, and the number of waiting trials.
func (s *mirrored) AppendStats(dst []layer.Stat) []layer.Stat {
	for kind, name := range [...]string{"read", "write"} {
		for r, result := range resultNames {
			dst = append(dst, layer.Stat{
				Name:    "chatstore_mirror_calls_total",
				Help:    "Calls that were to be tried on the second store, by kind and result.",
				Counter: true,
				Labels:  [3]layer.Label{{Name: "kind", Value: name}, {Name: "result", Value: result}},
				Value:   float64(s.counts[kind][r].Load()),
			})
		}
	}
	waiting := 0
	for i := range s.queues {
		waiting += s.queues[i].len()
	}
	return append(dst, layer.Stat{Name: "chatstore_mirror_queued", Help: "Calls that wait for the second store.", Value: float64(waiting)})
}
