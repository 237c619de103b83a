package lifecycle

import (
	"context"
	"errors"
	"io"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Conflict says what Import does with a row that the store has with another content or owner.
type Conflict uint8

// The choices. Of a thread that is skipped, the items are skipped too.
const (
	Fail    Conflict = iota // ends with store.ErrConflict
	Skip                    // keeps the store's row
	Replace                 // saves the file's row; rows that only the store has stay
)

// WithConflicts says what Import does with a row that the store has with another content or owner. The default is Fail.
func WithConflicts(c Conflict) Option { return func(cfg *config) { cfg.conflicts = c } }

// WithOwners makes Import give each thread and attachment the owner that f returns for its owner in the file. The zero Owner is
// nobody, in both places. Without it, owners stay.
func WithOwners(f func(chat.Owner) chat.Owner) Option { return func(cfg *config) { cfg.owners = f } }

// Imported says what Import has done with the rows of a file.
type Imported struct {
	Added    Counts
	Same     Counts // the store had them already
	Skipped  Counts
	Replaced Counts
}

// Import saves the rows of a file that [Export] has written. A first pass checks the whole file. A file that is cut off, edited
// or of a newer format is [store.ErrInvalid] with the number of a line, and nothing is saved.
//
// A file may have a row twice, if it was exported while users wrote. Import takes the second like a row that the store has. So a
// thread that moved and changed is a conflict, also in an empty store.
//
// Import may be repeated: rows that the store has already stay as they are. So an import that ended with an error, or was
// killed, is resumed by another call. With Skip, that holds only if nobody has written to the imported threads meanwhile: a thread that
// differs is skipped, and its missing items too. The options are WithConflicts, WithOwners and WithProgress.
//
// An id of an erased owner, or of another owner's row, live or deleted, is a conflict that Replace does not overcome. But nobody's row
// under the id of a deleted row comes back as a row of that owner.
func Import(ctx context.Context, s store.Store, file io.ReadSeeker, opts ...Option) (Imported, error) {
	c := config{owners: func(o chat.Owner) chat.Owner { return o }}
	for _, o := range opts {
		o(&c)
	}
	start, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return Imported{}, err
	}
	check := func(row) error { return ctx.Err() }
	if err := readFile(file, check); err != nil {
		return Imported{}, err
	}
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return Imported{}, err
	}
	im := importer{s: s, config: c}
	var looked Counts
	err = readFile(file, func(r row) error {
		switch {
		case r.item != nil:
			looked.Items++
		case r.thread != nil:
			c.tell(looked) // the thread before is complete
			looked.Threads++
		default:
			if looked.Attachments++; looked.Attachments%pageSize == 0 {
				c.tell(looked)
			}
		}
		return im.put(ctx, r)
	})
	if err == nil {
		c.tell(looked)
	}
	return im.done, err
}

type importer struct {
	config
	s       store.Store
	done    Imported
	skipped bool // the last thread was skipped
}

func (im *importer) put(ctx context.Context, r row) error {
	insert := store.WithSaveMode(ctx, store.InsertOnly)
	fresh := store.WithFresh(store.WithNoStore(ctx))
	switch {
	case r.thread != nil:
		t := *r.thread
		t.Owner = im.owners(t.Owner)
		c, err := im.save(im.s.SaveThread(insert, t),
			func() (same, mine bool, err error) {
				old, err := im.s.LoadThread(fresh, t.ID)
				return old.JSON() == t.JSON(), old.Owner == t.Owner, err
			},
			func() error { return im.s.SaveThread(ctx, t) })
		if err != nil {
			return err
		}
		im.skipped = c == &im.done.Skipped
		c.Threads++
	case r.item != nil:
		it := *r.item
		if im.skipped {
			im.done.Skipped.Items++
			return nil
		}
		c, err := im.save(im.s.AddThreadItem(ctx, it.ThreadID, it),
			func() (same, mine bool, err error) {
				old, err := im.s.LoadItem(fresh, it.ThreadID, it.ID)
				return old.JSON() == it.JSON(), true, err
			},
			func() error { return im.s.SaveItem(ctx, it.ThreadID, it) })
		if err != nil {
			return err
		}
		c.Items++
	default:
		a := *r.attachment
		a.Owner = im.owners(a.Owner)
		c, err := im.save(im.s.SaveAttachment(insert, a),
			func() (same, mine bool, err error) {
				old, err := im.s.LoadAttachment(fresh, a.ID)
				return old.JSON() == a.JSON(), old.Owner == a.Owner, err
			},
			func() error { return im.s.SaveAttachment(ctx, a) })
		if err != nil {
			return err
		}
		c.Attachments++
	}
	return nil
}

// save returns the counter for a row whose insertion ended with err. If the row exists, compare says whether it has the same
// content and owner, and replace saves it.
func (im *importer) save(err error, compare func() (same, mine bool, err error), replace func() error) (*Counts, error) {
	if err == nil {
		return &im.done.Added, nil
	}
	if !errors.Is(err, store.ErrConflict) {
		return nil, err
	}
	same, mine, loadErr := compare()
	deleted := errors.Is(loadErr, store.ErrNotFound)
	switch {
	case loadErr != nil && !deleted:
		return nil, loadErr
	case same && mine && !deleted:
		return &im.done.Same, nil
	case im.conflicts == Skip:
		return &im.done.Skipped, nil
	case im.conflicts == Replace && (mine || deleted): // the store itself would keep the owner for a row of nobody
		return &im.done.Replaced, replace()
	}
	return nil, err
}
