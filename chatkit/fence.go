package chatkit

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// fence says which turn may write to a thread: the one that began last. It is a member of the thread's metadata, so that the
// servers of one database see each other's turns.
type fence struct {
	Turn  string `json:"turn"`
	Epoch uint64 `json:"epoch"` // counts the thread's turns
	// At is the start of the turn, and the time of its message. It is later than the turn before and the thread's items, whatever
	// the clocks of two servers say.
	At   time.Time `json:"at"`
	Cuts []cut     `json:"cuts,omitempty"`
}

// cut is a retry. It removed what earlier turns had said since From, the time of the message that was answered again.
type cut struct {
	Epoch uint64    `json:"epoch"`
	From  time.Time `json:"from"`
}

// maxCuts limits the remembered retries. Only a turn that is still running asks for them.
const maxCuts = 8

// next returns the fence of a turn that begins now. retried is the message that it answers again, if any. newest has the newest
// items of the thread.
func (f fence) next(retried chat.Item, newest []chat.Item) fence {
	n := fence{Turn: rand.Text(), Epoch: f.Epoch + 1, At: now(), Cuts: f.Cuts}
	last := f.At
	if len(newest) > 0 && newest[0].CreatedAt.After(last) {
		last = newest[0].CreatedAt
	}
	if after := last.Add(time.Microsecond); n.At.Before(after) {
		n.At = after
	}
	if retried.ID != "" {
		// A retry from an earlier message covers the ones before it.
		n.Cuts = slices.DeleteFunc(slices.Clone(f.Cuts), func(c cut) bool { return !c.From.Before(retried.CreatedAt) })
		n.Cuts = append(n.Cuts, cut{n.Epoch, retried.CreatedAt})
		n.Cuts = n.Cuts[max(0, len(n.Cuts)-maxCuts):]
	}
	return n
}

func (f fence) is(mine fence) bool { return f.Turn == mine.Turn && f.Epoch == mine.Epoch }

// spares reports whether the superseded turn of the fence mine may keep what it said. It may not if a retry cut that away, or
// if the thread is another one under the same id.
func (f fence) spares(mine fence) bool {
	return f.Epoch > mine.Epoch && !slices.ContainsFunc(f.Cuts, func(c cut) bool {
		return c.Epoch > mine.Epoch && !mine.At.Before(c.From)
	})
}

// fenceOf returns the fence in a thread's metadata. It is zero if there is none that can be read.
func fenceOf(metadata chat.JSON) (f fence) {
	text := metadata.String()
	members, _ := jsondoc.MembersOf(text, '{')
	if value, ok := jsondoc.Find(text, members, rules.Turn); !ok || json.Unmarshal([]byte(value), &f) != nil {
		return fence{}
	}
	return f
}

// withFence returns the metadata with the fence.
func withFence(metadata chat.JSON, f fence) (chat.JSON, error) {
	value, err := json.Marshal(f)
	if err != nil {
		return metadata, err
	}
	text := metadata.String()
	if _, ok := jsondoc.MembersOf(text, '{'); !ok {
		text = "{}"
	}
	return chat.ParseJSON(jsondoc.Splice(text, []jsondoc.Edit{{Name: rules.Turn, Value: string(value)}}))
}

// withoutFence returns the metadata that a responder sees: an object, in one form whether there was a fence or not.
func withoutFence(metadata chat.JSON) chat.JSON {
	with, err := withFence(metadata, fence{})
	if err != nil {
		return metadata
	}
	rest, err := chat.ParseJSON(jsondoc.Without(with.String(), rules.Turn))
	if err != nil {
		return metadata
	}
	return rest
}
