package lifecycle

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/chat"
)

// Option changes what the functions of this package do. Each function names the options that it takes.
type Option func(*config)

type config struct {
	attachments bool
	conflicts   Conflict
	owners      func(chat.Owner) chat.Owner
	inactive    time.Duration
	newest      int
	hold        func(context.Context, chat.Thread) (bool, error)
	dryRun      bool
	pause       time.Duration
	part, parts int
	progress    func(Counts)
	journal     string
	parallel    int
	fence       func(context.Context) error
}

// WithoutAttachments leaves attachments out: for a store that cannot list them, such as one behind a guard.
func WithoutAttachments() Option { return func(c *config) { c.attachments = false } }

// WithProgress makes a function call f after each thread and each page of attachments. f gets the numbers of rows that were looked at
// so far. Calls do not overlap. Copy counts anew in each pass.
func WithProgress(f func(Counts)) Option { return func(c *config) { c.progress = f } }

// tell calls the function of WithProgress.
func (c *config) tell(looked Counts) {
	if c.progress != nil {
		c.progress(looked)
	}
}
