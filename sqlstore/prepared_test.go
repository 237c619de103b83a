package sqlstore

import (
	"database/sql"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

func opened(t *testing.T) *Store {
	t.Helper()
	s := testenv.Value(OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "chat.db")))(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAllStatementsOfSQLiteArePrepared(t *testing.T) {
	s := opened(t)
	texts := 0
	var look func(v reflect.Value)
	look = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			texts++
			if s.forReads[v.String()] == nil || s.forWrites[v.String()] == nil {
				t.Errorf("not prepared: %s", v.String())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				look(v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				look(v.Index(i))
			}
		}
	}
	look(reflect.ValueOf(s.sql))
	if texts < 30 {
		t.Errorf("found only %d statements", texts)
	}
}

// With failing statements in place of the prepared ones, all calls must fail. So they use the prepared ones.
func TestSQLiteAsksByItsPreparedStatements(t *testing.T) {
	ctx := t.Context()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	item := testenv.Value(chat.NewItem("msg_1", at, chat.AssistantMessage{}))(t)
	another := testenv.Value(chat.NewItem("msg_2", at, chat.AssistantMessage{}))(t)
	attachment := testenv.Value(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))(t)
	reads := map[store.Op]func(s *Store) error{
		store.OpLoadThread:      func(s *Store) error { _, err := s.LoadThread(ctx, "thr_1"); return err },
		store.OpLoadThreads:     func(s *Store) error { _, err := s.LoadThreads(ctx, store.ThreadQuery{}); return err },
		store.OpLoadThreadItems: func(s *Store) error { _, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}); return err },
		store.OpLoadItem:        func(s *Store) error { _, err := s.LoadItem(ctx, "thr_1", "msg_1"); return err },
		store.OpLoadAttachment:  func(s *Store) error { _, err := s.LoadAttachment(ctx, "atc_1"); return err },
	}
	writes := map[store.Op]func(s *Store) error{
		store.OpSaveThread:       func(s *Store) error { return s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: at}) },
		store.OpDeleteThread:     func(s *Store) error { return s.DeleteThread(ctx, "thr_1") },
		store.OpAddThreadItem:    func(s *Store) error { return s.AddThreadItem(ctx, "thr_1", another) },
		store.OpSaveItem:         func(s *Store) error { return s.SaveItem(ctx, "thr_1", item) },
		store.OpDeleteThreadItem: func(s *Store) error { return s.DeleteThreadItem(ctx, "thr_1", "msg_1") },
		store.OpSaveAttachment:   func(s *Store) error { return s.SaveAttachment(ctx, attachment) },
		store.OpDeleteAttachment: func(s *Store) error { return s.DeleteAttachment(ctx, "atc_1") },
	}
	s := opened(t)
	for _, op := range []store.Op{store.OpSaveThread, store.OpSaveItem, store.OpSaveAttachment} {
		testenv.Must(t, writes[op](s))
	}
	fails := func(of prepared, db *sql.DB) {
		stmt := testenv.Value(db.PrepareContext(ctx, `SELECT json('not JSON')`))(t)
		of.close()
		for text := range of {
			of[text] = stmt
		}
	}
	fails(s.forReads, s.engine.reader())
	for op, call := range reads {
		if err := call(s); err == nil {
			t.Errorf("%v: did not use its prepared statement", op)
		}
	}
	fails(s.forWrites, s.engine.writer())
	for op, call := range writes {
		if err := call(s); err == nil {
			t.Errorf("%v: did not use its prepared statement", op)
		}
	}
}
