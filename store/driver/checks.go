package driver

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
)

// Checks checks the arguments of calls and returns them normalised. Every store calls it first, and so does every layer that
// answers without its base. It checks the values, then the save mode, then the thread of [store.IfVersion], then whether the
// context is done. Its errors are of type [*store.Error]: an invalid argument is [store.ErrInvalid], and a done context has
// the error of [Done].
//
// The zero Checks is for a store that keeps no thread versions. It refuses every write under [store.IfVersion].
type Checks struct {
	// Versions says that the store keeps thread versions and obeys the [Condition] of every write. A layer sets it too: it
	// passes the condition on to its base.
	Versions bool
}

// Condition is what [store.IfVersion] asks of a write. The zero Condition holds for every version.
type Condition struct {
	Version uint64 // the version that the thread must have
	Set     bool   // false if the write has no condition
}

// Check returns nil if the condition holds for a thread of this version, and otherwise the error for the call. A store calls
// it in the writing transaction, before it looks at the save mode, the row and its owner. Only a thread that is missing, or
// deleted, is looked at first: it has the same answer as without a condition. A SaveThread is the exception: its condition
// is about the version that the id has, and that is 0 for an id that was never used.
func (c Condition) Check(op store.Op, threadID string, version uint64) error {
	if !c.Set || c.Version == version {
		return nil
	}
	return &store.Error{Op: op, Kind: store.RowThread, ID: threadID, Code: store.CodeConflict, Field: rules.FieldIfVersion}
}

// SaveThread has the checked arguments of a SaveThread call.
type SaveThread struct {
	Thread    chat.Thread
	Mode      store.SaveMode
	Condition Condition
}

// SaveItem has the checked arguments of an AddThreadItem or SaveItem call. For AddThreadItem, Mode is InsertOnly.
type SaveItem struct {
	Item      chat.Item
	Mode      store.SaveMode
	Condition Condition
}

// SaveAttachment has the checked arguments of a SaveAttachment call.
type SaveAttachment struct {
	Attachment chat.Attachment
	Mode       store.SaveMode
}

// Thread checks a read whose only argument is a thread's id.
func (Checks) Thread(ctx context.Context, op store.Op, threadID string) error {
	if err := checkID(op, store.RowThread, threadID); err != nil {
		return err
	}
	return Done(ctx, op, store.RowThread, threadID)
}

// DeleteThread checks a call of DeleteThread.
func (c Checks) DeleteThread(ctx context.Context, threadID string) (Condition, error) {
	const op = store.OpDeleteThread
	if err := checkID(op, store.RowThread, threadID); err != nil {
		return Condition{}, err
	}
	return c.condition(ctx, op, store.RowThread, threadID, threadID)
}

// Item checks a read whose only arguments are the ids of a thread and an item.
func (Checks) Item(ctx context.Context, op store.Op, threadID, itemID string) error {
	if err := checkItem(op, threadID, itemID); err != nil {
		return err
	}
	return Done(ctx, op, store.RowItem, itemID)
}

// DeleteItem checks a call of DeleteThreadItem.
func (c Checks) DeleteItem(ctx context.Context, threadID, itemID string) (Condition, error) {
	const op = store.OpDeleteThreadItem
	if err := checkItem(op, threadID, itemID); err != nil {
		return Condition{}, err
	}
	return c.condition(ctx, op, store.RowItem, itemID, threadID)
}

// Attachment checks a call of LoadAttachment or DeleteAttachment, as op says.
func (c Checks) Attachment(ctx context.Context, op store.Op, attachmentID string) error {
	if err := checkID(op, store.RowAttachment, attachmentID); err != nil {
		return err
	}
	if op.IsWrite() {
		_, err := c.condition(ctx, op, store.RowAttachment, attachmentID, "")
		return err
	}
	return Done(ctx, op, store.RowAttachment, attachmentID)
}

// Threads checks a call of LoadThreads. It returns q with a Limit between 1 and [store.MaxLimit].
func (Checks) Threads(ctx context.Context, q store.ThreadQuery) (store.ThreadQuery, error) {
	return ownedQuery(ctx, store.OpLoadThreads, store.RowThread, q)
}

// Attachments checks a call of [AttachmentLister]. It returns q with a Limit between 1 and [store.MaxLimit].
func (Checks) Attachments(ctx context.Context, q store.ThreadQuery) (store.ThreadQuery, error) {
	return ownedQuery(ctx, 0, store.RowAttachment, q)
}

// Tombstones checks a call of [Tombstones]. It returns q with a Limit between 1 and [store.MaxLimit].
func (Checks) Tombstones(ctx context.Context, kind string, q store.PageQuery) (store.PageQuery, error) {
	if kind != store.RowThread && kind != store.RowAttachment {
		return q, refuse(0, "", "", "kind: unknown")
	}
	q, err := pageQuery(0, kind, q)
	if err == nil {
		err = Done(ctx, 0, kind, "")
	}
	return q, err
}

// Owner checks a call of [Eraser]. The zero Owner is [store.ErrInvalid].
func (Checks) Owner(ctx context.Context, o chat.Owner) error {
	fault := rules.OwnerFault(o.Tenant, o.Subject)
	if o.IsZero() {
		fault = "owner: empty"
	}
	if fault != "" {
		return refuse(0, "", "", fault)
	}
	return Done(ctx, 0, "", "")
}

// ThreadIDs checks a call of [VersionReader].
func (Checks) ThreadIDs(ctx context.Context, ids []string) error {
	if len(ids) > MaxVersions {
		return refuse(0, store.RowThread, "", "ids: more than 1000")
	}
	for _, id := range ids {
		if err := checkID(0, store.RowThread, id); err != nil {
			return err
		}
	}
	return Done(ctx, 0, store.RowThread, "")
}

func ownedQuery(ctx context.Context, op store.Op, kind string, q store.ThreadQuery) (store.ThreadQuery, error) {
	var err error
	if q.PageQuery, err = pageQuery(op, kind, q.PageQuery); err != nil {
		return store.ThreadQuery{}, err
	}
	fault := ""
	if tenant, ok := q.Owner.Tenant(); ok {
		fault = rules.PartFault("owner.tenant", tenant)
	} else {
		o, _ := q.Owner.Owner()
		fault = rules.OwnerFault(o.Tenant, o.Subject)
	}
	if fault != "" {
		return store.ThreadQuery{}, refuse(op, kind, "", fault)
	}
	if err := Done(ctx, op, kind, ""); err != nil {
		return store.ThreadQuery{}, err
	}
	return q, nil
}

// Items checks a call of LoadThreadItems. It returns q with a Limit between 1 and [store.MaxLimit].
func (Checks) Items(ctx context.Context, threadID string, q store.PageQuery) (store.PageQuery, error) {
	const op = store.OpLoadThreadItems
	if err := checkID(op, store.RowThread, threadID); err != nil {
		return store.PageQuery{}, err
	}
	q, err := pageQuery(op, store.RowItem, q)
	if err != nil {
		return store.PageQuery{}, err
	}
	if err := Done(ctx, op, store.RowThread, threadID); err != nil {
		return store.PageQuery{}, err
	}
	return q, nil
}

// SaveThread checks a call of SaveThread.
func (c Checks) SaveThread(ctx context.Context, t chat.Thread) (SaveThread, error) {
	const op = store.OpSaveThread
	n, err := t.Normalized()
	if err != nil {
		return SaveThread{}, asked(op, err)
	}
	mode, err := saveMode(ctx, op, store.RowThread, n.ID)
	if err != nil {
		return SaveThread{}, err
	}
	cond, err := c.condition(ctx, op, store.RowThread, n.ID, n.ID)
	if err != nil {
		return SaveThread{}, err
	}
	return SaveThread{n, mode, cond}, nil
}

// SaveItem checks a call of AddThreadItem or SaveItem, as op says.
func (c Checks) SaveItem(ctx context.Context, op store.Op, threadID string, it chat.Item) (SaveItem, error) {
	n, err := it.Normalized(threadID)
	if err != nil {
		return SaveItem{}, asked(op, err)
	}
	mode := store.InsertOnly // AddThreadItem ignores the context's save mode
	if op != store.OpAddThreadItem {
		if mode, err = saveMode(ctx, op, store.RowItem, n.ID); err != nil {
			return SaveItem{}, err
		}
	}
	cond, err := c.condition(ctx, op, store.RowItem, n.ID, threadID)
	if err != nil {
		return SaveItem{}, err
	}
	return SaveItem{n, mode, cond}, nil
}

// SaveAttachment checks a call of SaveAttachment.
func (c Checks) SaveAttachment(ctx context.Context, a chat.Attachment) (SaveAttachment, error) {
	const op = store.OpSaveAttachment
	n, err := a.Normalized()
	if err != nil {
		return SaveAttachment{}, asked(op, err)
	}
	mode, err := saveMode(ctx, op, store.RowAttachment, n.ID)
	if err != nil {
		return SaveAttachment{}, err
	}
	if _, err := c.condition(ctx, op, store.RowAttachment, n.ID, ""); err != nil {
		return SaveAttachment{}, err
	}
	return SaveAttachment{n, mode}, nil
}

func saveMode(ctx context.Context, op store.Op, kind, id string) (store.SaveMode, error) {
	mode := store.SaveModeFrom(ctx)
	if mode > store.UpdateOnly {
		return 0, refuse(op, kind, id, "save mode: unknown")
	}
	return mode, nil
}

// condition returns the condition of a write in threadID, which is "" for an attachment. Then it looks at the context's end,
// as the last check of every write.
func (c Checks) condition(ctx context.Context, op store.Op, kind, id, threadID string) (Condition, error) {
	if cond := callctx.Of(ctx).If; cond.Set {
		switch {
		case !c.Versions:
			return Condition{}, refuse(op, kind, id, rules.FieldIfVersion+": this store keeps no versions")
		case threadID == "":
			return Condition{}, refuse(op, kind, id, rules.FieldIfVersion+": attachments have no version")
		case threadID != cond.ThreadID:
			return Condition{}, refuse(op, kind, id, rules.FieldIfVersion+": another thread's version")
		}
		return Condition{cond.Version, true}, Done(ctx, op, kind, id)
	}
	return Condition{}, Done(ctx, op, kind, id)
}

// Done returns nil if ctx is not done. Otherwise its error has CodeCanceled or CodeTimeout and wraps the context's error,
// its cause, and [store.ErrNotApplied]. Call it only before the call has had any effect.
func Done(ctx context.Context, op store.Op, kind, id string) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	e := &store.Error{Op: op, Kind: kind, ID: id, Code: store.CodeCanceled}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Code = store.CodeTimeout
	}
	if cause := context.Cause(ctx); cause != nil && cause != err {
		e.Cause = errors.Join(err, store.ErrNotApplied, cause)
	} else {
		e.Cause = errors.Join(err, store.ErrNotApplied)
	}
	return e
}

func checkID(op store.Op, kind, id string) error {
	if fault := rules.IDFault(id); fault != "" {
		return refuse(op, kind, id, rules.Under("id", fault))
	}
	return nil
}

func checkItem(op store.Op, threadID, itemID string) error {
	if err := checkID(op, store.RowThread, threadID); err != nil {
		return err
	}
	return checkID(op, store.RowItem, itemID)
}

func pageQuery(op store.Op, kind string, q store.PageQuery) (store.PageQuery, error) {
	switch {
	case q.Limit < 0:
		return store.PageQuery{}, refuse(op, kind, "", "limit: negative")
	case q.Limit == 0:
		q.Limit = store.DefaultLimit
	case q.Limit > store.MaxLimit:
		q.Limit = store.MaxLimit
	}
	if q.Order > store.OldestFirst {
		return store.PageQuery{}, refuse(op, kind, "", "order: unknown")
	}
	if q.After != "" {
		if fault := rules.IDFault(q.After); fault != "" {
			return store.PageQuery{}, refuse(op, kind, q.After, rules.Under("after", fault))
		}
	}
	return q, nil
}

// asked converts the error of a value into an error of the call.
func asked(op store.Op, err error) error {
	e, _ := errors.AsType[*chat.Error](err)
	return refuse(op, e.Kind, e.ID, e.Field)
}

func refuse(op store.Op, kind, id, fault string) error {
	return &store.Error{Op: op, Kind: kind, ID: id, Code: store.CodeInvalid, Field: fault}
}
