package pubsub

import "time"

// maxPeers limits the number of remembered publishers.
const maxPeers = 10_000

// peers are the publishers known to a connection.
type peers struct {
	lease time.Duration
	by    map[string]peer
	// check is the time of the next look for silent publishers. No publisher can have been silent for a lease before.
	check time.Time
}

type peer struct {
	last  uint64 // highest number
	heard time.Time
}

// verdict says whether earlier messages of a publisher are missing.
type verdict uint8

const (
	complete verdict = iota
	missed           // some messages did not arrive
	unknown          // a new publisher has already sent messages
)

// follow checks a message's number against the earlier ones of its publisher.
func (p *peers) follow(m message, now time.Time) (v verdict) {
	if m.Publisher == "" {
		return complete
	}
	before := m.Number // the number before this message
	if len(m.Changes) > 0 {
		before--
	}
	known, ok := p.by[m.Publisher]
	switch {
	case !ok && before > 0:
		v = unknown
	case !ok:
	case len(m.Changes) > 0 && before != known.last: // a repeated number is an error too
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
		v = missed // what these publishers miss is no longer known
	}
	p.by[m.Publisher] = peer{max(known.last, m.Number), now}
	if len(p.by) == 1 {
		p.check = now.Add(p.lease)
	}
	return v
}

// silent removes the publishers that have been silent for a lease, and reports whether there were any.
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
