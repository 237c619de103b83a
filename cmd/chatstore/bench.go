package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

type benchCmd struct {
	URL     databaseURL `arg:"" help:"The database. The command adds threads of an owner of its own, and deletes them. Their ids stay used."`
	Turns   int         `help:"Turns in each thread." default:"20"`
	Threads int         `help:"Threads." default:"10"`
}

// measured has the results of one stack.
type measured struct {
	Stack string    `json:"stack"`
	Calls []latency `json:"calls"`
	Turn  float64   `json:"turn_us"`        // the sum of the medians
	Reads float64   `json:"reads_per_turn"` // of the base
}

type latency struct {
	Call string  `json:"call"`
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
}

func (c *benchCmd) Validate() error {
	if c.Turns < 1 || c.Threads < 1 {
		return errors.New("--turns and --threads must be positive")
	}
	return nil
}

func (c *benchCmd) Run(ctx context.Context, a *app) error {
	guard := authz.New(authz.OwnerOnly(), authz.ShareBelow())
	var all []measured
	text := fmt.Sprintf("%-16s %-24s %10s %10s", "stack", "call", "p50 ms", "p99 ms")
	for _, stack := range []struct {
		name   string
		layers []store.Middleware
	}{{"authz", []store.Middleware{guard}}, {"authz and cache", []store.Middleware{guard, cache.New()}}} {
		m, err := c.measure(ctx, a, stack.layers)
		if err != nil {
			return err
		}
		m.Stack = stack.name
		all = append(all, m)
		for _, l := range m.Calls {
			text += fmt.Sprintf("\n%-16s %-24s %10.3f %10.3f", m.Stack, l.Call, l.P50/1000, l.P99/1000)
		}
	}
	text += fmt.Sprintf("\na typical turn: %.1f ms and %.1f reads without the cache, %.1f ms and %.1f with it",
		all[0].Turn/1000, all[0].Reads, all[1].Turn/1000, all[1].Reads)
	a.print(map[string]any{"stacks": all}, text)
	return nil
}

// measure makes turns through the layers, one after the other, on threads of an owner that nobody else has.
func (c *benchCmd) measure(ctx context.Context, a *app, layers []store.Middleware) (m measured, err error) {
	base, err := a.open(ctx, c.URL)
	if err != nil {
		return m, err
	}
	reads := 0
	s := store.Wrap(base, append(layers, layer.Intercept("count", layer.InterceptorFunc(
		func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
			if !call.Op.IsWrite() {
				reads++
			}
			return next(ctx)
		})))...)
	owner := chat.Owner{Tenant: "chatstore-bench-" + rand.Text(), Subject: "bench"}
	var threads []string
	defer func() {
		for _, id := range threads {
			err = errors.Join(err, base.DeleteThread(context.WithoutCancel(ctx), id))
		}
		err = errors.Join(err, store.Close(s))
	}()
	ctx = store.WithPrincipal(ctx, store.Principal{Owner: owner})
	times := map[string][]time.Duration{}
	var names []string
	timed := func(name string, f func() error) {
		begun := time.Now()
		if err == nil {
			err = f()
		}
		if times[name] == nil {
			names = append(names, name)
		}
		times[name] = append(times[name], time.Since(begun))
	}
	for range c.Threads {
		t := chat.Thread{ID: s.GenerateThreadID(ctx), Title: "bench", CreatedAt: time.Now(), Owner: owner}
		threads = append(threads, t.ID)
		if err := s.SaveThread(ctx, t); err != nil {
			return m, err
		}
		add := func(kind chat.ItemKind, content chat.Body) func() error {
			return func() error {
				it, err := chat.NewItem(s.GenerateItemID(ctx, kind, t), time.Now(), content)
				if err != nil {
					return err
				}
				return s.AddThreadItem(ctx, t.ID, it)
			}
		}
		text := strings.Repeat("And then? ", 20)
		reads0 := reads
		for range c.Turns {
			timed("load the thread", func() error { _, err := s.LoadThread(ctx, t.ID); return err })
			timed("add the user's message", add(chat.KindMessage, chat.UserMessage{Content: []chat.UserContent{{Text: text}}}))
			timed("load the newest 20 items", func() error {
				_, err := s.LoadThreadItems(ctx, t.ID, store.PageQuery{Limit: 20})
				return err
			})
			timed("add the answer", add(chat.KindMessage, chat.AssistantMessage{Content: []chat.AssistantContent{{Text: text}}}))
			if err != nil {
				return m, err
			}
		}
		m.Reads += float64(reads-reads0) / float64(c.Turns*c.Threads)
	}
	micros := func(d time.Duration) float64 { return float64(d) / 1000 }
	for _, name := range names {
		slices.Sort(times[name])
		n := len(times[name])
		m.Turn += micros(times[name][n/2])
		m.Calls = append(m.Calls, latency{name, micros(times[name][n/2]), micros(times[name][n*99/100])})
	}
	return m, nil
}
