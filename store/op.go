package store

// Op is one of the twelve calls that read or write. The two methods that generate ids have no Op; layers pass them on
// unobserved.
type Op uint8

// The ops, in the order of Store's methods.
const (
	OpLoadThread Op = iota + 1
	OpSaveThread
	OpDeleteThread
	OpLoadThreads
	OpLoadThreadItems
	OpAddThreadItem
	OpSaveItem
	OpLoadItem
	OpDeleteThreadItem
	OpSaveAttachment
	OpLoadAttachment
	OpDeleteAttachment
)

// NumOps is the highest Op plus one. Use it to size tables indexed by Op.
const NumOps = int(OpDeleteAttachment) + 1

var opNames = [NumOps]string{
	0:                  "unknown",
	OpLoadThread:       "load_thread",
	OpSaveThread:       "save_thread",
	OpDeleteThread:     "delete_thread",
	OpLoadThreads:      "load_threads",
	OpLoadThreadItems:  "load_thread_items",
	OpAddThreadItem:    "add_thread_item",
	OpSaveItem:         "save_item",
	OpLoadItem:         "load_item",
	OpDeleteThreadItem: "delete_thread_item",
	OpSaveAttachment:   "save_attachment",
	OpLoadAttachment:   "load_attachment",
	OpDeleteAttachment: "delete_attachment",
}

// Ops returns all twelve ops.
func Ops() []Op {
	ops := make([]Op, 0, NumOps-1)
	for op := OpLoadThread; op <= OpDeleteAttachment; op++ {
		ops = append(ops, op)
	}
	return ops
}

// String returns the op's name in spans, metrics and logs, such as "load_thread".
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return opNames[0]
}

// IsWrite reports whether the op changes stored data.
func (o Op) IsWrite() bool {
	switch o {
	case OpSaveThread, OpDeleteThread, OpAddThreadItem, OpSaveItem, OpDeleteThreadItem, OpSaveAttachment, OpDeleteAttachment:
		return true
	}
	return false
}
