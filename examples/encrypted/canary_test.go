// Package encrypted_test looks for content in the files of databases beneath decorators/encrypt. It is not in the module of that
// package, which would then require the database drivers.
package encrypted_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

const canary = "c4n4ry-in-the-c0al-m1ne"

// traces are the forms in which the canary may show: plain, and in base64 at each of the three offsets.
func traces() [][]byte {
	all := [][]byte{[]byte(canary)}
	for offset := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + canary))
		all = append(all, []byte(text[4:len(text)-4]))
	}
	return all
}

// found returns the files below a folder that have a trace of the canary, and the number of bytes that it read.
func found(t *testing.T, folder string) (files []string, size int) {
	t.Helper()
	testenv.Must(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // PostgreSQL deletes files meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		size += len(b)
		if slices.ContainsFunc(traces(), func(trace []byte) bool { return bytes.Contains(b, trace) }) {
			files = append(files, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	}))
	return files, size
}

// converse saves, replaces, reads and deletes rows whose content is the canary, through the recommended stack.
func converse(t *testing.T, base store.Store, seal ...store.Middleware) {
	t.Helper()
	s := store.Wrap(base, append([]store.Middleware{authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New()}, seal...)...)
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: ada})
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	object := testenv.OrPanic(chat.ParseJSON(`{"` + canary + `":"` + canary + `"}`))
	file := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{
		Type: "image", Name: canary, MIMEType: "image/" + canary, PreviewURL: "https://x.test/" + canary, Metadata: object,
		Upload: &chat.UploadDescriptor{URL: "https://x.test/" + canary, Method: "PUT", Headers: map[string]string{canary: canary}},
	}))
	file.Owner = ada
	for _, id := range []string{"thr_1", "thr_2"} {
		thread := chat.Thread{
			ID: id, Title: canary, CreatedAt: noon, Owner: ada, Status: chat.Status{Type: "closed", Reason: canary}, Metadata: object,
			AllowedImageDomains: testenv.OrPanic(chat.ParseJSON(`["` + canary + `.test"]`)),
		}
		text := chat.UserMessage{Content: []chat.UserContent{{Type: "input_text", Text: canary}}, Attachments: []chat.Attachment{file}}
		item := testenv.OrPanic(chat.NewItem("msg_1", noon, text))
		for range 2 { // inserts, then replaces
			testenv.Must(t, errors.Join(s.SaveThread(ctx, thread), s.SaveAttachment(ctx, file), s.SaveItem(ctx, id, item)))
		}
		if err := s.AddThreadItem(ctx, id, item); !errors.Is(err, store.ErrConflict) {
			t.Error(err)
		}
		if got := testenv.Value(s.LoadItem(store.WithFresh(ctx), id, "msg_1"))(t); !strings.Contains(got.JSON().String(), canary) {
			t.Error("got", got.JSON())
		}
	}
	testenv.Must(t, errors.Join(s.DeleteThreadItem(ctx, "thr_1", "msg_1"), s.DeleteThread(ctx, "thr_1")))
}

// plain is an AEAD that does not encrypt.
type plain struct{}

func (plain) Encrypt(text, _ []byte) ([]byte, error) { return text, nil }
func (plain) Decrypt(text, _ []byte) ([]byte, error) { return text, nil }

// layers are what is tried: the last is the one that counts, and the others prove that the search finds something.
func layers(t *testing.T) map[string][]store.Middleware {
	handle := testenv.Value(keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate()))(t)
	return map[string][]store.Middleware{
		"nothing": nil, "plain": {encrypt.New(plain{})}, "encrypt": {encrypt.New(testenv.Value(aead.New(handle))(t))},
	}
}

// judge looks for the canary in the files of a database.
func judge(t *testing.T, name, folder, when string, want ...string) {
	t.Helper()
	files, size := found(t, folder)
	t.Logf("%s, %s: %d bytes, found in %q", name, when, size, files)
	if name == "encrypt" && len(files) > 0 {
		t.Errorf("%s: the content is in %q", when, files)
	}
	if name == "encrypt" {
		return
	}
	for _, part := range want {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, part) }) {
			t.Errorf("%s, control: the content is not in %s: the search is blind", when, part)
		}
	}
}

func TestNoContentIsInTheFilesOfSQLite(t *testing.T) {
	for name, seal := range layers(t) {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			s := testenv.Value(sqlstore.OpenSQLite(t.Context(), filepath.Join(folder, "chat.db")))(t)
			converse(t, s, seal...)
			judge(t, name, folder, "open", "chat.db-wal")
			testenv.Must(t, s.Close())
			judge(t, name, folder, "closed", "chat.db")
		})
	}
}

func TestNoContentIsInTheFilesOfPostgreSQL(t *testing.T) {
	for name, seal := range layers(t) {
		t.Run(name, func(t *testing.T) {
			server := pgtest.Start(t, "-c", "log_statement=all", "-c", "log_parameter_max_length=-1", "-c", "fsync=off")
			dsn := server.DSN(t)
			s := testenv.Value(sqlstore.OpenPostgres(context.Background(), dsn))(t)
			converse(t, s, seal...)
			testenv.Must(t, s.Close())
			server.Exec(t, dsn, "CHECKPOINT")
			judge(t, name, server.Dir(), "closed", "log", "data/base/", "data/pg_wal/")
		})
	}
}
