package documents

import (
	"context"
	"errors"
)

// ErrRevision means that a document has another revision than [DB.Put] was given: nothing was written.
var ErrRevision = errors.New("documents: the document has another revision")

// DB is what a [Store] needs of a document database. Its Put is the compare-and-set that many databases offer: a CAS value in
// Couchbase, a condition expression in DynamoDB, a precondition in Firestore. A DB is safe for concurrent use.
type DB interface {
	// Get returns the document and its revision. A missing document is nil and has revision 0. The text must not be changed.
	Get(ctx context.Context, key string) (text []byte, revision uint64, err error)

	// Put writes the document if its revision still is the given one, 0 for a document that must be missing. Otherwise it
	// returns [ErrRevision]. It keeps text. It must not try twice, and neither must the database's client: after a lost
	// answer, the second attempt gets ErrRevision for the first one's write.
	Put(ctx context.Context, key string, text []byte, ifRevision uint64) error

	// List returns all documents whose key begins with prefix. It stands for a query. A real one asks an index for a page of
	// one owner's rows in their order, and leaves the items out.
	List(ctx context.Context, prefix string) (texts [][]byte, err error)
}
