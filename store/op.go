package store

// Op names one of the twelve calls that read or write. The two id generators are not ops: they pass through every layer
// unobserved.
type Op uint8

// The ops, in the order of the Store's methods.
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

// NumOps is one more than the highest Op, for tables indexed by Op.
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

// Ops returns the twelve ops.
func Ops() []Op {
	ops := make([]Op, 0, NumOps-1)
	for op := OpLoadThread; op <= OpDeleteAttachment; op++ {
		ops = append(ops, op)
	}
	return ops
}

// String returns the word used in spans, labels and logs, such as "load_thread".
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return opNames[0]
}

// IsWrite reports whether the op changes what is stored.
func (o Op) IsWrite() bool {
	switch o {
	case OpSaveThread, OpDeleteThread, OpAddThreadItem, OpSaveItem, OpDeleteThreadItem, OpSaveAttachment, OpDeleteAttachment:
		return true
	}
	return false
}
