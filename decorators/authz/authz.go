package authz

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/internal/stripe"
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

// ShareBelow lets the layers beneath, such as cache and singleflight, share rows between principals. This layer still decides
// who may see them. The option applies down to the next guard. Use it if the base answers all principals alike. Leave it out
// if the base itself looks at the principal. With it, response times reveal whether a row is cached.
func ShareBelow() Option { return func(c *config) { c.share = true } }

// WithAudit calls f for every denial, before the caller gets the answer. f must be safe for concurrent use. It must be quick, or
// response times reveal which calls are denied. f cannot change an answer. A panic of f is recovered and counted in
// chatstore_authz_audit_panics_total. A nil f turns auditing off.
func WithAudit(f func(ctx context.Context, d Denial)) Option { return func(c *config) { c.audit = f } }

// New returns the layer that asks p about every call. It panics if p is nil.
//
// # What a caller gets
//
// The layer checks the arguments first, then the principal. A call without a principal is [store.ErrUnauthenticated] and does not
// reach the base. So is a call whose principal cannot own rows, for example because its subject is empty.
//
// A row that the caller may not read is hidden: it is answered like a missing row. The value, the code and the error text are
// the same, and so are the calls of the base and of the policy. The answers are:
//
//   - loads, and saves of items: [store.ErrNotFound]
//   - LoadThreadItems: an empty page; with After, ErrNotFound
//   - deletes: nil, and nothing is deleted
//   - SaveThread and SaveAttachment under [store.UpdateOnly]: ErrNotFound
//   - other SaveThread and SaveAttachment: [store.ErrConflict], as for the id of a deleted row; [store.ErrDenied] if the caller
//     may not create the row either
//
// So a conflict reveals that an id is in use or was used once. Nothing else does. Draw ids that cannot be guessed: see
// [store.LongIDs].
//
// If the caller may read a row but not change or delete it, the answer is [store.ErrDenied]. So is a new row for an owner for
// whom the caller may not create rows. If the policy fails, the answer is [store.ErrUnavailable]. Nothing was written then,
// and the error is also [store.ErrNotApplied].
//
// An error of the base keeps its code, but its text comes from this layer. There are two exceptions. A thread or attachment that
// the base refuses to load counts as missing. If one of several attempts of a write may still take effect, the error is
// ErrUnavailable. The base's own error is the cause only of failures (timeout, unavailable, internal). It is for logs, not for
// callers.
//
// [store.ErrLimited] of the base keeps its RetryAfter. A limit that meets the read of a row's owner is the answer to the call.
//
// # Versions
//
// [store.IfVersion] reaches the base. The Field "if_version" of a conflict is passed on if the policy allows the caller to change
// the thread. A save that would insert a thread has a plain conflict instead: its id may be another owner's, deleted or hidden. For
// the same reason [store.WithVersions] learns nothing from a write that failed, nor from LoadThread of a missing thread.
// A SaveThread under [store.UpdateOnly] of a missing thread is ErrNotFound at every version.
// A SaveThread of an existing thread is a plain conflict at every version in two cases. Either it has another Owner than the
// thread, or it is under [store.InsertOnly] and the thread is not the caller's own.
//
// # Owners
//
// For an existing row, the policy is asked about the stored owner, never about the owner in the input. A new row without an
// owner becomes the caller's. Of the policies in this package, only [HasRole] allows access to a stored row without an owner.
//
// The layer saves an existing row with [store.UpdateOnly] and a new one with [store.InsertOnly], so the row that is written is
// the row that was checked. It never does more than the caller's own save mode allows. If the caller's own row appears or
// disappears during two attempts of an Upsert, the layer passes the Upsert on, and the base decides.
//
// # Listings
//
// LoadThreads with the zero filter lists the caller's own threads. The policy narrows the filter before the base is called, and
// pages are not filtered afterwards. So pages are full and cursors work. Threads of others that [Shared] allows are not in it:
// sharing.List lists them.
//
// # Shared threads
//
// With [Shared], a reader of another owner's thread sees nothing that the owner had deleted before the grant, even if a cache still
// has it. If the base reports a lower version of the thread than the grant has, or none, the read is repeated with
// [store.WithFresh]. A grant without a version has no such check. A call that is under way while the owner deletes the thread and
// makes its id again may still see or change the new thread. LoadThread of such a reader reads the thread twice,
// unless the context is one of [store.WithVersions].
//
// # Attachments
//
// An attachment belongs to its owner. Without [Shared], Attachment.ThreadID grants nothing and is not checked.
//
// With Shared, who may read a thread may also read the attachments that name it. The attachment's owner must be the thread's
// owner, or an editor of it by a grant to that subject. An editor by a group or a tenant does not count. When an editor's grant
// ends, others no longer read that editor's attachments. Deleting a thread deletes no attachments: if its owner makes the id again
// and shares it, they are shared too. Other owners' attachments are read with [store.WithFresh], because they have no versions. To
// change or delete them is ErrDenied.
//
// With Shared, a SaveAttachment that names a thread needs that thread, and the right to write it. A missing or hidden thread is
// ErrNotFound, and one that the caller may only read is ErrDenied. The errors name the thread.
//
// With Shared, a refused call on an attachment also reads a thread and asks about it. It does so for a missing attachment too. Only
// who may read the thread that a hidden attachment names can tell it from a missing one, by the time of one more lookup. A base
// that fails to load that thread fails the call.
//
// A user message may name only attachments that its sender can read. Attachments that the stored message already names are not
// checked again, so that other editors can save it. An unreadable attachment and a missing one are the same ErrNotFound. The
// layer checks the ids, not the names and types that the message gives to its attachments.
//
// Items of other types are not checked, because the server writes them. A server that stores its clients' items without looking
// at them must not let clients choose the type.
//
// # The base
//
// The layer checks the rows that the base returns. If a row has another id, belongs to another thread or is outside of the
// listing, the call returns no rows and an internal error.
//
// # Statistics
//
// The layer reports these counters to package metrics:
//
//   - chatstore_authz_decisions_total: decisions, by decision and reason
//   - chatstore_authz_stray_rows_total: calls for which the base returned a wrong row
//   - chatstore_authz_audit_panics_total: panics of the audit function
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
		return &guarded{Barrier: store.NewBarrier(next), next: next, policy: p, mayShare: mayShare(p), audit: cfg.audit,
			counts: counts{allowed: stripe.New(1)}}
	}
}

var checks = driver.Checks{Versions: true}

// guarded is the Store that New's layer returns.
type guarded struct {
	store.Barrier
	next     store.Store
	policy   Policy
	mayShare bool // the policy can contain Shared
	audit    func(context.Context, Denial)
	counts   counts
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

// call is a call in progress. Its Request is the current question to the policy. It is changed in place, because it is large.
type call struct {
	Request
	kind, id string           // of the row that errors name
	hints    layer.Hints      // of the caller's context
	told     *told            // what the policy says beside its decision; may be nil
	names    string           // the thread that the stored attachment names
	fresh    *chat.Attachment // the answer for a caller who reads the attachment by its thread
}

// about changes the question to: may the caller do a to this owner's row? It returns c.
func (c *call) about(a Action, threadID string, owner chat.Owner) *call {
	c.Action, c.ThreadID, c.Owner, c.told = a, threadID, owner, nil
	return c
}

// error returns an error with the code, which contains only what the caller passed.
func (c *call) error(code store.Code) error {
	return &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: code}
}

// begin starts a call whose arguments are valid.
func (l *guarded) begin(ctx context.Context, c *call, op store.Op, kind, id string) error {
	c.Op, c.kind, c.id = op, kind, id
	c.hints = layer.HintsFor(ctx, op)
	var ok bool
	// A principal that cannot own rows is refused, so that a role alone does not authenticate a caller.
	if c.Principal, ok = c.hints.Owner(); !ok {
		c.Action = actionOf(op)
		l.deny(ctx, c, ReasonUnauthenticated, store.CodeUnauthenticated)
		return c.error(store.CodeUnauthenticated)
	}
	return nil
}

// actionOf returns the action of op, for the denial of a call about which the policy was not asked.
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

// verdict is the decision about a call on one row.
type verdict uint8

const (
	failed   verdict = iota // the policy failed
	broken                  // the base failed; the error is the caller's
	absent                  // the row does not exist
	hidden                  // the caller must not learn that the row exists
	readOnly                // the caller may read the row, but not do this
	allowed
)

// judge asks the policy about a row. If the policy refuses, judge asks whether the caller may at least read the row. It asks
// the same about a missing row (found is false), or a slow or failing policy would reveal which rows exist.
func (l *guarded) judge(ctx context.Context, c *call, found bool) (verdict, error) {
	d, err := l.ask(ctx, c, &c.Request)
	if err == nil && d != Allow && c.Action != Read {
		r := c.Request
		r.Action = Read
		if d, err = l.ask(ctx, c, &r); err == nil && d == Allow && found {
			return readOnly, nil
		}
	}
	switch {
	case err != nil:
		return failed, err
	case d != Allow && c.ThreadID == "" && len(c.told.lookups()) > 0:
		return l.judgeNamed(ctx, c, found)
	case !found:
		return absent, nil
	case d == Allow:
		return allowed, nil
	}
	return hidden, nil
}

// may calls judge and counts the verdict. If ok is false and err is nil, the row is missing or hidden: the caller gets the same
// answer, with the code answered, for both.
func (l *guarded) may(ctx context.Context, c *call, found bool, answered store.Code) (ok bool, err error) {
	v, err := l.judge(ctx, c, found)
	return l.settle(ctx, c, v, err, answered)
}

// settle counts the verdict of judge.
func (l *guarded) settle(ctx context.Context, c *call, v verdict, err error, answered store.Code) (bool, error) {
	switch v {
	case failed:
		return false, l.fail(ctx, c, err)
	case broken:
		return false, err
	case readOnly:
		l.deny(ctx, c, ReasonReadOnly, store.CodeDenied)
		return false, c.error(store.CodeDenied)
	case hidden:
		l.deny(ctx, c, ReasonHidden, answered)
		return false, nil
	case absent:
		l.counts.absent.Add(1)
		return false, nil
	}
	l.counts.allowed.Add(0, 1)
	return true, nil
}

// fail returns the error of a call whose policy failed. Nothing was written.
func (l *guarded) fail(ctx context.Context, c *call, err error) error {
	if gone := driver.Done(ctx, c.Op, c.kind, c.id); gone != nil {
		return gone // the policy failed because the caller's context ended
	}
	l.deny(ctx, c, ReasonPolicyFailed, store.CodeUnavailable)
	return &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: store.CodeUnavailable,
		Cause: errors.Join(store.ErrNotApplied, &policyError{err})}
}

// policyError has no Unwrap: errors.Is must not take a sentinel in a policy's error for the Store's answer.
type policyError struct{ err error }

func (e *policyError) Error() string { return "authz: the policy failed: " + e.err.Error() }

// before returns the error of a call that ended with err, an error of a read, before it wrote anything.
func (c *call) before(err error) error {
	e := c.base(err)
	if s, ok := errors.AsType[*store.Error](e); ok && c.Op.IsWrite() {
		s.Cause = errors.Join(store.ErrNotApplied, s.Cause)
	}
	return e
}

// missedPage returns the error of a listing that must look empty. An empty listing does not have the cursor's row.
func (c *call) missedPage(kind, after string) error {
	if after == "" {
		return nil
	}
	return &store.Error{Op: c.Op, Kind: kind, ID: after, Code: store.CodeNotFound}
}

// basePage is base for a listing, in which only the cursor can be not found.
func (c *call) basePage(err error, kind, after string) error {
	if missed := c.missedPage(kind, after); missed != nil && store.CodeOf(err) == store.CodeNotFound {
		return missed
	}
	return c.base(err)
}

// base returns the caller's error for err, an error of the base. It keeps the code only: the text and the causes of a base may
// reveal which rows exist.
func (c *call) base(err error) error {
	if err == nil {
		return nil
	}
	e := &store.Error{Op: c.Op, Kind: c.kind, ID: c.id, Code: store.CodeOf(err)}
	if c.Op.IsWrite() && !store.IsDefinite(err) && store.IsDefinite(e) {
		e.Code = store.CodeUnavailable // the write had several attempts, and one of them may still take effect
		err = &attemptsError{err}
	}
	switch e.Code {
	case store.CodeNotFound, store.CodeConflict, store.CodeUnauthenticated, store.CodeDenied:
	case store.CodeInvalid:
		if b, ok := errors.AsType[*store.Error](err); ok {
			e.Field = b.Field
		}
	case store.CodeLimited:
		b, ok := errors.AsType[*store.Error](err)
		for ok && b.Code == store.CodeOK { // its cause has the code: see store.CodeOf
			b, ok = errors.AsType[*store.Error](b.Cause)
		}
		if ok {
			e.RetryAfter = b.RetryAfter
		}
	default:
		e.Cause = err // for logs, and for errors.Is to find ErrNotApplied
	}
	return e
}

// wrongVersion reports whether err is the conflict of a write under [store.IfVersion].
func wrongVersion(err error) bool {
	e, ok := errors.AsType[*store.Error](err)
	return ok && e.Code == store.CodeConflict && e.Field == rules.FieldIfVersion
}

// changed is base for a write in a thread that the caller may change, and so may know: it says whether the version is wrong.
func (c *call) changed(err error) error {
	e := c.base(err)
	if wrongVersion(err) && store.CodeOf(e) == store.CodeConflict {
		return &store.Error{Op: c.Op, Kind: store.RowThread, ID: c.ThreadID, Code: store.CodeConflict, Field: rules.FieldIfVersion}
	}
	return e
}

// listen returns the context for a call of the base and the recorder of its versions. A version reveals that a thread exists or
// existed, so the caller hears it after the answer is known: see tell. The recorder is nil if the caller does not listen.
func (c *call) listen(ctx context.Context) (context.Context, *coherence.Recorder) {
	if !c.hints.Recording() {
		return ctx, nil
	}
	r := new(coherence.Recorder)
	return r.Listen(ctx), r
}

// tell reports the recorded versions to the caller, unless the call ended with an error.
func (c *call) tell(r *coherence.Recorder, err error) {
	if r != nil && err == nil {
		coherence.Forward(c.hints, r.Reports())
	}
}

// attemptsError has no Unwrap, as policyError: one attempt's definite error must not pass for the outcome of the write.
type attemptsError struct{ err error }

func (e *attemptsError) Error() string {
	return "authz: an attempt of the write may still take effect: " + e.err.Error()
}

// missing reports whether err, from loading a row, means that the row does not exist for the caller. A base that denies rows
// itself would otherwise reveal that they exist.
func missing(err error) bool {
	code := store.CodeOf(err)
	return code == store.CodeNotFound || code == store.CodeDenied
}

var errStray = errors.New("authz: the base returned a row that the call did not request")

// stray counts a call for which the base returned a row that was not requested, and returns its error.
func (l *guarded) stray(c *call) error {
	l.counts.stray.Add(1)
	return c.before(&store.Error{Code: store.CodeInternal, Cause: errStray})
}

// threadOwner returns the owner of the thread.
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

// attachmentOwner returns the owner of the attachment. It sets c.names.
func (l *guarded) attachmentOwner(ctx context.Context, c *call, attachmentID string) (o chat.Owner, found bool, err error) {
	a, err := l.next.LoadAttachment(layer.Own(ctx), attachmentID)
	switch {
	case err == nil && a.ID == attachmentID:
		c.names = a.ThreadID
		return a.Owner, true, nil
	case err == nil:
		return o, false, l.stray(c)
	case missing(err):
		return o, false, nil
	}
	return o, false, c.before(err)
}
