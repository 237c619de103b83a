package resilience

import (
	"sync"
	"time"
)

// halfLife is how often the breaker halves its counts.
const halfLife = 10 * time.Second

// outcome is what the end of an attempt says about the base.
type outcome int

const (
	neutral  outcome = iota // nothing
	answered                // it works
	failed                  // it is unavailable, or too slow
)

// breaker is a circuit breaker. It opens at threshold failures, if they are at least half of the outcomes. While it is open, it
// refuses attempts. After the pause it is half-open: it lets one attempt through as a probe, and refuses others for another
// pause. A probe that hangs therefore does not keep it open. A probe that is answered closes it; one that fails begins another
// pause. A neutral probe gives its permit back: the next attempt is a probe.
type breaker struct {
	threshold int // 0 means never open
	pause     time.Duration

	mu          sync.Mutex
	isOpen      bool
	episode     uint64    // increases when the breaker opens or closes
	probe       time.Time // while open: when the next probe may begin
	turn        uint64    // increases when probe is set to a later time
	failed, all int       // while closed: outcomes that are not neutral
	halved      time.Time // when these were halved
}

// permit lets one attempt through.
type permit struct{ episode, turn uint64 }

// begin returns a permit, or false if the breaker refuses the attempt. The permit must be given to end.
func (b *breaker) begin() (permit, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isOpen {
		if time.Now().Before(b.probe) {
			return permit{}, false
		}
		b.delayProbe()
	}
	return permit{b.episode, b.turn}, true
}

// end counts the outcome of an attempt. It ignores attempts from before the breaker last opened or closed.
func (b *breaker) end(p permit, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.threshold == 0 || p.episode != b.episode:
	case !b.isOpen:
		b.count(o)
	case o == answered:
		b.change(false)
	case o == failed:
		b.delayProbe()
	case p.turn == b.turn: // no later probe has begun
		b.probe = time.Now()
	}
}

func (b *breaker) delayProbe() {
	b.probe = time.Now().Add(b.pause)
	b.turn++
}

func (b *breaker) count(o outcome) {
	now := time.Now()
	if n := min(now.Sub(b.halved)/halfLife, 62); n > 0 {
		b.failed, b.all, b.halved = b.failed>>n, b.all>>n, now
	}
	if o != neutral {
		b.all++
	}
	if o != failed {
		return
	}
	if b.failed++; b.failed >= b.threshold && 2*b.failed >= b.all {
		b.change(true)
		b.delayProbe()
	}
}

func (b *breaker) change(open bool) {
	b.isOpen, b.failed, b.all = open, 0, 0
	b.episode++
}

// state reports whether the breaker is open or half-open, and whether begin would refuse an attempt.
func (b *breaker) state() (open, refuses bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isOpen, b.isOpen && time.Now().Before(b.probe)
}

// A retry costs a token of the budget, and a call adds a tenth of one, up to maxTokens.
const (
	maxTokens = 10
	tenths    = 10
)

// budget is the retry budget. It begins full.
type budget struct {
	mu    sync.Mutex
	spent int // in tenths of a token
}

// add adds tenths of a token.
func (b *budget) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(b.spent-n, 0)
}

// take takes a token, or returns false if there is none.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok := b.spent <= (maxTokens-1)*tenths
	if ok {
		b.spent += tenths
	}
	return ok
}
