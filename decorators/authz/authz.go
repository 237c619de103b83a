package authz

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// Option changes what New makes.
type Option func(*config)

type config struct {
	share bool
	audit func(context.Context, Denial)
}

// ShareBelow lets the layers beneath, down to the next guard, share between principals what they hold. They are layers such as
// cache and singleflight; this layer decides who may see what. Use it where the base answers all principals alike, and leave
// it out where the base itself looks at the principal. With it, response times reveal to a stranger whether a row is cached.
func ShareBelow() Option { return func(c *config) { c.share = true } }

// WithAudit calls f for every denial, before the caller gets the answer. f must be safe for concurrent use. It must be quick, or
// response times reveal which calls are denied. What f does changes no answer: a panic of f is swallowed, and counted as
// chatstore_authz_audit_panics_total. A nil f is no audit.
func WithAudit(f func(ctx context.Context, d Denial)) Option { return func(c *config) { c.audit = f } }

// New returns the layer that asks p about every call. It panics if p is nil.
//
// # What a caller gets
//
// Arguments are checked first. A call without a principal, or with one that cannot own rows, is [store.ErrUnauthenticated],
// and the base is not called. A call on a row that the caller may not read is answered as if there were no such row. Value, code
// and error text are the same, and so are the calls of the base and of the policy:
//
//   - loads, and saves of items: [store.ErrNotFound]
//   - LoadThreadItems: an empty page; with After, ErrNotFound
//   - deletes: nil, and nothing is deleted
//   - SaveThread and SaveAttachment: [store.ErrConflict], as for any id that is taken; under [store.UpdateOnly], ErrNotFound.
//     An id once used is its owner's, so this alone tells that an id is taken: draw ids that cannot be guessed
//     ([store.LongIDs])
//
// A row that may be read, but not changed or deleted, is [store.ErrDenied], and so is the creation of a row for an owner for
// whom the caller may not create rows. A policy that fails is [store.ErrUnavailable]; nothing was written then, and the
// error also is [store.ErrNotApplied].
//
// Errors of the base reach the caller in this layer's words, with the same code. The base's own error is their cause only
// where it is a failure (timeout, unavailable, internal): for logs, never for callers.
//
// # Owners
//
// Whose a row is, the stored row says, never the input. A row without an owner is nobody's, and out of reach for all but
// [HasRole]. A new row without an owner becomes the caller's. An existing one is saved [store.UpdateOnly] and a new one
// [store.InsertOnly], whatever else the caller's save mode asks, so that the row that was decided about is the one written.
// Only an Upsert of the caller's own row that came or went under two looks is left to the base to decide.
//
// # Listings
//
// LoadThreads with the zero filter lists the caller's own. The policy narrows the filter before the base is asked, so pages
// are full and cursors hold; pages are not filtered afterwards. Granted threads are reached by id.
//
// # Attachments
//
// An attachment is its owner's, whatever thread it names: Attachment.ThreadID grants nothing, and is not checked. A user
// message may name only attachments that its sender can read; those that the stored message already names are not asked
// about again, so that others may save it. One that may not be read and one that is not there are the same ErrNotFound.
// The ids are checked, not what the message says about them. Items of other types are written by the server, and not
// looked into: a server that stores items from its clients unseen must not let them choose the type.
//
// # The base
//
// The rows of the base are checked. Rows with another id, of another thread, or outside of the listing are withheld: the call is
// an internal error, counted as chatstore_authz_stray_rows_total. Decisions are counted as chatstore_authz_decisions_total,
// for package metrics to export.
func New(p Policy, opts ...Option) store.Middleware {
	if p == nil {
		panic("authz.New: the policy is nil: use authz.OwnerOnly() for the usual rule")
	}
	var cfg config
	for _, o := range opts {
		o(&cfg)
	}
	return func(next store.Store) store.Store {
		if cfg.share {
			layer.Share(next)
		}
		return &guarded{Barrier: store.NewBarrier(next), next: next, policy: p, audit: cfg.audit}
	}
}

var checks driver.Checks

// guarded is a Store that asks a policy about every call.
type guarded struct {
	store.Barrier
	next   store.Store
	policy Policy
	audit  func(context.Context, Denial)
	counts counts
}

var (
	_ store.Store         = (*guarded)(nil)
	_ store.Named         = (*guarded)(nil)
	_ layer.StatsReporter = (*guarded)(nil)
)

// LayerName returns "authz".
func (l *guarded) LayerName() string { return "authz" }

func (l *guarded) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *guarded) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}

// call is a call under way: the question to the policy, kept in one place as it is large, and the
// row that the call's errors name, as the caller named it.
type call struct {
	Request
	kind, id string
	hints    layer.Hints // of the caller's context
}

// about makes the question the one whether the caller may do a to a row of owner's, and returns c.
func (c *call) about(a Action, threadID string, owner chat.Owner) *call {
	c.Action, c.ThreadID, c.Owner = a, threadID, owner
	return c
}

// error returns the call's error of that code, which says nothing but what the caller said.
func (c *call) error(code store.Code) error {
	return &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: code}
}

// begin starts a call whose arguments are valid.
func (l *guarded) begin(ctx context.Context, c *call, op store.Op, kind, id string) error {
	c.Op, c.kind, c.id = op, kind, id
	c.hints = layer.HintsFor(ctx, op)
	var ok bool
	// One who could not own a row is no principal either: a role must not make somebody of them.
	if c.Principal, ok = c.hints.Owner(); !ok {
		c.Action = actionOf(op)
		l.deny(ctx, c, ReasonUnauthenticated, store.CodeUnauthenticated)
		return c.error(store.CodeUnauthenticated)
	}
	return nil
}

// actionOf is what op does, for the denial of a call that came to no other question.
func actionOf(op store.Op) Action {
	switch op {
	case store.OpLoadThreads:
		return List
	case store.OpDeleteThread, store.OpDeleteThreadItem, store.OpDeleteAttachment:
		return Delete
	}
	if op.IsWrite() {
		return Write
	}
	return Read
}

// verdict is what a call may do with a row.
type verdict uint8

const (
	failed   verdict = iota // the policy could not say
	absent                  // there is no such row
	hidden                  // the caller must not learn that there is one
	readOnly                // the caller may know the row, but not do this
	allowed
)

// judge asks the policy about a row, and where it refuses, whether the caller may at least know of the row. A row that is
// not there (found is false) is asked about alike: otherwise a policy that fails, or takes its time, would tell what is.
func (l *guarded) judge(ctx context.Context, c *call, found bool) (verdict, error) {
	d, err := decide(ctx, l.policy, &c.Request)
	if err == nil && d != Allow && c.Action != Read {
		r := c.Request
		r.Action = Read
		if d, err = decide(ctx, l.policy, &r); err == nil && d == Allow && found {
			return readOnly, nil
		}
	}
	switch {
	case err != nil:
		return failed, err
	case !found:
		return absent, nil
	case d == Allow:
		return allowed, nil
	}
	return hidden, nil
}

// may is judge where the answer of a missing row does for a hidden one too: ok is false for both. told is that answer's
// code.
func (l *guarded) may(ctx context.Context, c *call, found bool, told store.Code) (ok bool, err error) {
	v, err := l.judge(ctx, c, found)
	switch v {
	case failed:
		return false, l.fail(ctx, c, err)
	case readOnly:
		l.deny(ctx, c, ReasonReadOnly, store.CodeDenied)
		return false, c.error(store.CodeDenied)
	case hidden:
		l.deny(ctx, c, ReasonHidden, told)
		return false, nil
	case absent:
		l.counts.absent.Add(1)
		return false, nil
	}
	l.counts.allowed.Add(1)
	return true, nil
}

// fail answers a call whose policy failed. Nothing was written.
func (l *guarded) fail(ctx context.Context, c *call, err error) error {
	if gone := driver.Done(ctx, c.Op, c.kind, c.id); gone != nil {
		return gone // the caller has left, and the policy with it
	}
	l.deny(ctx, c, ReasonPolicyFailed, store.CodeUnavailable)
	return &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: store.CodeUnavailable,
		Cause: errors.Join(store.ErrNotApplied, &policyError{err})}
}

// policyError is for private logs only: it keeps the sentinels that a policy's error may wrap from being taken for the
// Store's.
type policyError struct{ err error }

func (e *policyError) Error() string { return "authz: the policy failed: " + e.err.Error() }

// before answers a call of which err, of a read of the base, left everything undone.
func (c *call) before(err error) error {
	e := c.base(err)
	if s, ok := errors.AsType[*store.Error](e); ok && c.Op.IsWrite() {
		s.Cause = errors.Join(store.ErrNotApplied, s.Cause)
	}
	return e
}

// missedPage is the error of a listing without rows: none of them can be its cursor.
func (c *call) missedPage(kind, after string) error {
	if after == "" {
		return nil
	}
	return &store.Error{Op: c.Op, Kind: kind, ID: after, Code: store.CodeNotFound}
}

// basePage is base for a listing, where not found is about the cursor.
func (c *call) basePage(err error, kind, after string) error {
	if missed := c.missedPage(kind, after); missed != nil && store.CodeOf(err) == store.CodeNotFound {
		return missed
	}
	return c.base(err)
}

// base returns what err, the base's, is to the caller: the same class in this layer's words. A base's own words and causes
// may tell a row that is there from one that is not.
func (c *call) base(err error) error {
	if err == nil {
		return nil
	}
	e := &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: store.CodeOf(err)}
	if c.Op.IsWrite() && !store.IsDefinite(err) && store.IsDefinite(e) {
		e.Code = store.CodeUnavailable // several attempts, of which one may still take effect
		err = &attemptsError{err}
	}
	switch e.Code {
	case store.CodeNotFound, store.CodeConflict, store.CodeUnauthenticated, store.CodeDenied:
	case store.CodeInvalid:
		if b, ok := errors.AsType[*store.Error](err); ok {
			e.Field = b.Field
		}
	default:
		e.Cause = err // unknown outcomes and failures are for the logs, and tell ErrNotApplied
	}
	return e
}

// attemptsError is for private logs only, as policyError is.
type attemptsError struct{ err error }

func (e *attemptsError) Error() string { return "authz: the base's attempts: " + e.err.Error() }

// missing reports whether err, of loading a row, means that there is none for the caller. A base that refuses rows itself
// must not thereby tell that they are there.
func missing(err error) bool {
	code := store.CodeOf(err)
	return code == store.CodeNotFound || code == store.CodeDenied
}

var errStray = errors.New("authz: the base answered with a row that was not asked for")

// stray answers a call for which the base returned a row that was not asked for.
func (l *guarded) stray(c *call) error {
	l.counts.stray.Add(1)
	return c.before(&store.Error{Code: store.CodeInternal, Cause: errStray})
}

// threadOwner returns whose the thread is, for a call about something in it.
func (l *guarded) threadOwner(ctx context.Context, c *call, threadID string) (o chat.Owner, found bool, err error) {
	t, err := l.next.LoadThread(layer.Own(ctx), threadID)
	switch {
	case err == nil && t.ID == threadID:
		return t.Owner, true, nil
	case err == nil:
		return o, false, l.stray(c)
	case missing(err):
		return o, false, nil
	}
	return o, false, c.before(err)
}

// attachmentOwner returns whose the attachment is.
func (l *guarded) attachmentOwner(ctx context.Context, c *call, attachmentID string) (o chat.Owner, found bool, err error) {
	a, err := l.next.LoadAttachment(layer.Own(ctx), attachmentID)
	switch {
	case err == nil && a.ID == attachmentID:
		return a.Owner, true, nil
	case err == nil:
		return o, false, l.stray(c)
	case missing(err):
		return o, false, nil
	}
	return o, false, c.before(err)
}
