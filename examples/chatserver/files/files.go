// Package files stores the content of attachments in a folder. The store has the attachments and their owners; this package
// has only bytes by id.
package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

var _ chatkit.Files = (*Folder)(nil)

// Folder stores the content of attachments. It is safe for concurrent use.
type Folder struct {
	root     *os.Root
	store    store.Store
	url      string
	limits   Limits
	creating *lru.Cache[chat.Owner, *rate.Limiter]
	placing  sync.Mutex // of two concurrent uploads of an attachment, the first complete one wins

	mu      sync.Mutex
	running map[chat.Owner]int // uploads
}

// A user may announce burst attachments at once, and then one in each period.
const (
	burst = 30
	every = 10 * time.Second
)

// maxRunning limits the uploads of a user at the same time, because the parts of running uploads do not count for the quota.
// The page uploads all files of a message at once, of which it can have ten.
const maxRunning = 10

// Limits are the most bytes of a file, and of all files of a user.
type Limits struct{ File, User int64 }

// Open opens the folder at path, and creates it if it is missing. The links to files begin with url, which has no trailing
// slash; "" makes relative links. Several servers may use one folder: the limits are of all of them together.
func Open(path string, s store.Store, url string, limits Limits) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	creating, err := lru.New[chat.Owner, *rate.Limiter](10_000)
	if err == nil {
		err = sweep(root)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Folder{root: root, store: s, url: url, limits: limits, creating: creating, running: map[chat.Owner]int{}}, nil
}

// abandonedAfter is the age at which a partial upload is removed. No upload takes that long, so its server was killed. An
// attachment that was announced so long ago, and has no content, no longer counts for its user.
const abandonedAfter = time.Hour

// sweep removes the partial uploads of killed servers.
func sweep(root *os.Root) error {
	all, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range all {
		info, err := f.Info()
		if err != nil || !strings.Contains(f.Name(), ".part-") || time.Since(info.ModTime()) < abandonedAfter {
			continue // another server may have removed it
		}
		if err := root.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Create tells the client where to upload. It refuses a file that is too large or does not fit into what the user may store,
// and too many announcements by one user. The body's metadata gets the announced size: clients do not see it.
func (f *Folder) Create(ctx context.Context, id string, size int64, body chat.AttachmentBody) (_ chat.AttachmentBody, err error) {
	if size > f.limits.File {
		return body, tooLarge(f.limits.File)
	}
	p, _ := store.PrincipalFrom(ctx)
	limit := rate.NewLimiter(rate.Every(every), burst)
	if known, ok, _ := f.creating.PeekOrAdd(p.Owner, limit); ok {
		limit = known
	}
	if !limit.Allow() {
		return body, &store.Error{Code: store.CodeLimited, Field: "attachments: too many in a short time", RetryAfter: every}
	}
	if body.Metadata, err = announce(size); err != nil {
		return body, err
	}
	if err := f.reserve(ctx, p.Owner, id, size); err != nil {
		return body, err
	}
	url := f.url + "/files/" + id
	body.Upload = &chat.UploadDescriptor{URL: url, Method: http.MethodPut, Headers: map[string]string{}}
	if _, ok := chatkit.InlineImage(body.MIMEType); ok && body.Type == "image" {
		body.PreviewURL = url
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return chatkit.StatusError{
		Status: http.StatusRequestEntityTooLarge, Code: store.CodeInvalid.String(),
		Message: fmt.Sprintf("size: more than %d bytes", limit),
	}
}

// Delete removes the content if there is any. It no longer counts for the caller.
func (f *Folder) Delete(ctx context.Context, id string) error {
	err := f.root.Remove(name(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	p, _ := store.PrincipalFrom(ctx)
	return errors.Join(err, f.release(p.Owner, id))
}

// name returns the name of an attachment's file, because an id may not be a valid file name.
func name(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// Put serves PUT /files/{id}: it stores the content of an announced attachment.
func (f *Folder) Put(w http.ResponseWriter, r *http.Request) {
	if err := f.put(w, r); err != nil {
		chatkit.WriteError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *Folder) put(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	a, b, err := f.waiting(ctx, id)
	if err != nil {
		return err // before reading the body
	}
	if err := f.begin(a.Owner); err != nil {
		return err
	}
	defer f.end(a.Owner)
	size := min(announced(b), f.limits.File)
	if err := f.reserve(ctx, a.Owner, id, size); err != nil {
		return err
	}
	part, err := f.write(name(id), http.MaxBytesReader(w, r.Body, size))
	if err == nil {
		err = f.place(ctx, id, part, size)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = tooLarge(size)
	}
	return err
}

// begin counts a running upload of a user, until end.
func (f *Folder) begin(user chat.Owner) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[user] >= maxRunning {
		return &store.Error{Code: store.CodeLimited, Field: "attachments: too many uploads at once", RetryAfter: time.Second}
	}
	f.running[user]++
	return nil
}

func (f *Folder) end(user chat.Owner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[user]--; f.running[user] == 0 {
		delete(f.running, user)
	}
}

// waiting loads an attachment whose content is not there yet.
func (f *Folder) waiting(ctx context.Context, id string) (a chat.Attachment, b chat.AttachmentBody, err error) {
	if a, err = f.store.LoadAttachment(ctx, id); err != nil {
		return a, b, err
	}
	if b, err = a.Decode(); err == nil && b.Upload == nil {
		err = &store.Error{Op: store.OpSaveAttachment, Kind: store.RowAttachment, ID: id, Code: store.CodeConflict}
	}
	return a, b, err
}

// write writes content to a temporary file. If it fails, no file is left.
func (f *Folder) write(name string, content io.Reader) (part string, err error) {
	part = name + ".part-" + rand.Text()
	file, err := f.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, f.root.Remove(part))
	}
	return part, nil
}

// place makes a written file the content of an attachment. It reloads the attachment, which may have been sent or deleted.
func (f *Folder) place(ctx context.Context, id, part string, size int64) error {
	f.placing.Lock()
	defer f.placing.Unlock()
	a, b, err := f.waiting(ctx, id)
	if err == nil {
		b.Upload = nil // uploaded
		a, err = a.WithBody(b)
	}
	if err == nil {
		_, err = f.mark(a.Owner, id, size) // another server may have taken the upload for abandoned
	}
	if err == nil {
		err = f.root.Rename(part, name(id))
	}
	if err != nil {
		return errors.Join(err, f.root.Remove(part))
	}
	err = f.store.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), a)
	if store.CodeOf(err) == store.CodeNotFound {
		return errors.Join(err, f.Delete(ctx, id)) // it was deleted in between
	}
	return err
}

// Get serves GET /files/{id}.
func (f *Folder) Get(w http.ResponseWriter, r *http.Request) {
	if err := f.get(w, r); err != nil {
		chatkit.WriteError(w, err)
	}
}

func (f *Folder) get(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	a, err := f.store.LoadAttachment(r.Context(), id)
	if err != nil {
		return err
	}
	body, err := a.Decode()
	if err != nil {
		return err
	}
	file, err := f.root.Open(name(id))
	if errors.Is(err, fs.ErrNotExist) {
		return &store.Error{Op: store.OpLoadAttachment, Kind: store.RowAttachment, ID: id, Code: store.CodeNotFound}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// A user's file must never act as a page of this server: no script in it may run.
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": body.Name}))
	if typ, ok := chatkit.InlineImage(body.MIMEType); ok {
		h.Set("Content-Type", typ)
		h.Set("Content-Disposition", "inline")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-store")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}
