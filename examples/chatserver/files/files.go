// Package files keeps the content of attachments in a folder. What an attachment is, and whose, is the store's to say: here
// is nothing but bytes under an id.
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
	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
	"github.com/chatstore/chatstore/store"
)

var _ chatkit.Files = (*Folder)(nil)

// Folder is a folder with the content of attachments. It is safe for concurrent use.
type Folder struct {
	root     *os.Root
	store    store.Store
	url      string
	maxBytes int64
	creating *lru.Cache[chat.Owner, *rate.Limiter]
	placing  sync.Mutex // of two uploads of one attachment at once, the first to be whole is its content
}

// How many attachments a user may announce: so many at once, and then one in a while.
const (
	burst = 30
	every = 10 * time.Second
)

// Open opens the folder at path, which is made where there is none. url is that of the server, without a slash at its end,
// and "" for links that count from the page. No content is larger than maxBytes. Several servers may use a folder.
func Open(path string, s store.Store, url string, maxBytes int64) (*Folder, error) {
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
	return &Folder{root: root, store: s, url: url, maxBytes: maxBytes, creating: creating}, nil
}

// abandonedAfter is when what is half uploaded belongs to a server that was killed: none takes that long.
const abandonedAfter = time.Hour

// sweep removes what killed servers left half uploaded.
func sweep(root *os.Root) error {
	all, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range all {
		info, err := f.Info()
		if err != nil || !strings.Contains(f.Name(), ".part-") || time.Since(info.ModTime()) < abandonedAfter {
			continue // one that is gone by now was another server's to remove
		}
		if err := root.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close ends the use of the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Create tells the client where to put the content. It refuses what is too large, and a user who announces too much.
func (f *Folder) Create(ctx context.Context, id string, size int64, body chat.AttachmentBody) (chat.AttachmentBody, error) {
	if size > f.maxBytes {
		return body, f.tooLarge()
	}
	p, _ := store.PrincipalFrom(ctx)
	limit := rate.NewLimiter(rate.Every(every), burst)
	if known, ok, _ := f.creating.PeekOrAdd(p.Owner, limit); ok {
		limit = known
	}
	if !limit.Allow() {
		return body, chatkit.StatusError{
			Status: http.StatusTooManyRequests, Code: store.CodeUnavailable.String(), Message: "attachments: too many in a short time",
		}
	}
	url := f.url + "/files/" + id
	body.Upload = &chat.UploadDescriptor{URL: url, Method: http.MethodPut, Headers: map[string]string{}}
	if body.Type == "image" {
		body.PreviewURL = url
	}
	return body, nil
}

func (f *Folder) tooLarge() error {
	return chatkit.StatusError{
		Status: http.StatusRequestEntityTooLarge, Code: store.CodeInvalid.String(),
		Message: fmt.Sprintf("size: more than %d bytes", f.maxBytes),
	}
}

// Delete removes the content, where there is any.
func (f *Folder) Delete(_ context.Context, id string) error {
	err := f.root.Remove(name(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// name is that of an attachment's file: an id may hold whatever a path may not.
func name(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// Put is PUT /files/{id}: it takes the content of an attachment that waits for it.
func (f *Folder) Put(w http.ResponseWriter, r *http.Request) {
	if err := f.put(w, r); err != nil {
		chatkit.WriteError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *Folder) put(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	if _, _, err := f.waiting(ctx, id); err != nil {
		return err // before anything is read
	}
	part, err := f.write(name(id), http.MaxBytesReader(w, r.Body, f.maxBytes))
	if err == nil {
		err = f.place(ctx, id, part)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = f.tooLarge()
	}
	return err
}

// waiting loads an attachment that waits for its content.
func (f *Folder) waiting(ctx context.Context, id string) (a chat.Attachment, b chat.AttachmentBody, err error) {
	if a, err = f.store.LoadAttachment(ctx, id); err != nil {
		return a, b, err
	}
	if b, err = a.Decode(); err == nil && b.Upload == nil {
		err = &store.Error{Op: store.OpSaveAttachment, Kind: store.RowAttachment, ID: id, Code: store.CodeConflict}
	}
	return a, b, err
}

// write writes content to a file of its own, whole or not at all.
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

// place makes a written file the content of an attachment, as it is by now: it may have been sent, or deleted.
func (f *Folder) place(ctx context.Context, id, part string) error {
	f.placing.Lock()
	defer f.placing.Unlock()
	a, b, err := f.waiting(ctx, id)
	if err == nil {
		b.Upload = nil // the content is there
		a, err = a.WithBody(b)
	}
	if err == nil {
		err = f.root.Rename(part, name(id))
	}
	if err != nil {
		return errors.Join(err, f.root.Remove(part))
	}
	err = f.store.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), a)
	if store.CodeOf(err) == store.CodeNotFound {
		return errors.Join(err, f.Delete(ctx, id)) // deleted in this moment
	}
	return err
}

// Get is GET /files/{id}.
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
	// A user's file is never a page of this server's: no script in it may run here.
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": body.Name}))
	switch body.MIMEType {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		h.Set("Content-Type", body.MIMEType)
		h.Set("Content-Disposition", "inline")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-store")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}
