package encrypt

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// ErrAttachments is in the error of [Reencrypt] if the base cannot swap attachments ([driver.AttachmentSwapper]).
var ErrAttachments = errors.New("encrypt: the base has no driver.AttachmentSwapper: attachments are not sealed again")

// Result counts the rows of a [Reencrypt].
type Result struct {
	Opened     int // rows that opened, or were plaintext under WithPlaintext
	Saved      int // of these, rows that were saved, sealed with the primary key
	Left       int // of these, attachments that the base cannot swap
	Unreadable int // rows that did not open
}

// Reencrypt walks all threads, items and attachments of the base, and saves those that the primary key has not sealed (see
// [WithPrimary]). The base is the Store beneath the layer of New. The service may run meanwhile: each row is saved under
// [store.UpdateOnly] and [store.IfVersion], and an attachment is swapped. If another write came first, the row is read again.
//
// A row that does not open stays. The walk goes on, and its first such error is in the error at the end. Any other error ends
// the walk; it may be repeated. A base without thread versions is an error. So is one that cannot list or swap attachments
// ([ErrAttachments]), after the walk of threads and items. The Result counts what was done until the error.
//
// The walk may miss the items of a thread that is saved with another CreatedAt meanwhile. So repeat it with [WithPrimary] until it
// saves nothing and returns no error.
//
// Reencrypt panics if the base is nil or has a guard or this layer in it, or if the AEAD is nil.
func Reencrypt(ctx context.Context, base store.Store, key tink.AEAD, opts ...Option) (Result, error) {
	w := walk{base: base, s: sealerOf("Reencrypt", key, opts)}
	if base == nil || layer.Guarded(base) || slices.Contains(store.Layers(base), layerName) {
		panic("encrypt.Reencrypt: pass the base: the Store that encrypt.New is around, without authz")
	}
	ctx = store.WithSaveMode(store.WithFresh(layer.Own(ctx)), store.UpdateOnly)
	err := w.threads(ctx)
	if err == nil {
		err = w.attachments(ctx)
	}
	return w.Result, errors.Join(err, w.unreadable)
}

type walk struct {
	Result
	base       store.Store
	s          *sealer
	unreadable error // the first
}

func (w *walk) threads(ctx context.Context) error {
	for t, err := range lifecycle.Threads(ctx, w.base, store.AnyOwner()) {
		if err == nil {
			err = again(ctx, w, &threads, t, t.ID,
				func(ctx context.Context) (chat.Thread, error) { return w.base.LoadThread(ctx, t.ID) },
				func(ctx context.Context, _, sealed chat.Thread) error { return w.base.SaveThread(ctx, sealed) })
		}
		if err != nil {
			return err
		}
		// ErrNotFound: the thread of an item's cursor was deleted; newer items have the primary key.
		if err := w.items(ctx, t.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (w *walk) items(ctx context.Context, threadID string) error {
	for it, err := range lifecycle.Items(ctx, w.base, threadID) {
		if err == nil {
			err = again(ctx, w, &items, it, threadID,
				func(ctx context.Context) (chat.Item, error) { return w.base.LoadItem(ctx, threadID, it.ID) },
				func(ctx context.Context, _, sealed chat.Item) error { return w.base.SaveItem(ctx, threadID, sealed) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) attachments(ctx context.Context) error {
	if _, ok := store.As[driver.AttachmentLister](w.base); !ok {
		return ErrAttachments
	}
	swapper, swaps := store.As[driver.AttachmentSwapper](w.base)
	for a, err := range lifecycle.Attachments(ctx, w.base, store.AnyOwner()) {
		if err == nil {
			err = again(ctx, w, &attachments, a, "",
				func(ctx context.Context) (chat.Attachment, error) { return w.base.LoadAttachment(ctx, a.ID) },
				func(ctx context.Context, row, sealed chat.Attachment) error {
					if !swaps {
						return ErrAttachments
					}
					return swapper.SwapAttachment(ctx, row.JSON(), sealed)
				})
		}
		if err != nil {
			return err
		}
	}
	if w.Left > 0 {
		return ErrAttachments
	}
	return nil
}

// again opens a row, and seals it again if that is due. threadID is "" for an attachment, which has no version.
func again[T any](ctx context.Context, w *walk, r *rows[T], row T, threadID string,
	load func(context.Context) (T, error), save func(ctx context.Context, row, sealed T) error) error {
	if _, err := r.open(w.s, row); err != nil {
		e := r.failure(row, err)
		if e.Code != store.CodeInternal {
			return e // the AEAD is away, or the context has ended: no row would open
		}
		if w.Unreadable++; w.unreadable == nil {
			w.unreadable = e
		}
		return nil
	}
	w.Opened++
	text, err := r.text(row)
	if err == nil && w.s.primary != "" && strings.HasPrefix(string(text), w.s.primary) {
		return nil
	}
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		switch err := reseal(ctx, w.s, r, threadID, load, save); {
		case err == nil:
			w.Saved++
			return nil
		case err == ErrAttachments:
			w.Left++
			return nil
		case errors.Is(err, store.ErrNotFound): // deleted since
			return nil
		case !errors.Is(err, store.ErrConflict):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// failure returns the error of a row that the AEAD did not open or seal. It hides err from errors.Is: a sentinel in it is none of
// the base's.
func (r *rows[T]) failure(row T, err error) *store.Error {
	p := r.place(row)
	e := &store.Error{Kind: p.kind, ID: p.id, Code: store.CodeOf(err), Cause: hidden{err}}
	switch e.Code {
	case store.CodeUnavailable, store.CodeCanceled, store.CodeTimeout:
	default:
		e.Code = store.CodeInternal
	}
	return e
}

type hidden struct{ err error }

func (h hidden) Error() string { return h.err.Error() }

// reseal reads a row again and saves it. The error is ErrConflict if another write came between.
func reseal[T any](ctx context.Context, s *sealer, r *rows[T], threadID string,
	load func(context.Context) (T, error), save func(ctx context.Context, row, sealed T) error) error {
	ctx, read := store.WithVersions(ctx)
	row, err := load(ctx)
	if err != nil {
		return err
	}
	if threadID != "" {
		version, ok := read.Of(threadID)
		if !ok {
			return errors.New("encrypt: the base reports no thread versions, which Reencrypt needs")
		}
		ctx = store.IfVersion(ctx, threadID, version)
	}
	v, err := r.open(s, row)
	if err != nil {
		return r.failure(row, err)
	}
	sealed, err := r.seal(s, v)
	if err != nil {
		return r.failure(row, err)
	}
	return save(ctx, row, sealed)
}
