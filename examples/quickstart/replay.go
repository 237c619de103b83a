package main

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// server makes the calls that a ChatKit server makes. A recorded conversation takes the place of the model.
type server struct {
	store  store.Store
	tracer trace.Tracer // for the server's own spans
}

// create creates the thread and uploads the attachments of its messages.
func (s server) create(ctx context.Context, t transcript) error {
	ctx = store.WithSaveMode(ctx, store.InsertOnly)
	for _, a := range t.attachments {
		if err := s.store.SaveAttachment(ctx, a); err != nil {
			return fmt.Errorf("%s: attachment %q: %w", t.name, a.ID, err)
		}
	}
	if err := s.store.SaveThread(ctx, t.thread); err != nil {
		return fmt.Errorf("%s: the thread: %w", t.name, err)
	}
	return nil
}

// serve makes the calls of one request.
func (s server) serve(ctx context.Context, t transcript, r request) error {
	ctx, span := s.tracer.Start(ctx, "POST /chatkit ("+r.kind+")")
	defer span.End()
	thread, err := s.store.LoadThread(ctx, t.thread.ID)
	if err != nil {
		return fmt.Errorf("%s: the thread: %w", t.name, err)
	}
	steps := r.steps
	first := steps[0]
	asked := first.item.Type() == chat.TypeUserMessage
	if asked {
		err = s.link(ctx, thread, first)
	} else if first.update { // an answer of the client: load the pending question and save it with the answer
		_, err = s.newest(ctx, thread.ID, 2)
	}
	if asked || first.update {
		if err == nil {
			err = s.save(ctx, thread.ID, first)
		}
		steps = steps[1:]
	}
	if err != nil {
		return fmt.Errorf("%s: %v: %w", t.name, first, err)
	}
	if err := s.respond(ctx, thread.ID, steps); err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	if err := s.store.SaveThread(ctx, thread); err != nil {
		return fmt.Errorf("%s: the thread: %w", t.name, err)
	}
	return nil
}

// link sets the thread of a message's attachments.
func (s server) link(ctx context.Context, thread chat.Thread, message step) error {
	body, _, err := chat.DecodeItem[chat.UserMessage](message.item)
	if err != nil {
		return err
	}
	for _, sent := range body.Attachments {
		a, err := s.store.LoadAttachment(ctx, sent.ID)
		if err != nil {
			return err
		}
		a.ThreadID = thread.ID
		if err := s.store.SaveAttachment(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// respond makes the model's calls: it reads the conversation and saves the answer item by item.
func (s server) respond(ctx context.Context, threadID string, steps []step) error {
	ctx, span := s.tracer.Start(ctx, "respond")
	defer span.End()
	for _, limit := range []int{20, 2} { // the model's input, then a check for a pending tool call
		if _, err := s.newest(ctx, threadID, limit); err != nil {
			return err
		}
	}
	for _, st := range steps {
		if err := s.save(ctx, threadID, st); err != nil {
			return fmt.Errorf("%v: %w", st, err)
		}
	}
	return nil
}

func (s server) newest(ctx context.Context, threadID string, limit int) (store.Page[chat.Item], error) {
	return s.store.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: limit})
}

func (s server) save(ctx context.Context, threadID string, st step) error {
	if st.update {
		return s.store.SaveItem(store.WithSaveMode(ctx, store.UpdateOnly), threadID, st.item)
	}
	return s.store.AddThreadItem(ctx, threadID, st.item)
}

// open makes the calls of a client that opens the thread.
func (s server) open(ctx context.Context, t transcript) error {
	ctx, span := s.tracer.Start(ctx, "POST /chatkit (open)")
	defer span.End()
	if _, err := s.store.LoadThread(ctx, t.thread.ID); err != nil {
		return fmt.Errorf("%s: the thread: %w", t.name, err)
	}
	_, err := s.store.LoadThreadItems(ctx, t.thread.ID, store.PageQuery{Limit: 20, Order: store.OldestFirst})
	if err != nil {
		return fmt.Errorf("%s: the items: %w", t.name, err)
	}
	return nil
}

// turn is the cost of one request.
type turn struct {
	request string
	items   []string
	calls   tally // calls of the server
	base    tally // calls that reached the base
	plain   tally // calls that reach the base without the cache
}

// replay plays the conversation on both stacks and counts the calls.
func replay(ctx context.Context, t transcript, cached, plain *stack, tracer trace.Tracer) ([]turn, error) {
	silent := noop.NewTracerProvider().Tracer("")
	var turns []turn
	step := func(name string, items []string, call func(server) error) error {
		without, err := plain.during(func() error { return call(server{plain, silent}) })
		if err != nil {
			return err
		}
		with, err := cached.during(func() error { return call(server{cached, tracer}) })
		if err != nil {
			return err
		}
		turns = append(turns, turn{name, items, with.outer, with.inner, without.inner})
		return nil
	}
	if err := step("create the thread", nil, func(s server) error { return s.create(ctx, t) }); err != nil {
		return nil, err
	}
	for _, r := range t.requests {
		if err := step(r.kind, r.types(), func(s server) error { return s.serve(ctx, t, r) }); err != nil {
			return nil, err
		}
	}
	return turns, step("open the thread", nil, func(s server) error { return s.open(ctx, t) })
}

// fidelity is how many items of a conversation came back unchanged.
type fidelity struct {
	items, same int
	types       map[chat.ItemType]int
	changed     []string
}

// compare walks the thread through the stack and compares every item with its last state in the transcript, byte for byte.
func compare(ctx context.Context, t transcript, s store.Store) (fidelity, error) {
	want := map[string]string{}
	for _, r := range t.requests {
		for _, st := range r.steps {
			want[st.item.ID] = st.item.JSON().String()
		}
	}
	f := fidelity{items: len(want), types: map[chat.ItemType]int{}}
	q := store.PageQuery{Order: store.OldestFirst}
	for {
		p, err := s.LoadThreadItems(ctx, t.thread.ID, q)
		if err != nil {
			return f, fmt.Errorf("%s: the items: %w", t.name, err)
		}
		for _, it := range p.Data {
			f.types[it.Type()]++
			if it.JSON().String() == want[it.ID] {
				f.same++
			} else {
				f.changed = append(f.changed, it.ID)
			}
		}
		if !p.HasMore {
			return f, nil
		}
		q.After = p.After
	}
}

func (f *fidelity) add(g fidelity) {
	f.items, f.same = f.items+g.items, f.same+g.same
	f.changed = append(f.changed, g.changed...)
	for t, n := range g.types {
		f.types[t] += n
	}
}

func (t turn) itemList(width int) string {
	s := strings.Join(t.items, " ")
	for n := len(t.items); len(s) > width; {
		n--
		s = fmt.Sprintf("%s +%d", strings.Join(t.items[:n], " "), len(t.items)-n)
	}
	return s
}
