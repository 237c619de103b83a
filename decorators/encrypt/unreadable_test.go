package encrypt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// dump returns all rows of s, as text.
func dump(t *testing.T, s store.Store) (text string) {
	t.Helper()
	for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
		must(t, err)
		text += fmt.Sprintln(th.Owner, th.JSON())
		for it, err := range lifecycle.Items(t.Context(), s, th.ID) {
			must(t, err)
			text += fmt.Sprintln(it.JSON())
		}
	}
	for a, err := range lifecycle.Attachments(t.Context(), s, store.AnyOwner()) {
		must(t, err)
		text += fmt.Sprintln(a.Owner, a.JSON())
	}
	return text
}

// A key is lost, its rows are set aside, and the owner's lists work again. The key comes back, and so do the rows.
func TestRowsOfALostKeyAreSetAsideAndComeBack(t *testing.T) {
	base := memstore.New()
	k, old := newKeys(t)
	first := store.Wrap(base, encrypt.New(k.aead(t)))
	fill(t, first)
	must(t, errors.Join(first.AddThreadItem(t.Context(), "thr_1", message("msg_2", canary)),
		first.SaveThread(t.Context(), thread("thr_half")), first.AddThreadItem(t.Context(), "thr_half", message("msg_1", canary))))
	must(t, k.SetPrimary(k.add(t)))
	both := store.Wrap(base, encrypt.New(k.aead(t)))
	must(t, errors.Join(both.SaveThread(t.Context(), thread("thr_half")), // its item stays under the old key
		both.SaveThread(t.Context(), thread("thr_new")), both.AddThreadItem(t.Context(), "thr_new", message("msg_1", canary))))
	before := dump(t, both)

	must(t, k.Disable(old))
	inside := store.Wrap(base, cache.New(), encrypt.New(k.aead(t)))
	s := store.Wrap(inside, authz.New(authz.OwnerOnly(), authz.ShareBelow()))
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: ada})
	list := func() (ids []string, err error) {
		p, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada), PageQuery: store.PageQuery{Order: store.OldestFirst}})
		for _, th := range p.Data {
			ids = append(ids, th.ID)
		}
		_, itemsErr := s.LoadThreadItems(ctx, "thr_half", store.PageQuery{})
		return ids, errors.Join(err, itemsErr)
	}
	_, err := list()
	internal(t, "the list", err)
	var found []string
	for u, err := range lifecycle.Scan(t.Context(), inside, store.AnyOwner()) {
		must(t, err)
		found = append(found, u.ThreadID+"/"+u.ID)
	}
	if fmt.Sprint(found) != "[/thr_1 thr_1/msg_1 thr_1/msg_2 thr_half/msg_1 /atc_1]" {
		t.Errorf("found %v", found)
	}
	var files []*bytes.Reader
	for u, err := range lifecycle.Scan(t.Context(), inside, store.AnyOwner()) {
		must(t, err)
		var file bytes.Buffer
		must(t, lifecycle.Quarantine(t.Context(), &file, inside, u))
		files = append(files, bytes.NewReader(file.Bytes()))
	}
	if ids, err := list(); err != nil || fmt.Sprint(ids) != "[thr_half thr_new]" {
		t.Errorf("after the quarantine: %v, %v", ids, err)
	}

	must(t, k.Enable(old))
	for _, file := range files {
		testenv.Value(lifecycle.Import(t.Context(), base, file))(t)
	}
	if got := dump(t, both); got != before || len(files) != 3 {
		t.Errorf("from %d files came\n%s\nwant\n%s", len(files), got, before)
	}
}

func TestWithUnreadableLeavesRowsOutOfLists(t *testing.T) {
	base := memstore.New()
	fill(t, store.Wrap(base, encrypt.New(newKey(t))))
	var lost []string
	s := store.Wrap(base, encrypt.New(newKey(t), encrypt.WithUnreadable(func(_ context.Context, threadID string, err *store.Error) {
		lost = append(lost, threadID+"/"+err.ID)
	})))
	for what, err := range loads(t.Context(), s) {
		if what == "LoadThreads" || what == "LoadThreadItems" {
			must(t, err)
		} else {
			internal(t, what, err)
		}
	}
	if fmt.Sprint(lost) != "[/thr_1 thr_1/msg_1]" {
		t.Errorf("left out %v", lost)
	}
	for u, err := range lifecycle.Scan(t.Context(), s, store.AnyOwner()) { // which must find them all the same
		must(t, err)
		lost = append(lost, u.ID)
	}
	if fmt.Sprint(lost) != "[/thr_1 thr_1/msg_1 thr_1 msg_1 atc_1]" {
		t.Errorf("Scan found %v", lost[2:])
	}
}
