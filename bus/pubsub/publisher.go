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

// maxBatch bounds the changes of one message.
const maxBatch = 128

// publisher sends changes, one message at a time, so that they are sent in the order of their numbers. Changes that come
// meanwhile are one message together. A change that is given up spends a number, so that the others see a gap.
type publisher struct {
	id       string
	send     func(ctx context.Context, payload string) error
	sendTime time.Duration // for one sending
	waitTime time.Duration // for a change, to be sent

	mu      sync.Mutex
	queue   []*pending
	given   uint64 // the last number given out
	sending bool   // the message with the number sent+1 is under way
	sent    uint64 // what heartbeats say: numbers up to here have been sent, or are lost
	closed  bool
	work    chan struct{} // has an element when there may be something to do
}

type pending struct {
	change bus.Change
	done   chan error // buffered
}

func newPublisher(id string, beat time.Duration, send func(context.Context, string) error) *publisher {
	return &publisher{id: id, send: send, sendTime: beat, waitTime: 2 * beat, work: make(chan struct{}, 1)}
}

// settled returns the last number whose message has been sent or was lost.
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
	case err := <-e.done: // just now
		return err
	default:
		return unavailable("publish", ctx.Err())
	}
}

// spend gives out a number that no message will have. p.mu is held.
func (p *publisher) spend() {
	p.given++
	if !p.sending {
		p.sent = p.given
	}
}

// run sends until close is called and the queue is empty. ctx ends whatever is under way.
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

// take returns what to send next: nothing if there is nothing. closed: nor will there ever be.
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

// close takes no more changes; run returns when those it has are sent.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.signal()
}
