package store

import "time"

type Status struct{ Type, Reason string }

type Thread struct {
	ID                  string
	Title               string
	CreatedAt           time.Time
	Status              Status
	AllowedImageDomains JSON
	Metadata            JSON
	Owner               Owner
}
