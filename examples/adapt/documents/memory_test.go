package documents_test

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/examples/adapt/documents"
)

// memory is a documents.DB in memory.
type memory struct {
	mu   sync.RWMutex
	docs map[string]document
}

type document struct {
	text     []byte
	revision uint64
}

func newMemory() *memory { return &memory{docs: map[string]document{}} }

func (db *memory) Get(ctx context.Context, key string) (text []byte, revision uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	d := db.docs[key]
	return d.text, d.revision, nil
}

func (db *memory) Put(ctx context.Context, key string, text []byte, ifRevision uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.docs[key].revision != ifRevision {
		return documents.ErrRevision
	}
	db.docs[key] = document{text, ifRevision + 1}
	return nil
}

func (db *memory) List(ctx context.Context, prefix string) (texts [][]byte, err error) {
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
