package pubsub

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

var errNothingBack = errors.New("pubsub: the connection is open, but no heartbeat comes back")

// session is one connection, from Connect to Close.
type session struct {
	bus  *Bus
	conn Conn
	name string // in the heartbeats of this connection only

	beat     uint64 // number of the last heartbeat sent
	beats    []beat // heartbeats that have not come back
	nextBeat time.Time
	proof    time.Time // when the newest returned heartbeat was sent; before the first, when the connection was made
	up       bool      // subscribers know that they are connected, and there was a lease

	peers   peers
	settled time.Time // end of a grace period after connecting; new publishers in it cause one drop at its end
	drop    time.Time // when to drop everything because of a new publisher; zero if there is none
}

type beat struct {
	number uint64
	sent   time.Time
}

// connection connects and receives until an error, which it returns. up reports whether there was a lease.
func (b *Bus) connection(ctx context.Context) (up bool, err error) {
	connectCtx, cancel := context.WithTimeout(ctx, connectTime)
	conn, err := b.transport.Connect(connectCtx)
	cancel()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	b.stats.connections.Add(1)
	now := time.Now()
	s := &session{bus: b, conn: conn, name: rand.Text(), nextBeat: now, proof: now,
		peers: peers{lease: b.lease, by: make(map[string]peer), check: now.Add(b.lease)}}
	why := byConnection
	defer func() { s.down(why) }()
	for {
		up = up || s.up
		if err := s.due(ctx, time.Now()); err != nil {
			return up, err
		}
		receiveCtx, cancel, ok := b.receiveContext(ctx, s.nextDue())
		if !ok { // there is a new subscriber
			continue
		}
		payload, err := conn.Receive(receiveCtx)
		ended := receiveCtx.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return up, ctx.Err()
		case err != nil && ended:
			continue
		case err != nil:
			return up, err
		}
		if err := s.handle(payload, time.Now()); err != nil {
			why = byPayload
			return up, err
		}
	}
}

// receiveContext returns the context for one Receive. ok is false if a new subscriber must be called first.
func (b *Bus) receiveContext(ctx context.Context, until time.Time) (_ context.Context, cancel context.CancelFunc, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.greet {
		return nil, nil, false
	}
	ctx, cancel = context.WithDeadline(ctx, until)
	b.wake = cancel
	return ctx, cancel, true
}

func (b *Bus) takeGreet() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.greet
	b.greet = false
	return was
}

// due does everything that is due at now.
func (s *session) due(ctx context.Context, now time.Time) error {
	b := s.bus
	s.lapse(now)
	if !now.Before(s.proof.Add(2 * b.lease)) {
		return errNothingBack
	}
	if s.peers.silent(now) {
		s.dropAll(bySilence)
	}
	if !s.drop.IsZero() && !now.Before(s.drop) {
		s.dropAll(byStranger)
	}
	if b.takeGreet() && s.up {
		b.tell(true)
	}
	if now.Before(s.nextBeat) {
		return nil
	}
	s.beat++
	payload, err := encode(message{Publisher: b.publisher.id, Number: b.publisher.settled(), Beat: s.beat, Conn: s.name})
	if err != nil {
		return err
	}
	sent := time.Now() // before the sending: the lease counts from here
	s.beats = append(s.beats, beat{s.beat, sent})
	s.nextBeat = sent.Add(b.beat)
	sendCtx, cancel := context.WithTimeout(ctx, b.beat)
	defer cancel()
	return s.conn.Send(sendCtx, payload)
}

// nextDue returns the time of the next call of due.
func (s *session) nextDue() time.Time {
	next := s.nextBeat
	consider := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	consider(s.proof.Add(2 * s.bus.lease))
	consider(s.peers.check)
	if s.up {
		consider(s.proof.Add(s.bus.lease))
	}
	if !s.drop.IsZero() {
		consider(s.drop)
	}
	return next
}

// handle handles one payload.
func (s *session) handle(payload string, now time.Time) error {
	m, err := decode(payload)
	if err != nil {
		return err
	}
	switch s.peers.follow(m, now) {
	case missed:
		s.dropAll(byGap)
	case unknown:
		// After connecting, the publishers appear one by one. One drop is enough for all of them.
		if s.up && s.drop.IsZero() {
			s.drop = later(now, s.settled)
		}
	}
	s.bus.deliver(m.Changes)
	if m.Beat != 0 && m.Publisher == s.bus.publisher.id && m.Conn == s.name {
		s.back(m.Beat)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// back renews the lease after a heartbeat of this connection has come back.
func (s *session) back(number uint64) {
	for i, one := range s.beats {
		if one.number != number {
			continue
		}
		s.lapse(time.Now()) // first, because the new proof would hide the end of the old lease
		s.proof = one.sent
		s.beats = append(s.beats[:0], s.beats[i+1:]...) // earlier ones are lost or late
		now := time.Now()
		switch end := s.proof.Add(s.bus.lease); {
		case !now.Before(end): // too late
		case s.up:
			s.bus.tell(true) // subscribers that had failed
			s.bus.setLease(end)
		default:
			s.rise(now)
		}
		return
	}
}

// rise makes the subscribers drop everything and serve. Changes published before the connection was made are in the base by
// now. Changes published since then come through the connection.
func (s *session) rise(now time.Time) {
	s.up = true
	s.drop = time.Time{}
	s.settled = now.Add(s.bus.lease / 2)
	s.bus.tell(true)
	s.bus.setLease(s.proof.Add(s.bus.lease))
	s.bus.stats.connected.Store(true)
}

// down makes the subscribers bypass their caches.
func (s *session) down(why reason) {
	if !s.up {
		return
	}
	s.up = false
	s.bus.endLease() // first: it stops all subscribers at once
	s.bus.stats.connected.Store(false)
	s.bus.stats.drops[why].Add(1)
	s.bus.tell(false)
}

// lapse calls down if the lease has ended.
func (s *session) lapse(now time.Time) {
	if s.up && !now.Before(s.proof.Add(s.bus.lease)) {
		s.down(byLease)
	}
}

// dropAll makes the subscribers drop everything. The connection and the lease stay.
func (s *session) dropAll(why reason) {
	s.drop = time.Time{}
	if s.up {
		s.down(why)
		s.rise(time.Now())
	}
}
