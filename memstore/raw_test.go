package memstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestRawReadsReturnTheStoredText(t *testing.T) {
	ctx, versions := store.WithVersions(t.Context())
	s, at := memstore.New(), time.Now()
	th := chat.Thread{ID: "thr_1", CreatedAt: at, Owner: chat.Owner{Subject: "ada"}}
	it := testenv.OrPanic(chat.NewItem("msg_1", at, chat.EndOfTurn{}))
	a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
	a.Owner = th.Owner
	testenv.Must(t, errors.Join(s.SaveThread(t.Context(), th), s.AddThreadItem(t.Context(), "thr_1", it), s.SaveAttachment(t.Context(), a)))

	owner, doc, err := s.RawThread(ctx, "thr_1")
	if owner != th.Owner || doc != testenv.Value(s.LoadThread(ctx, "thr_1"))(t).JSON().String() || err != nil {
		t.Error("thread:", owner, doc, err)
	}
	p, err := s.RawItems(ctx, "thr_1", store.PageQuery{})
	if len(p.Data) != 1 || p.Data[0].ID != "msg_1" || p.Data[0].Document != testenv.Value(s.LoadItem(ctx, "thr_1", "msg_1"))(t).JSON().String() || err != nil {
		t.Error("items:", p, err)
	}
	owner, doc, err = s.RawAttachment(ctx, "atc_1")
	if owner != th.Owner || doc != a.JSON().String() || err != nil {
		t.Error("attachment:", owner, doc, err)
	}
	if n, _ := versions.Of("thr_1"); n != 2 {
		t.Error("version", n)
	}
	_, _, err = s.RawThread(ctx, "thr_2")
	_, _, errA := s.RawAttachment(ctx, "atc_2")
	if !errors.Is(err, store.ErrNotFound) || !errors.Is(errA, store.ErrNotFound) {
		t.Error("missing:", err, errA)
	}
}
