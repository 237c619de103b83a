package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore"
)

// progress shows how far a command is: on a terminal in one line that it rewrites, else in a line a minute.
type progress struct {
	w           io.Writer
	terminal    bool
	begun, last time.Time // begun is zero before the first call of show
	first       lifecycle.Counts
	done        int64
	total       atomic.Int64 // threads and attachments; 0 while it is not known
	cancel      context.CancelFunc
	counting    sync.WaitGroup
}

// progress returns a progress. If the command reads all rows of s, these are counted meanwhile, for the time left.
func (a *app) progress(ctx context.Context, s *sqlstore.Store) *progress {
	p := &progress{w: a.stderr, terminal: isTerminal(a.stderr), last: time.Now()}
	ctx, p.cancel = context.WithCancel(ctx)
	if s != nil {
		p.counting.Go(func() {
			if z, err := s.Size(ctx); err == nil {
				p.total.Store(z.Threads + z.Attachments)
			}
		})
	}
	return p
}

func (p *progress) option() lifecycle.Option { return lifecycle.WithProgress(p.show) }

func (p *progress) show(c lifecycle.Counts) {
	every := time.Minute
	if p.terminal {
		every = 200 * time.Millisecond
	}
	now := time.Now()
	// What the command does before it has rows tells nothing of its rate, nor does another pass.
	done := c.Threads + c.Attachments
	if p.begun.IsZero() || done < p.done {
		p.begun, p.first = now, c
	}
	p.done = done
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	spent := now.Sub(p.begun)
	since := done - p.first.Threads - p.first.Attachments
	text := counts(c)
	if rate := float64(since+c.Items-p.first.Items) / spent.Seconds(); since > 0 && spent > 0 {
		text += fmt.Sprintf(", %.0f rows/s", rate)
	}
	if total := p.total.Load(); since > 0 && total > 0 {
		left := time.Duration(float64(spent) * float64(max(0, total-done)) / float64(since))
		text += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\033[K"+text)
	} else {
		_, _ = fmt.Fprintln(p.w, text)
	}
}

// end ends the counting and clears the line.
func (p *progress) end() {
	p.cancel()
	p.counting.Wait()
	p.clear()
}

// clear clears the line.
func (p *progress) clear() {
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\033[K")
	}
}

func counts(c lifecycle.Counts) string {
	return fmt.Sprintf("%d threads, %d items, %d attachments", c.Threads, c.Items, c.Attachments)
}
