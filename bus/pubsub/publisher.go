package pubsub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/store"
)

// maxBatch limits the changes in one message.
const maxBatch = 128

// publisher sends changes, one message at a time, in the order of their numbers. Changes that arrive during a sending form
// the next message. A change that is given up uses a number, so that receivers see a gap.
type publisher struct {
	id       string
	send     func(ctx context.Context, payload string) error
	sendTime time.Duration // limit for one sending
	waitTime time.Duration // limit for a change until it is sent

	mu      sync.Mutex
	queue   []*pending
	given   uint64 // last number given out
	sending bool   // the message with the number sent+1 is being sent
	sent    uint64 // the number in heartbeats: messages up to it have been sent or are lost
	closed  bool
	work    chan struct{} // has an element if the queue may have changed
}

type pending struct {
	change bus.Change
	done   chan error // buffered
}

func newPublisher(id string, beat time.Duration, send func(context.Context, string) error) *publisher {
	return &publisher{id: id, send: send, sendTime: beat, waitTime: 2 * beat, work: make(chan struct{}, 1)}
}

// settled returns the last number whose message was sent or lost.
func (p *publisher) settled() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

func (p *publisher) signal() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

func unavailable(what string, cause error) error {
	if cause == nil {
		return fmt.Errorf("pubsub: %s: %w", what, store.ErrUnavailable)
	}
	return fmt.Errorf("pubsub: %s: %w: %w", what, store.ErrUnavailable, cause)
}

func (p *publisher) publish(ctx context.Context, c bus.Change) error {
	if err := checkChange(c); err != nil {
		return err
	}
	e := &pending{c, make(chan error, 1)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return unavailable("publish on a closed bus", nil)
	}
	p.queue = append(p.queue, e)
	p.mu.Unlock()
	p.signal()
	ctx, cancel := context.WithTimeout(ctx, p.waitTime)
	defer cancel()
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.queue, e); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
		p.spend()
	}
	p.mu.Unlock()
	select {
	case err := <-e.done: // sent at the last moment
		return err
	default:
		return unavailable("publish", ctx.Err())
	}
}

// spend uses a number without a message. The caller holds p.mu.
func (p *publisher) spend() {
	p.given++
	if !p.sending {
		p.sent = p.given
	}
}

// run sends until close is called and the queue is empty. The end of ctx ends the current sending.
func (p *publisher) run(ctx context.Context) {
	for range p.work {
		for {
			batch, payload, closed, err := p.take()
			if closed {
				return
			}
			if len(batch) == 0 {
				break
			}
			if err == nil {
				sendCtx, cancel := context.WithTimeout(ctx, p.sendTime)
				err = p.send(sendCtx, payload)
				cancel()
			}
			if err != nil {
				err = unavailable("publish", err)
			}
			p.mu.Lock()
			p.sending, p.sent = false, p.given
			p.mu.Unlock()
			for _, e := range batch {
				e.done <- err
			}
		}
	}
}

// take returns the next batch, which may be empty. closed reports that there will be no further batch.
func (p *publisher) take() (batch []*pending, payload string, closed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, "", p.closed, nil
	}
	n := min(len(p.queue), maxBatch)
	batch = slices.Clone(p.queue[:n])
	p.queue = slices.Delete(p.queue, 0, n)
	p.given++
	p.sending = true
	m := message{Publisher: p.id, Number: p.given}
	for _, e := range batch {
		m.Changes = append(m.Changes, e.change)
	}
	payload, err = encode(m)
	return batch, payload, false, err
}

// close accepts no more changes. run returns when the queue is empty.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.signal()
}
