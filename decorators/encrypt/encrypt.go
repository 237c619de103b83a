package encrypt

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

const (
	layerName = "encrypt"
	format    = "chatstore/encrypt/1"
)

type config struct {
	plaintext  bool
	unreadable func(ctx context.Context, threadID string, err *store.Error)
	primary    string // the prefix of texts that the primary key has sealed; "" if unknown
}

// Option configures [New] and [Reencrypt].
type Option func(*config)

// WithPlaintext is for the migration of a base with plaintext. Rows that are not sealed load as they are. Every save seals.
// Without WithPlaintext, a row that is not sealed fails as CodeInternal.
func WithPlaintext() Option { return func(c *config) { c.plaintext = true } }

// WithPrimary tells [Reencrypt] the id of the keyset's primary key, so that it leaves alone what this key has sealed. Without
// it, and with a key without output prefix, Reencrypt saves every row again. New ignores it.
func WithPrimary(keyID uint32) Option {
	return func(c *config) { c.primary = string(binary.BigEndian.AppendUint32([]byte{1}, keyID)) } // Tink's output prefix
}

// WithUnreadable makes listings leave out rows that cannot be opened, and call f for each: see Unreadable in
// [layer.Transformer]. Without it, one such row fails every page that has it. It is for operators, who look for the key or call
// lifecycle.Quarantine. It costs: a cache above cannot patch its entries any more. Reencrypt ignores it.
func WithUnreadable(f func(ctx context.Context, threadID string, err *store.Error)) Option {
	return func(c *config) { c.unreadable = f }
}

// New returns the layer as a Middleware. The AEAD must be safe for concurrent use, as Tink's are. New panics if it is nil.
//
// An error of the AEAD in a save is definite ([store.ErrNotApplied]), and nothing is written. One in a load is CodeInternal,
// or CodeUnavailable, CodeCanceled or CodeTimeout if it says so. Its text is only in the cause.
func New(key tink.AEAD, opts ...Option) store.Middleware {
	s := sealerOf("New", key, opts)
	return layer.Transform(layerName, layer.Transformer{
		SaveThread:     func(_ context.Context, t chat.Thread) (chat.Thread, error) { return threads.seal(s, t) },
		LoadThread:     func(_ context.Context, t chat.Thread) (chat.Thread, error) { return threads.open(s, t) },
		SaveItem:       func(_ context.Context, it chat.Item) (chat.Item, error) { return items.seal(s, it) },
		LoadItem:       func(_ context.Context, it chat.Item) (chat.Item, error) { return items.open(s, it) },
		SaveAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return attachments.seal(s, a) },
		LoadAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return attachments.open(s, a) },
		Lossless:       true,
		Unreadable:     s.unreadable,
	})
}

type sealer struct {
	config
	key tink.AEAD
}

func sealerOf(name string, key tink.AEAD, opts []Option) *sealer {
	if key == nil {
		panic("encrypt." + name + ": the AEAD is nil: make one with aead.New of a keyset handle")
	}
	s := &sealer{key: key}
	for _, o := range opts {
		o(&s.config)
	}
	return s
}

// rows says how to seal the rows of one kind.
type rows[T any] struct {
	place func(T) place
	// before and after are the JSON around the sealed text.
	before func(place) []byte
	after  string
	holds  func(T) chat.JSON // the object that has the reserved member if the row is sealed
	json   func(T) chat.JSON
	parse  func(text string, like T) (T, error) // like has the owner, which is not part of the JSON
}

// place is what a text is bound to. It is readable in the sealed row.
type place struct {
	kind, threadID, id, typ string
	at                      time.Time
}

// data returns the additional data of the AEAD. Lengths keep two places from having the same data.
func (p place) data() []byte {
	b := make([]byte, 0, 128)
	for _, s := range [...]string{format, p.kind, p.threadID, p.id, p.typ} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	if p.kind == store.RowAttachment {
		return b // it has no time
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.at.UnixMicro()))
}

func member(b []byte, name, value string) []byte {
	b = append(append(b, name...), ':')
	return append(jsondoc.AppendQuoted(b, value), ',')
}

func createdAt(b []byte, at time.Time) []byte {
	return append(jsondoc.AppendTime(append(b, `"created_at":`...), at), ',')
}

const textMember = `"` + rules.Sealed + `":"`

var (
	threads = rows[chat.Thread]{
		place: func(t chat.Thread) place { return place{kind: store.RowThread, id: t.ID, at: t.CreatedAt} },
		before: func(p place) []byte {
			b := createdAt(member(nil, `{"id"`, p.id), p.at)
			return append(b, `"title":null,"status":{"type":"active"},"metadata":{`+textMember...)
		},
		after: `"}}`,
		holds: func(t chat.Thread) chat.JSON { return t.Metadata },
		json:  chat.Thread.JSON,
		parse: func(text string, like chat.Thread) (chat.Thread, error) {
			t, err := chat.ParseThread(text)
			t.Owner = like.Owner
			return t, err
		},
	}
	items = rows[chat.Item]{
		place: func(it chat.Item) place {
			return place{store.RowItem, it.ThreadID, it.ID, string(it.Type()), it.CreatedAt}
		},
		before: func(p place) []byte {
			b := createdAt(member(member(nil, `{"id"`, p.id), `"thread_id"`, p.threadID), p.at)
			return append(member(b, `"type"`, p.typ), textMember...)
		},
		after: `"}`,
		holds: chat.Item.JSON,
		json:  chat.Item.JSON,
		parse: func(text string, _ chat.Item) (chat.Item, error) { return chat.ParseItem(text) },
	}
	attachments = rows[chat.Attachment]{
		place: func(a chat.Attachment) place {
			return place{kind: store.RowAttachment, threadID: a.ThreadID, id: a.ID, typ: a.Type()}
		},
		before: func(p place) []byte {
			b := member(nil, `{"id"`, p.id)
			if p.threadID != "" {
				b = member(b, `"thread_id"`, p.threadID)
			}
			return append(member(b, `"type"`, p.typ), textMember...)
		},
		after: `"}`,
		holds: chat.Attachment.JSON,
		json:  chat.Attachment.JSON,
		parse: func(text string, like chat.Attachment) (chat.Attachment, error) {
			a, err := chat.ParseAttachment(text)
			a.Owner = like.Owner
			return a, err
		},
	}
)

// encoding has no padding. Strict, it has one form of each text.
var encoding = base64.RawStdEncoding.Strict()

// seal returns the row that the base stores for v.
func (r *rows[T]) seal(s *sealer, v T) (T, error) {
	p := r.place(v)
	text, err := s.key.Encrypt([]byte(r.json(v).String()), p.data())
	if err != nil {
		return v, fmt.Errorf("encrypt: the AEAD failed to seal: %w", err)
	}
	return r.parse(string(append(encoding.AppendEncode(r.before(p), text), r.after...)), v)
}

var (
	errPlaintext = errors.New("encrypt: the row is not sealed")
	errForm      = errors.New("encrypt: the sealed row was changed")
	errContent   = errors.New("encrypt: the opened text is no value")
)

// open returns the value that was saved as row.
func (r *rows[T]) open(s *sealer, row T) (T, error) {
	text, err := r.text(row)
	if err == errPlaintext && s.plaintext {
		return row, nil
	}
	if err != nil {
		return row, err
	}
	content, err := s.key.Decrypt(text, r.place(row).data())
	if err != nil {
		return row, fmt.Errorf("encrypt: the AEAD failed to open: %w", err)
	}
	v, err := r.parse(string(content), row)
	if err != nil {
		return row, errContent
	}
	return v, nil
}

// text returns the sealed text of a row. The row must be exactly as seal made it: a base keeps every byte, and what was added
// by another program would be lost.
func (r *rows[T]) text(row T) ([]byte, error) {
	text, ok := strings.CutPrefix(r.json(row).String(), string(r.before(r.place(row))))
	if ok {
		text, ok = strings.CutSuffix(text, r.after)
	}
	if ok {
		if b, err := encoding.DecodeString(text); err == nil {
			return b, nil
		}
	}
	var d jsondoc.Document
	if d.Parse(r.holds(row).String()) == "" {
		if _, sealed := d.Value(rules.Sealed); sealed {
			return nil, errForm
		}
	}
	return nil, errPlaintext
}
