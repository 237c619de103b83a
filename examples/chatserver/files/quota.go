package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

// A user has a folder of small files, one for each attachment, with its id. The name of a file ends in the announced size. A
// server creates such a file first and then adds up all of them. So of two servers at once at least one sees both files, and
// a user never stores more than the limit. (Both may refuse.)

// leastCharge is what an attachment counts at least: a block of the disk.
const leastCharge = 4 << 10

// announcement is the metadata of an attachment.
type announcement struct {
	Bytes *int64 `json:"announced_bytes"`
}

func announce(size int64) (chat.JSON, error) {
	return chat.ParseJSON(fmt.Sprintf(`{"announced_bytes":%d}`, size))
}

// announced returns the size that a client announced. It is not known of an attachment of an earlier version.
func announced(b chat.AttachmentBody) int64 {
	var a announcement
	if b.Metadata.IsZero() || b.Metadata.Decode(&a) != nil || a.Bytes == nil {
		return math.MaxInt64
	}
	return *a.Bytes
}

// ownFolder returns the name of a user's folder.
func ownFolder(user chat.Owner) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", user.Tenant, user.Subject))
	return "of-" + hex.EncodeToString(sum[:])
}

// reserve counts an attachment for its user. It fails if the user has too much then.
func (f *Folder) reserve(ctx context.Context, user chat.Owner, id string, size int64) error {
	fresh, err := f.mark(user, id, size)
	if err != nil || !fresh || f.limits.User <= 0 {
		return err
	}
	used, err := f.used(ctx, user)
	if err == nil && used > f.limits.User {
		err = chatkit.StatusError{
			Status: http.StatusRequestEntityTooLarge, Code: store.CodeLimited.String(),
			Message: fmt.Sprintf("attachments: more than %d bytes together: delete some", f.limits.User),
		}
	}
	if err != nil {
		return errors.Join(err, f.release(user, id))
	}
	return nil
}

// mark creates the file that counts an attachment. If the file exists, mark makes it look new, so that it is not abandoned.
func (f *Folder) mark(user chat.Owner, id string, size int64) (fresh bool, err error) {
	if err := f.root.Mkdir(ownFolder(user), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	mine := path.Join(ownFolder(user), fmt.Sprintf("%s.%d", name(id), size))
	file, err := f.root.OpenFile(mine, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, f.root.Chtimes(mine, time.Now(), time.Now())
	}
	if err != nil {
		return false, err
	}
	_, err = file.WriteString(id)
	return true, errors.Join(err, file.Close())
}

// used returns the bytes that count for a user. If they are too many, it first removes two kinds: old announcements without an upload,
// and the content of deleted attachments.
func (f *Folder) used(ctx context.Context, user chat.Owner) (sum int64, err error) {
	all, err := fs.ReadDir(f.root.FS(), ownFolder(user))
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		sum += charge(e)
	}
	for _, e := range all {
		if sum <= f.limits.User {
			break
		}
		gone, err := f.gone(ctx, user, e)
		if err != nil {
			return 0, err
		}
		if !gone {
			continue
		}
		content, _, _ := strings.Cut(e.Name(), ".")
		for _, old := range []string{content, path.Join(ownFolder(user), e.Name())} {
			if err := f.root.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
		}
		sum -= charge(e)
	}
	return sum, nil
}

// gone reports whether what a file counts will not come, or has no attachment any more. Content comes later than its attachment:
// so an attachment that the store does not find was deleted.
func (f *Folder) gone(ctx context.Context, user chat.Owner, e fs.DirEntry) (bool, error) {
	content, _, _ := strings.Cut(e.Name(), ".")
	if _, err := f.root.Stat(content); errors.Is(err, fs.ErrNotExist) {
		info, err := e.Info()
		return err == nil && time.Since(info.ModTime()) >= abandonedAfter, nil // another server may have removed it
	}
	id, err := f.root.ReadFile(path.Join(ownFolder(user), e.Name()))
	if err != nil || name(string(id)) != content {
		return false, nil // removed, or made by an earlier version
	}
	_, err = f.store.LoadAttachment(store.WithPrincipal(ctx, store.Principal{Owner: user}), string(id))
	if store.CodeOf(err) == store.CodeNotFound {
		return true, nil
	}
	return false, err
}

func charge(e fs.DirEntry) int64 {
	_, size, _ := strings.Cut(e.Name(), ".")
	n, _ := strconv.ParseInt(size, 10, 64)
	return max(n, leastCharge)
}

// release removes the files that count an attachment, if there are any.
func (f *Folder) release(user chat.Owner, id string) error {
	marks, err := fs.Glob(f.root.FS(), path.Join(ownFolder(user), name(id)+".*"))
	for _, m := range marks {
		if e := f.root.Remove(m); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
