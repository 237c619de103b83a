package pubsub

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
)

// errUndecodable is the error of decode for an invalid payload. The receiver of such a payload may have missed changes.
var errUndecodable = errors.New("pubsub: undecodable payload")

// maxNameBytes is the maximum length of an origin, a publisher and a connection's name, in bytes.
const maxNameBytes = 256

// message is one message on a [Transport]: changes, a heartbeat, or a goodbye. Its wire form is a JSON object that a
// database trigger can build:
//
//	{"t":["thr_1","thr_2"],"a":["atc_1"],"o":"origin","w":7}    the threads and attachments that a write changed
//	{"all":true}                                                drop everything
//	{"t":["thr_1"],"more":[{"t":["thr_2"]}]}                    several writes
//	{"t":["thr_1"],"p":"publisher","n":12}                      numbered: the publisher's twelfth
//	{"p":"publisher","n":12,"h":3,"k":"connection"}             a heartbeat, the third on its connection
//	{"p":"publisher","n":12,"bye":true}                         a goodbye
//
// "o" and "w" are the write's [bus.Stamp]. Members with other names are ignored.
type message struct {
	Changes []bus.Change
	// Publisher names the sender, which numbers its change messages from 1. Number is the number of this message; it is 0 if
	// there is no Publisher. In heartbeats and goodbyes, Number is the last one whose message was sent or lost.
	Publisher string
	Number    uint64
	// Beat is the heartbeat's number on its connection, which Conn names.
	Beat    uint64
	Conn    string
	Goodbye bool
}

type wireMessage struct {
	wireChange
	More      []wireChange `json:"more,omitempty"`
	Publisher string       `json:"p,omitempty"`
	Number    uint64       `json:"n,omitempty"`
	Beat      uint64       `json:"h,omitempty"`
	Conn      string       `json:"k,omitempty"`
	Goodbye   bool         `json:"bye,omitempty"`
}

type wireChange struct {
	Threads     []string `json:"t,omitempty"`
	Attachments []string `json:"a,omitempty"`
	All         bool     `json:"all,omitempty"`
	Origin      string   `json:"o,omitempty"`
	Write       uint64   `json:"w,omitempty"`
}

func wireOf(c bus.Change) wireChange {
	w := wireChange{All: c.All, Origin: c.Origin, Write: c.Write}
	if c.ThreadID != "" {
		w.Threads = []string{c.ThreadID}
	}
	if c.AttachmentID != "" {
		w.Attachments = []string{c.AttachmentID}
	}
	return w
}

// changes returns one change for each id. The thread and the attachment at one index share a change, as they may have come
// from one.
func (w wireChange) changes() ([]bus.Change, error) {
	c := bus.Change{All: w.All, Origin: w.Origin, Write: w.Write}
	all := make([]bus.Change, max(len(w.Threads), len(w.Attachments), 1))
	for i := range all {
		all[i] = c
	}
	for i, id := range w.Threads {
		if id == "" {
			return nil, invalid("thread id: empty")
		}
		all[i].ThreadID = id
	}
	for i, id := range w.Attachments {
		if id == "" {
			return nil, invalid("attachment id: empty")
		}
		all[i].AttachmentID = id
	}
	return all, nil
}

// encode returns the wire form of m. The error is store.ErrInvalid if decode would refuse it.
func encode(m message) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	w := wireMessage{Publisher: m.Publisher, Number: m.Number, Beat: m.Beat, Conn: m.Conn, Goodbye: m.Goodbye}
	for i, c := range m.Changes {
		if i == 0 {
			w.wireChange = wireOf(c)
		} else {
			w.More = append(w.More, wireOf(c))
		}
	}
	b, err := json.Marshal(w)
	return string(b), err
}

// decode returns the message of a payload, with a [bus.Change] for each id. An invalid payload is errUndecodable.
func decode(payload string) (message, error) {
	m, err := parse(payload)
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", errUndecodable, err)
	}
	return m, nil
}

func parse(payload string) (message, error) {
	// encoding/json would replace invalid UTF-8, which could turn one id into another.
	if !utf8.ValidString(payload) {
		return message{}, invalid("not valid UTF-8")
	}
	var w wireMessage
	if err := json.Unmarshal([]byte(payload), &w); err != nil {
		return message{}, err
	}
	m := message{Publisher: w.Publisher, Number: w.Number, Beat: w.Beat, Conn: w.Conn, Goodbye: w.Goodbye}
	writes := w.More
	first := w.wireChange
	if len(first.Threads) > 0 || len(first.Attachments) > 0 || first.All || first.Origin != "" || first.Write != 0 {
		writes = append([]wireChange{first}, writes...)
	}
	for _, one := range writes {
		changes, err := one.changes()
		if err != nil {
			return message{}, err
		}
		m.Changes = append(m.Changes, changes...)
	}
	if err := m.check(); err != nil {
		return message{}, err
	}
	// encoding/json also replaces an escaped half of a surrogate pair.
	if !strings.ContainsRune(payload, utf8.RuneError) {
		for _, c := range m.Changes {
			if strings.ContainsRune(c.ThreadID+c.AttachmentID+c.Origin, utf8.RuneError) {
				return message{}, invalid("half of a surrogate pair")
			}
		}
	}
	return m, nil
}

func invalid(what string) error { return fmt.Errorf("pubsub: %w: %s", store.ErrInvalid, what) }

func (m message) check() error {
	kinds := 0
	for _, is := range [...]bool{len(m.Changes) > 0, m.Beat != 0, m.Goodbye} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return invalid("a message must be changes, a heartbeat or a goodbye, and only one of them")
	case len(m.Publisher) > maxNameBytes || len(m.Conn) > maxNameBytes:
		return invalid("publisher or connection: longer than 256 bytes")
	case !utf8.ValidString(m.Publisher) || !utf8.ValidString(m.Conn):
		return invalid("publisher or connection: not valid UTF-8")
	case len(m.Changes) > 0 && (m.Publisher == "") != (m.Number == 0):
		return invalid("publisher and number: one without the other")
	case len(m.Changes) == 0 && m.Publisher == "":
		return invalid("publisher: missing")
	}
	for _, c := range m.Changes {
		if err := checkChange(c); err != nil {
			return err
		}
	}
	return nil
}

// checkChange refuses an empty change, and a change that no receiver could decode.
func checkChange(c bus.Change) error {
	if c.ThreadID != "" {
		if fault := rules.IDFault(c.ThreadID); fault != "" {
			return invalid("thread id: " + fault)
		}
	}
	if c.AttachmentID != "" {
		if fault := rules.IDFault(c.AttachmentID); fault != "" {
			return invalid("attachment id: " + fault)
		}
	}
	if c.ThreadID == "" && c.AttachmentID == "" && !c.All {
		return invalid("empty change")
	}
	if len(c.Origin) > maxNameBytes || !utf8.ValidString(c.Origin) {
		return invalid("origin: longer than 256 bytes, or not valid UTF-8")
	}
	return nil
}
