package pubsub

import "time"

// maxPeers bounds the publishers that are remembered.
const maxPeers = 10_000

// peers are the publishers that a connection has heard of.
type peers struct {
	lease time.Duration
	by    map[string]peer
	// check is when to look for silent ones: none has been silent for the lease before.
	check time.Time
}

type peer struct {
	last  uint64 // its highest number
	heard time.Time
}

// verdict is what a message says about those that should have come before it.
type verdict uint8

const (
	complete verdict = iota
	missed           // some did not come
	unknown          // some may have been sent before the publisher was heard of
)

// heed follows a publisher's numbers.
func (p *peers) heed(m message, now time.Time) (v verdict) {
	if m.Publisher == "" {
		return complete
	}
	before := m.Number // the number that must have come before
	if len(m.Changes) > 0 {
		before--
	}
	known, ok := p.by[m.Publisher]
	switch {
	case !ok && before > 0:
		v = unknown
	case !ok:
	case len(m.Changes) > 0 && before != known.last: // a number that comes again is not a publisher's to send either
		v = missed
	case before > known.last:
		v = missed
	}
	if m.Goodbye {
		delete(p.by, m.Publisher)
		return v
	}
	if !ok && len(p.by) >= maxPeers {
		clear(p.by)
		v = missed // as good as: nothing is known of them any more
	}
	p.by[m.Publisher] = peer{max(known.last, m.Number), now}
	if len(p.by) == 1 {
		p.check = now.Add(p.lease)
	}
	return v
}

// silent forgets the publishers that have said nothing for as long as the lease, and reports whether there were any.
func (p *peers) silent(now time.Time) (any bool) {
	if now.Before(p.check) {
		return false
	}
	p.check = now.Add(p.lease)
	for id, one := range p.by {
		switch until := one.heard.Add(p.lease); {
		case !now.Before(until):
			delete(p.by, id)
			any = true
		case until.Before(p.check):
			p.check = until
		}
	}
	return any
}
