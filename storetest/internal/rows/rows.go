// Package rows makes the ids, times and rows of the checks.
package rows

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
)

// Mint makes unique ids, across checks and runs. Their sort order differs from the order in which they are made, so that a
// Store cannot take one for the other.
type Mint struct {
	run string
	n   atomic.Uint32
}

// NewMint returns a Mint whose ids are unique to this run.
func NewMint() *Mint {
	var b [6]byte
	_, _ = rand.Read(b[:])
	return &Mint{run: hex.EncodeToString(b[:])}
}

// ID returns a new id.
func (m *Mint) ID(prefix string) string {
	return fmt.Sprintf("%s_%08x_%s", prefix, bits.Reverse32(m.n.Add(1)), m.run)
}

// At returns the time n seconds after a fixed one.
func At(n int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// Item returns an item. The id need not be valid. It panics if the time or the body is invalid.
func Item(id string, created time.Time, body chat.Body) chat.Item {
	it, err := chat.NewItem(id, created, body)
	if err != nil {
		it, err = chat.NewItem("msg", created, body)
		it.ID = id
	}
	if err != nil {
		panic(err)
	}
	return it
}

// Message returns an item with a text. It has no ThreadID yet.
func Message(id string, created time.Time, text string) chat.Item {
	return Item(id, created, chat.AssistantMessage{Content: []chat.AssistantContent{{Text: text}}})
}

// Text returns the text of a message. For another item it returns "".
func Text(it chat.Item) string {
	var doc struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if err := it.JSON().Decode(&doc); err != nil || len(doc.Content) != 1 {
		return ""
	}
	return doc.Content[0].Text
}

// Attachment returns a file. Its id need not be valid.
func Attachment(id, name string) chat.Attachment {
	a, err := chat.NewAttachment("atc", chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"})
	if err != nil {
		panic(err)
	}
	a.ID = id
	return a
}
