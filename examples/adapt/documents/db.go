package documents

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// ErrRevision means that a document has another revision than [DB.Put] was given: nothing was written.
var ErrRevision = errors.New("documents: the document has another revision")

// DB is a document database in memory. Its Put is the compare-and-set that many databases offer: a CAS value in Couchbase, a
// condition expression in DynamoDB, a precondition in Firestore. Put yours in its place. A DB is safe for concurrent use.
type DB struct {
	mu   sync.RWMutex
	docs map[string]document
}

type document struct {
	text     []byte
	revision uint64
}

// NewDB returns an empty DB.
func NewDB() *DB { return &DB{docs: map[string]document{}} }

// Get returns the document and its revision. A missing document is nil and has revision 0. The text must not be changed.
func (db *DB) Get(ctx context.Context, key string) (text []byte, revision uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	d := db.docs[key]
	return d.text, d.revision, nil
}

// Put writes the document if its revision still is the given one, 0 for a document that must be missing. Otherwise it returns
// [ErrRevision]. DB keeps text.
func (db *DB) Put(ctx context.Context, key string, text []byte, ifRevision uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.docs[key].revision != ifRevision {
		return ErrRevision
	}
	db.docs[key] = document{text, ifRevision + 1}
	return nil
}

// List returns all documents whose key begins with prefix. It stands for a query. A real one asks an index for a page of one
// owner's rows in their order, and leaves the items out.
func (db *DB) List(ctx context.Context, prefix string) (texts [][]byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	for key, d := range db.docs {
		if strings.HasPrefix(key, prefix) {
			texts = append(texts, d.text)
		}
	}
	return texts, nil
}
