package lifecycle

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Export writes the threads that f selects to w, with their items, then the attachments that f selects. Memory stays constant,
// however long a thread is: what exceeds a megabyte waits in a temporary file.
//
// The file has JSON lines: a header, the rows with their owners, and a trailer with counts and a SHA-256. The documents of rows
// are in it byte for byte. A thread's line is followed by those of its items, in their order.
//
// Each thread is read at one version ([store.WithVersions]): if a write comes between, it is read again. A thread that changes
// in each of ten tries, within about a second, ends the export with [store.ErrConflict]. After any error the file is of no use, and
// the next export begins anew. Over a store without versions, a thread that is written during the export may be a mixture. A thread
// that is deleted meanwhile is left out. One that gets a newer CreatedAt may be in the file twice: see [Import].
//
// The option WithoutAttachments leaves attachments out. Without it, a store that cannot list them is [errors.ErrUnsupported] at once:
// see [Attachments]. WithProgress is the other option.
func Export(ctx context.Context, w io.Writer, s store.Store, f store.OwnerFilter, opts ...Option) (Counts, error) {
	c := config{attachments: true}
	for _, o := range opts {
		o(&c)
	}
	if _, ok := store.As[driver.AttachmentLister](s); c.attachments && !ok {
		return Counts{}, fmt.Errorf("lifecycle: the store cannot list attachments: %w", errors.ErrUnsupported)
	}
	e := newExporter(w)
	e.config, e.s = c, s
	defer e.block.close()
	err := e.all(func(e *exporter) error { return e.export(ctx, f) })
	return e.counts, err
}

type exporter struct {
	config
	s      store.Store
	file   *bufio.Writer
	sum    hash.Hash
	w      io.Writer // both
	block  spool     // the lines of one thread
	line   []byte
	counts Counts
}

func newExporter(w io.Writer) *exporter {
	e := &exporter{file: bufio.NewWriter(w), sum: sha256.New()}
	e.w = io.MultiWriter(e.file, e.sum)
	return e
}

// all writes a file: the header, the rows that f writes, and the trailer.
func (e *exporter) all(f func(*exporter) error) error {
	header := map[string]any{"chatstore_export": format, "exported_at": time.Now().UTC().Format(time.RFC3339)}
	err := e.write(append(appendJSON(nil, header), '\n'))
	if err == nil {
		err = f(e)
	}
	if err == nil {
		end := trailer{e.counts, hex.EncodeToString(e.sum.Sum(nil))}
		err = e.write(append(appendJSON(nil, map[string]trailer{"end": end}), '\n'))
	}
	return errors.Join(err, e.file.Flush())
}

func (e *exporter) export(ctx context.Context, f store.OwnerFilter) error {
	for t, err := range Threads(ctx, e.s, f) {
		if err != nil {
			return err
		}
		if err := e.thread(ctx, t.ID); err != nil {
			return err
		}
		e.tell(e.counts)
	}
	if e.attachments {
		for a, err := range Attachments(ctx, e.s, f) {
			if err != nil {
				return err
			}
			e.line = appendRow(e.line[:0], "attachment", a.JSON(), a.Owner)
			if err := e.write(e.line); err != nil {
				return err
			}
			if e.counts.Attachments++; e.counts.Attachments%pageSize == 0 {
				e.tell(e.counts)
			}
		}
		e.tell(e.counts)
	}
	return nil
}

func (e *exporter) write(b []byte) error {
	_, err := e.w.Write(b)
	return err
}

// thread writes a thread and its items, all of one version.
func (e *exporter) thread(ctx context.Context, id string) error {
	var items int64
	err := unchanged(ctx, id, func() (err error) {
		items, err = e.read(ctx, id)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	e.counts.Threads++
	e.counts.Items += items
	return e.block.copyTo(e.w)
}

// read reads a thread and its items into the block. The error is errAgain if a write came between.
func (e *exporter) read(ctx context.Context, id string) (items int64, err error) {
	e.block.reset()
	fresh, versions := reading(ctx)
	t, err := e.s.LoadThread(fresh, id)
	if err != nil {
		return 0, err
	}
	e.line = appendRow(e.line[:0], "thread", t.JSON(), t.Owner)
	if err := e.block.write(e.line); err != nil {
		return 0, err
	}
	for it, err := range itemsAt(ctx, e.s, id, versions) {
		if err == nil {
			e.line = appendRow(e.line[:0], "item", it.JSON(), chat.Owner{})
			err = e.block.write(e.line)
		}
		if err != nil {
			return 0, err
		}
		items++
	}
	return items, nil
}

// spool holds bytes until they are copied: up to a megabyte in memory, and the rest in a temporary file.
type spool struct {
	head []byte
	tail *os.File
	size int64 // of tail
}

const spoolMemory = 1 << 20

func (s *spool) reset() { s.head, s.size = s.head[:0], 0 }

func (s *spool) write(b []byte) (err error) {
	if s.size == 0 && len(s.head)+len(b) <= spoolMemory {
		s.head = append(s.head, b...)
		return nil
	}
	if s.tail == nil {
		if s.tail, err = os.CreateTemp("", "chatstore-export-"); err != nil {
			return err
		}
		_ = os.Remove(s.tail.Name()) // a killed export leaves nothing; Windows removes it in close
	}
	n, err := s.tail.WriteAt(b, s.size)
	s.size += int64(n)
	return err
}

func (s *spool) copyTo(w io.Writer) error {
	if _, err := w.Write(s.head); err != nil || s.size == 0 {
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(s.tail, 0, s.size))
	return err
}

func (s *spool) close() {
	if s.tail != nil {
		_ = s.tail.Close()
		_ = os.Remove(s.tail.Name())
	}
}
