package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"iter"

	"github.com/chatstore/chatstore/store"
)

// Difference is a row that two stores do not have alike.
type Difference struct {
	Kind     string // store.RowThread, store.RowItem or store.RowAttachment
	ThreadID string // of an item
	ID       string
	// What says how the row differs:
	//
	//   - "missing": the target lacks it. If it is a thread, its items are not listed.
	//   - "only here": only the target has it. If it is a thread, its items are not listed.
	//   - "document", "owner" or "document and owner": that differs.
	//   - "order": the thread's items of equal times are in another order.
	//   - "changing": the source's row changed too often to be compared.
	What string
}

const (
	missing  = "missing"
	onlyHere = "only here"
	changing = "changing"
)

// Verify returns the rows that the target does not have as the source has them: threads with their owners and documents, items and
// their order, and attachments. Memory stays constant. An error ends the sequence. Grants and deleted ids are not compared.
//
// Both stores may be written to meanwhile. A difference counts only if the source has the same row before and after the target's
// is read. So a row that both have alike all the time is not listed. One that differs all the time is listed, unless it is written
// in both stores meanwhile, or its CreatedAt changes. A thread that is deleted and made again may be listed twice, as may its items.
// A difference in order counts only if a second look finds it too, and the source's thread has the same version before and after
// that. Over a source without versions, the second look decides.
//
// The options are WithoutAttachments and WithProgress. Without the former, both stores must list attachments: see [Attachments].
func Verify(ctx context.Context, to, from store.Store, opts ...Option) iter.Seq2[Difference, error] {
	c := config{attachments: true}
	for _, o := range opts {
		o(&c)
	}
	return func(yield func(Difference, error) bool) {
		v := verifier{config: c, to: to, from: from, yield: yield}
		err := v.threads(ctx)
		if err == nil && c.attachments {
			err = v.attachments(ctx)
		}
		if err != nil && err != errStopped {
			yield(Difference{}, err)
		}
	}
}

type verifier struct {
	config
	to, from store.Store
	seen     Counts
	yield    func(Difference, error) bool
}

// errStopped is the error of a consumer that wants no more.
var errStopped = errors.New("lifecycle: stopped")

func (v *verifier) threads(ctx context.Context) error {
	inOrder := func(a, b image) (int, error) { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)), nil }
	return v.merge(ctx, allThreads, inOrder, func(a, b image) error {
		what, err := v.compare(ctx, allThreads, a, b)
		if err == nil && a.id != "" && what != missing && what != onlyHere {
			err = v.items(ctx, a.id)
		}
		v.seen.Threads++
		v.tell(v.seen)
		return err
	})
}

func (v *verifier) attachments(ctx context.Context) error {
	inOrder := func(a, b image) (int, error) { return cmp.Compare(a.id, b.id), nil }
	defer func() { v.tell(v.seen) }()
	return v.merge(ctx, allAttachments, inOrder, func(a, b image) error {
		if v.seen.Attachments++; v.seen.Attachments%pageSize == 0 {
			v.tell(v.seen)
		}
		_, err := v.compare(ctx, allAttachments, a, b)
		return err
	})
}

// items reports the items of a thread that differ, and their order.
func (v *verifier) items(ctx context.Context, id string) error {
	moved, err := v.pass(ctx, id, true)
	for range triesPerThread {
		deleted := errors.Is(err, store.ErrNotFound) // during the pass
		if err != nil && !deleted || err == nil && !moved {
			return err
		}
		begin, err1 := v.version(ctx, id)
		moved, err = v.pass(ctx, id, deleted)
		end, err2 := v.version(ctx, id)
		if err := cmp.Or(err1, err2); err != nil {
			return err
		}
		if err == nil && moved && begin == end {
			return v.report(Difference{Kind: store.RowThread, ID: id, What: "order"})
		}
	}
	return v.report(Difference{Kind: store.RowThread, ID: id, What: changing})
}

// version returns the version of the source's thread, or 0 if the source has no versions.
func (v *verifier) version(ctx context.Context, id string) (uint64, error) {
	ctx, versions := reading(ctx)
	_, err := allThreads.load(ctx, v.from, id)
	n, _ := versions.Of(id)
	return n, err
}

// pass looks at all items of a thread once. It returns whether items of one time are in another order.
func (v *verifier) pass(ctx context.Context, id string, report bool) (moved bool, err error) {
	l := listing{store.RowItem, id}
	fresh, _ := reading(ctx)
	inOrder := func(a, b image) (int, error) {
		if a.id == b.id || a.at != b.at {
			return cmp.Compare(a.at, b.at), nil
		}
		// If both have both at this time, each has its first one behind the other's.
		if other, err := l.load(fresh, v.to, a.id); err != nil || other.id == "" || other.at != a.at {
			return -1, err
		}
		if other, err := l.load(fresh, v.from, b.id); err != nil || other.id == "" || other.at != b.at {
			return 1, err
		}
		moved = true
		return 0, nil
	}
	err = v.merge(ctx, l, inOrder, func(a, b image) error {
		if !report {
			return nil
		}
		v.seen.Items++
		_, err := v.compare(ctx, l, a, b)
		return err
	})
	return moved, err
}

// merge calls each for all places of the two listings. A listing without a row at the place has a zero image there.
func (v *verifier) merge(ctx context.Context, l listing, order func(a, b image) (int, error), each func(from, to image) error) error {
	for p, err := range merge(l.all(ctx, v.from, store.AnyOwner()), l.all(ctx, v.to, store.AnyOwner()), order) {
		if err == nil {
			err = each(p.from, p.to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare reports how the rows of one place differ. They may be two rows. It returns what it has confirmed of the last.
func (v *verifier) compare(ctx context.Context, l listing, a, b image) (what string, err error) {
	switch {
	case a == b:
		return "", nil
	case a.id != "" && b.id != "" && a.id != b.id:
		if what, err = v.compare(ctx, l, a, image{}); err != nil {
			return what, err
		}
		return v.compare(ctx, l, image{}, b)
	}
	id := cmp.Or(a.id, b.id)
	what, err = v.confirm(ctx, l, id)
	if err != nil || what == "" || a.id == "" && what != onlyHere && what != changing { // the source has it at another place
		return what, err
	}
	return what, v.report(Difference{l.kind, l.threadID, id, what})
}

// confirm returns how the row differs, or "".
func (v *verifier) confirm(ctx context.Context, l listing, id string) (what string, err error) {
	for range triesPerThread {
		var row [3]image
		for i, s := range [...]store.Store{v.from, v.to, v.from} {
			fresh, _ := reading(ctx)
			if row[i], err = l.load(fresh, s, id); err != nil {
				return "", err
			}
		}
		switch from, to := row[0], row[1]; {
		case from != row[2]:
			continue
		case from == to:
			return "", nil
		case to.id == "":
			return missing, nil
		case from.id == "":
			return onlyHere, nil
		case from.owner == to.owner:
			return "document", nil
		case from.doc == to.doc:
			return "owner", nil
		}
		return "document and owner", nil
	}
	return changing, nil
}

func (v *verifier) report(d Difference) error {
	if !v.yield(d, nil) {
		return errStopped
	}
	return nil
}
