package resilience

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheBreakerKeepsItsRulesInRandomHistories makes random attempts that overlap, with random outcomes and pauses between them.
func TestTheBreakerKeepsItsRulesInRandomHistories(t *testing.T) {
	const pause = 5 * time.Second
	opened, closed, probes := 0, 0, 0
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			b := &breaker{threshold: 1 + r.IntN(6), pause: pause}
			bad := 0.2 + 0.6*r.Float64() // share of failures
			var (
				running    []permit
				isOpen     bool
				episode    uint64
				last       permit    // the last probe
				began      time.Time // its begin
				returned   bool      // it gave its permit back
				counted    int       // outcomes of this episode that count
				failures   int       // failures among these
				lastHalved time.Time
			)
			for step := range 400 {
				switch k := r.IntN(10); {
				case k < 4: // begin
					now := time.Now()
					p, ok := b.begin()
					switch {
					case !isOpen && !ok:
						t.Fatalf("step %d: a closed breaker refuses", step)
					case isOpen && ok && now.Sub(began) < pause && !returned:
						t.Fatalf("step %d: a second attempt %v after the last probe, or after the breaker opened", step, now.Sub(began))
					case isOpen && !ok && (now.Sub(began) >= pause || returned):
						t.Fatalf("step %d: refuses a probe %v after the last, given back: %v", step, now.Sub(began), returned)
					}
					if ok {
						running = append(running, p)
						if isOpen {
							probes++
							last, began, returned = p, now, false
						}
					}
				case k < 8 && len(running) > 0: // end
					i := r.IntN(len(running))
					p := running[i]
					running = append(running[:i], running[i+1:]...)
					o := answered
					if x := r.Float64(); x < bad {
						o = failed
					} else if r.IntN(3) == 0 {
						o = neutral
					}
					now := time.Now()
					mustOpen := false
					if current := p.episode == episode; current && !isOpen {
						if n := now.Sub(lastHalved) / halfLife; n > 0 {
							for range min(n, 40) {
								failures, counted = failures/2, counted/2
							}
							lastHalved = now
						}
						if o != neutral {
							counted++
						}
						if o == failed {
							failures++
							mustOpen = failures >= b.threshold && failures*2 >= counted
						}
					}
					b.end(p, o)
					switch now, was := b.isOpen, isOpen; {
					case was != now && p.episode != episode:
						t.Fatalf("step %d: an attempt from before opened or closed the breaker", step)
					case !was && now != mustOpen:
						t.Fatalf("step %d: open is %v with %d failures of %d, threshold %d", step, now, failures, counted, b.threshold)
					case was && now == (o == answered && p.episode == episode):
						t.Fatalf("step %d: open is %v after a probe with outcome %v", step, now, o)
					}
					switch {
					case p.episode != episode:
					case isOpen != b.isOpen:
						if isOpen = b.isOpen; isOpen {
							opened++
						} else {
							closed++
						}
						episode++
						failures, counted, began, returned = 0, 0, now, false
					case isOpen && o == failed:
						began, returned, last = now, false, permit{} // as if a probe had begun
					case isOpen && p == last:
						returned = o == neutral
					}
				default:
					time.Sleep(time.Duration(r.Int64N(int64(pause)))) // less than a pause
				}
			}
			// However the history was, the breaker is not wedged.
			time.Sleep(pause)
			if p, ok := b.begin(); !ok {
				t.Error("refuses after a pause")
			} else if b.end(p, answered); b.isOpen {
				t.Error("does not close when the base answers")
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if opened < 300 || closed < 300 || probes < 1000 {
		t.Errorf("opened %d times, closed %d times, %d probes: too few to prove anything", opened, closed, probes)
	}
}

func TestOldFailuresDoNotOpenTheBreaker(t *testing.T) {
	for _, tt := range []struct {
		apart time.Duration // between two failures
		opens bool
	}{{time.Second, true}, {11 * time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			b := &breaker{threshold: 10, pause: time.Second}
			for range 30 {
				if p, ok := b.begin(); ok {
					b.end(p, failed)
				}
				if b.isOpen {
					break
				}
				time.Sleep(tt.apart)
			}
			if b.isOpen != tt.opens {
				t.Errorf("failures %v apart: open is %v", tt.apart, b.isOpen)
			}
		})
	}
}

// A base that fails rarely is not cut off, however many calls it gets.
func TestTheBreakerOpensOnlyIfHalfOfTheAttemptsFail(t *testing.T) {
	for _, tt := range []struct {
		every int // the failure
		opens bool
	}{{2, true}, {3, false}} {
		b := &breaker{threshold: 10, pause: time.Second}
		for i := range 1000 {
			p, _ := b.begin()
			o := answered
			if i%tt.every == tt.every-1 {
				o = failed
			}
			b.end(p, o)
		}
		if b.isOpen != tt.opens {
			t.Errorf("every failure number %d: open is %v", tt.every, b.isOpen)
		}
	}
}

// A probe that hangs, in a base without a time limit, must not keep the breaker open.
func TestAHangingProbeIsFollowedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{threshold: 1, pause: time.Second}
		p, _ := b.begin()
		b.end(p, failed)
		time.Sleep(time.Second)
		hangs, ok := b.begin()
		if _, second := b.begin(); !ok || second {
			t.Fatalf("the first probe begins: %v, a second at once: %v", ok, second)
		}
		time.Sleep(time.Second)
		next, ok := b.begin()
		if !ok {
			t.Fatal("no probe after one that hangs")
		}
		b.end(hangs, neutral) // is no longer the last probe: its permit is gone
		if _, ok := b.begin(); ok {
			t.Error("a probe that was replaced gave a second permit back")
		}
		b.end(next, answered)
		if b.isOpen {
			t.Error("an answered probe did not close the breaker")
		}
	})
}
