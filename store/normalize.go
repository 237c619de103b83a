package store

import "context"

const MaxIDBytes = 256

func NormalizeThread(op Op, t Thread) (Thread, error)                   { return t, nil }
func NormalizeItem(op Op, threadID string, it Item) (Item, error)       { return it, nil }
func NormalizeAttachment(op Op, a Attachment) (Attachment, error)       { return a, nil }
func NormalizeQuery(op Op, kind string, q PageQuery) (PageQuery, error) { return q, nil }
func NormalizeThreadQuery(q ThreadQuery) (ThreadQuery, error)           { return q, nil }
func CheckID(op Op, kind, id string) error                              { return nil }
func CheckContext(ctx context.Context, op Op, kind, id string) error    { return nil }
