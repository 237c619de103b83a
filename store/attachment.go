package store

type Attachment struct {
	ID       string
	ThreadID string
	Owner    Owner
}
