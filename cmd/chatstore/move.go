package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore"
)

type copyCmd struct {
	pair
	Journal  nonEmpty `help:"File that remembers which threads are copied, for the next call with the same source and target." placeholder:"FILE"`
	Parallel int      `help:"How many threads are copied at once." default:"4"`
	Fence    nonEmpty `help:"Shell command that stops all programs that write to the source. It runs when most rows are copied. Then copy waits for abandoned writes, makes the last pass, and verifies." placeholder:"COMMAND" xor:"last"`
	Last     bool     `help:"As --fence, when nothing writes to the source any more." xor:"last"`
}

func (c *copyCmd) Validate() error {
	if c.Parallel < 1 {
		return errors.New("--parallel must be positive")
	}
	return c.pair.Validate()
}

func (c *copyCmd) Run(ctx context.Context, a *app) error {
	from, to, err := c.open(ctx, a, a.target)
	if err != nil {
		return err
	}
	defer closeAll(from, to)
	p := a.progress(ctx, from)
	defer p.end()
	opts := append(c.options(p), lifecycle.WithParallel(c.Parallel))
	if c.Journal != "" {
		opts = append(opts, lifecycle.WithJournal(string(c.Journal)))
	}
	last := c.Last || c.Fence != ""
	if last {
		opts = append(opts, lifecycle.WithFence(func(ctx context.Context) error { return c.fence(ctx, a) }))
	}
	done, err := lifecycle.Copy(ctx, to, from, opts...)
	p.end()
	result := map[string]any{"copied": map[string]any{"saved": done.Saved, "same": done.Same, "deleted": done.Deleted}}
	if err == nil && last {
		err = a.verify(ctx, to, from, c.pair, result)
	}
	if err == nil || done != (lifecycle.Copied{}) {
		a.print(result, fmt.Sprintf("saved:   %s\nsame:    %s\ndeleted: %s", counts(done.Saved), counts(done.Same), counts(done.Deleted)))
	}
	return err
}

// fence runs the command that stops the writers.
func (c *copyCmd) fence(ctx context.Context, a *app) error {
	if c.Fence == "" {
		return nil
	}
	command := exec.CommandContext(ctx, "sh", "-c", string(c.Fence))
	command.Stdout, command.Stderr = a.stderr, a.stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("the command of --fence: %w", err)
	}
	return nil
}

type verifyCmd struct{ pair }

func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	from, to, err := c.open(ctx, a, a.open)
	if err != nil {
		return err
	}
	defer closeAll(from, to)
	result := map[string]any{}
	err = a.verify(ctx, to, from, c.pair, result)
	if a.JSON && len(result) > 0 {
		a.print(result, "")
	}
	return err
}

// verify adds the differences to the result, or prints them unless it is JSON. Any is an error.
func (a *app) verify(ctx context.Context, to, from *sqlstore.Store, compared pair, result map[string]any) error {
	type difference struct { // as in lifecycle
		Kind     string `json:"kind"`
		ThreadID string `json:"thread_id,omitempty"`
		ID       string `json:"id"`
		What     string `json:"what"`
	}
	p := a.progress(ctx, from)
	defer p.end()
	found, n := []difference{}, 0
	for d, err := range lifecycle.Verify(ctx, to, from, compared.options(p)...) {
		if err != nil {
			return err
		}
		if n++; a.JSON {
			found = append(found, difference(d))
		} else {
			p.clear()
			_, _ = fmt.Fprintf(a.stdout, "%s %s: %s\n", d.Kind, place(d.ThreadID, d.ID), d.What)
		}
	}
	result["differences"] = found
	if n > 0 {
		return fmt.Errorf("%d differences", n)
	}
	if !a.JSON {
		p.clear()
		_, _ = fmt.Fprintln(a.stdout, "no differences")
	}
	return nil
}

func place(threadID, id string) string {
	if threadID == "" {
		return fmt.Sprintf("%q", id)
	}
	return fmt.Sprintf("%q of %q", id, threadID)
}

// pair is the arguments of the commands that need two databases.
type pair struct {
	From               databaseURL `arg:"" help:"The source."`
	To                 databaseURL `arg:"" help:"The target."`
	WithoutAttachments bool        `help:"Leave attachments out."`
}

func (p pair) Validate() error {
	if p.From == p.To {
		return errors.New("source and target are the same")
	}
	return nil
}

// open opens both databases, the target with openTo.
func (p pair) open(ctx context.Context, a *app, openTo func(context.Context, databaseURL) (*sqlstore.Store, error)) (from, to *sqlstore.Store, err error) {
	if from, err = a.open(ctx, p.From); err != nil {
		return nil, nil, err
	}
	if to, err = openTo(ctx, p.To); err != nil {
		closeAll(from)
		return nil, nil, err
	}
	return from, to, nil
}

// options returns the options that copying and comparing have in common.
func (p pair) options(shown *progress) []lifecycle.Option {
	opts := []lifecycle.Option{shown.option()}
	if p.WithoutAttachments {
		opts = append(opts, lifecycle.WithoutAttachments())
	}
	return opts
}

func closeAll(stores ...*sqlstore.Store) {
	for _, s := range stores {
		_ = s.Close()
	}
}

type exportCmd struct {
	database
	File string `arg:"" optional:"" default:"-" help:"The file; - is standard output. It gets its name when it is complete."`
	filter

	WithoutAttachments bool `help:"Leave attachments out."`
}

func (c *exportCmd) Run(ctx context.Context, a *app, s *sqlstore.Store) error {
	all := s
	if c.filter != (filter{}) {
		all = nil
	}
	p := a.progress(ctx, all)
	defer p.end()
	opts := []lifecycle.Option{p.option()}
	if c.WithoutAttachments {
		opts = append(opts, lifecycle.WithoutAttachments())
	}
	if c.File == "-" {
		_, err := lifecycle.Export(ctx, a.stdout, s, c.owners(), opts...)
		return err
	}
	f, err := newDraft(c.File)
	if err != nil {
		return err
	}
	defer f.drop()
	done, err := lifecycle.Export(ctx, f, s, c.owners(), opts...)
	if err == nil {
		err = f.complete()
	}
	p.end()
	if err == nil {
		a.print(done, counts(done))
	}
	return err
}

type importCmd struct {
	URL       databaseURL `arg:"" help:"The database. Its tables are created if there are none."`
	File      string      `arg:"" help:"The file."`
	Conflicts string      `help:"What to do with rows that the database has with another content: fail, skip or replace." enum:"fail,skip,replace" default:"fail"`
	ToOwner   owner       `help:"Give all rows that have an owner to TENANT/SUBJECT." placeholder:"T/S"`
}

func (c *importCmd) Run(ctx context.Context, a *app) error {
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	s, err := a.target(ctx, c.URL)
	if err != nil {
		return err
	}
	defer closeAll(s)
	p := a.progress(ctx, nil)
	defer p.end()
	conflicts := map[string]lifecycle.Conflict{"skip": lifecycle.Skip, "replace": lifecycle.Replace}[c.Conflicts]
	done, err := lifecycle.Import(ctx, s, file, lifecycle.WithConflicts(conflicts), lifecycle.WithOwners(c.owner), p.option())
	p.end()
	if err == nil || done != (lifecycle.Imported{}) {
		a.print(map[string]any{"added": done.Added, "same": done.Same, "skipped": done.Skipped, "replaced": done.Replaced},
			fmt.Sprintf("added:    %s\nsame:     %s\nskipped:  %s\nreplaced: %s",
				counts(done.Added), counts(done.Same), counts(done.Skipped), counts(done.Replaced)))
	}
	return err
}

// owner returns the owner that a row of o gets.
func (c *importCmd) owner(o chat.Owner) chat.Owner {
	if o.IsZero() || c.ToOwner == (owner{}) {
		return o
	}
	return chat.Owner(c.ToOwner)
}
