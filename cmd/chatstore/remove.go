package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore"
)

type eraseCmd struct {
	database
	Owner   owner    `help:"Whose rows: TENANT/SUBJECT, or SUBJECT without a tenant." placeholder:"T/S" required:""`
	Receipt nonEmpty `help:"File to which the receipt is added, as a line of JSON. It does not name the owner." placeholder:"FILE" required:""`
	Yes     bool     `help:"Do not ask."`
}

func (c *eraseCmd) Run(ctx context.Context, a *app, s *sqlstore.Store) error {
	if !c.Yes {
		if !isTerminal(a.stdin) {
			return errors.New("erase asks on a terminal: give --yes without one")
		}
		if err := c.ask(ctx, a); err != nil {
			return err
		}
	}
	file, err := appending(string(c.Receipt)) // before rows are gone
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if least := s.LongestWrite(); least > 0 {
		_, _ = fmt.Fprintf(a.stderr, "erasing; this takes at least %v, for writes under way\n", least)
	}
	r, err := lifecycle.Erase(ctx, s, chat.Owner(c.Owner))
	receipt := struct {
		Complete bool `json:"complete"`
		lifecycle.Receipt
	}{err == nil, r}
	line, _ := json.Marshal(receipt)
	if _, failed := file.Write(append(line, '\n')); failed != nil {
		return errors.Join(err, fmt.Errorf("the receipt was not written: %w", failed))
	}
	text := fmt.Sprintf("erased %d threads and %d attachments, and the name from %d ids of deleted rows",
		r.Erased.Threads, r.Erased.Attachments, r.Deleted)
	something := r.Erased.Threads+r.Erased.Attachments+r.Deleted > 0
	if !something {
		text = "nothing was found of this owner"
	}
	if err == nil {
		text += "\nnot looked for:\n  " + strings.Join(r.NotFound, "\n  ")
	}
	if err == nil || something {
		a.print(receipt, text)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w; run the same erase again", err)
	}
	return err
}

// ask asks for the owner's name.
func (c *eraseCmd) ask(ctx context.Context, a *app) error {
	_, _ = fmt.Fprintf(a.stderr, "Erase all rows of tenant %q, subject %q in this database for ever? Type the subject: ", c.Owner.Tenant, c.Owner.Subject)
	typed := make(chan string, 1)
	go func() { // reading has no context
		answer, _ := bufio.NewReader(a.stdin).ReadString('\n')
		typed <- strings.TrimRight(answer, "\r\n")
	}()
	select {
	case answer := <-typed:
		if answer == c.Owner.Subject {
			return nil
		}
	case <-ctx.Done():
	}
	return errors.New("nothing was erased")
}

type pruneCmd struct {
	database
	filter

	Inactive           *time.Duration `help:"Delete the threads without an item for so long, such as 720h." xor:"a" placeholder:"TIME"`
	Newest             *int           `help:"Delete all threads of each owner but the newest N." xor:"a" placeholder:"N"`
	UnnamedAttachments *time.Duration `help:"Instead of threads, delete attachments that no message names: neither now nor after this time, for which the command waits." xor:"a" placeholder:"TIME"`
	DryRun             bool           `help:"Count, and delete nothing."`
	Pause              time.Duration  `help:"Wait so long after each hundred threads." placeholder:"TIME"`
	Hold               nonEmpty       `help:"File with the ids of threads to keep, one a line." placeholder:"FILE"`
}

func (c *pruneCmd) Validate() error {
	switch {
	case c.Inactive == nil && c.Newest == nil && c.UnnamedAttachments == nil:
		return errors.New("give --inactive, --newest or --unnamed-attachments")
	case c.UnnamedAttachments != nil && c.Hold != "":
		return errors.New("--hold is for threads, not with --unnamed-attachments")
	case c.Newest != nil && *c.Newest < 0:
		return errors.New("--newest must not be negative")
	}
	for _, d := range []*time.Duration{c.Inactive, c.UnnamedAttachments} {
		if d != nil && *d <= 0 {
			return errors.New("--inactive and --unnamed-attachments must be positive")
		}
	}
	return nil
}

func (c *pruneCmd) Run(ctx context.Context, a *app, s *sqlstore.Store) error {
	held, err := heldIDs(string(c.Hold))
	if err != nil {
		return err
	}
	p := a.progress(ctx, nil) // most threads are not looked at
	defer p.end()
	opts := []lifecycle.Option{p.option()}
	if c.Hold != "" {
		opts = append(opts, lifecycle.WithHold(func(_ context.Context, t chat.Thread) (bool, error) { return held[t.ID], nil }))
	}
	if c.Inactive != nil {
		opts = append(opts, lifecycle.WithInactive(*c.Inactive))
	}
	if c.Pause > 0 {
		opts = append(opts, lifecycle.WithPause(c.Pause))
	}
	if c.Newest != nil {
		opts = append(opts, lifecycle.WithNewest(*c.Newest))
	}
	if c.DryRun {
		opts = append(opts, lifecycle.WithDryRun())
	}
	var done lifecycle.Pruned
	if c.UnnamedAttachments != nil {
		done, err = lifecycle.PruneAttachments(ctx, s, c.owners(), *c.UnnamedAttachments, opts...)
	} else {
		done, err = lifecycle.Prune(ctx, s, c.owners(), opts...)
	}
	p.end()
	verb := map[bool]string{true: "would delete", false: "deleted"}[c.DryRun]
	if err == nil || done != (lifecycle.Pruned{}) {
		a.print(map[string]any{"deleted": done.Deleted, "held": done.Held, "changed": done.Changed, "dry_run": c.DryRun},
			fmt.Sprintf("%s %d, held %d, kept %d that changed meanwhile", verb, done.Deleted, done.Held, done.Changed))
	}
	return err
}
