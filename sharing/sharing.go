package sharing

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Role is what a grant lets a principal do with another owner's thread.
type Role uint8

// The roles.
const (
	NoRole Role = iota
	Viewer      // reads the thread, its items and its attachments
	Editor      // also saves the thread, adds, saves and deletes its items, and adds attachments; does not delete the thread
)

// Grantee says to whom a thread is granted. There are three kinds:
//
//   - Tenant and Subject: one subject. The Tenant is "" where subjects have none.
//   - Tenant and Group: the principals of the tenant that have the role Group. The Tenant must be that of the thread's owner.
//   - Tenant alone: all principals of the tenant.
//
// An empty Tenant matches no group and no tenant.
type Grantee struct {
	Tenant, Subject, Group string
}

// Grant is one grant of one thread.
type Grant struct {
	ThreadID string
	To       Grantee
	Role     Role
	By       chat.Owner // who granted it; zero once that owner is erased
	At       time.Time  // when, in UTC and microseconds
	// Version is the thread's version at that time. What a reader gets of the thread must not be older: see
	// [store.WithVersions].
	Version uint64
}

// Access is what all grants of a thread to one principal give together.
type Access struct {
	Role    Role   // the highest
	Direct  Role   // the role of the grant to the principal's subject, not to a group or tenant
	Version uint64 // the highest Version of these grants
}

// Lookup answers who may do what. It is all that package authz needs of [Grants]: implement it to use grants of your own.
type Lookup interface {
	// Access returns what p may do with the thread by grants. It is zero for a thread without grants, and for a principal that
	// cannot own rows. It does not look at who owns the thread.
	Access(ctx context.Context, p store.Principal, threadID string) (Access, error)
}

// Grants keeps grants. It asks no guard: anybody who holds it can grant anything. [Share], [Unshare] and [List] are for calls
// in a user's name.
//
// All methods are safe for concurrent use. They see the newest grants: no cache is between. Their errors are [*store.Error]
// values, with the codes of a [store.Store].
type Grants interface {
	Lookup

	// Grant adds a grant, or replaces the one to the same Grantee. It fills in At and Version, whatever g has. A thread that
	// is missing or deleted is [store.ErrNotFound]. A bad id, Grantee, Role or By is [store.ErrInvalid], as is a group of
	// another tenant than the owner's, and a thread without an owner.
	Grant(ctx context.Context, g Grant) error

	// Revoke removes the grant to this Grantee. If there is none, it returns nil.
	Revoke(ctx context.Context, threadID string, to Grantee) error

	// Grantees returns a page of the thread's grants, the newest first. It is empty for a missing thread. The limit has the
	// rules of [store.PageQuery]. after is "" or the After of the page before; it has no other meaning, and stays valid if the
	// grant is revoked. Text that is no such After is [store.ErrInvalid].
	Grantees(ctx context.Context, threadID, after string, limit int) (store.Page[Grant], error)

	// SharedWith returns a page of the grants to p, its groups and its tenant, the newest first. Of several grants of one
	// thread only the newest is in it. The threads that p owns are not. limit and after are as for Grantees.
	SharedWith(ctx context.Context, p store.Principal, after string, limit int) (store.Page[Grant], error)
}
