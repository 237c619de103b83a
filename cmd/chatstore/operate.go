package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

type statsCmd struct {
	database
}

func (c *statsCmd) Run(ctx context.Context, a *app, s *sqlstore.Store) error {
	z, err := s.Size(ctx)
	if err != nil {
		return err
	}
	a.print(z, fmt.Sprintf("schema version %d\n%d threads\n%d items\n%d attachments\n%d grants\n%d deleted ids\n%d erased ids\n%d bytes",
		z.Schema, z.Threads, z.Items, z.Attachments, z.Grants, z.Deleted, z.Erased, z.Bytes))
	return nil
}

type migrateCmd struct {
	URL    databaseURL `arg:"" help:"The database. A missing SQLite file is created."`
	DryRun bool        `help:"Only say from which version to which."`
}

func (c *migrateCmd) Run(ctx context.Context, a *app) error {
	d, err := a.diagnose(ctx, c.URL)
	if err != nil {
		return err
	}
	for _, k := range d.Checks {
		if d.Schema < 0 && k.Result == "FAIL" {
			return named(c.URL, fmt.Errorf("%s: %s", k.Name, k.Text))
		}
	}
	if d.Schema > d.Needed {
		return named(c.URL, fmt.Errorf("the database has version %d, this program knows at most %d: use a newer program", d.Schema, d.Needed))
	}
	if !c.DryRun {
		s, err := sqlstore.Open(ctx, string(c.URL), a.options()...)
		if err != nil {
			return named(c.URL, err)
		}
		closeAll(s)
	}
	verb := map[bool]string{true: "would migrate", false: "migrated"}[c.DryRun]
	text := fmt.Sprintf("%s from version %d to %d", verb, d.Schema, d.Needed)
	if d.Schema == d.Needed {
		text = fmt.Sprintf("has version %d already", d.Schema)
	}
	a.print(map[string]any{"from": d.Schema, "to": d.Needed, "dry_run": c.DryRun}, text)
	return nil
}

type grantsCmd struct {
	database
	Thread string   `arg:"" optional:"" help:"The thread's id."`
	To     owner    `help:"What is shared with TENANT/SUBJECT, instead of a thread's grants." placeholder:"T/S"`
	Roles  []string `help:"The roles of --to, which are groups of grants." placeholder:"ROLE"`
}

func (c *grantsCmd) Validate() error {
	if (c.Thread == "") == (c.To == owner{}) {
		return errors.New("give either a thread or --to")
	}
	return nil
}

func (c *grantsCmd) Run(ctx context.Context, a *app, s *sqlstore.Store) error {
	const limit = 100
	load := func(after string) (store.Page[sharing.Grant], error) { return s.Grantees(ctx, c.Thread, after, limit) }
	if c.Thread == "" {
		p := store.Principal{Owner: chat.Owner(c.To), Roles: c.Roles}
		load = func(after string) (store.Page[sharing.Grant], error) { return s.SharedWith(ctx, p, after, limit) }
	}
	found, text, after := []map[string]any{}, []string{}, ""
	for more := true; more; {
		p, err := load(after)
		if err != nil {
			return err
		}
		for _, g := range p.Data {
			role := map[sharing.Role]string{sharing.Viewer: "viewer", sharing.Editor: "editor"}[g.Role]
			found = append(found, map[string]any{
				"thread": g.ThreadID, "role": role, "at": g.At, "by": map[string]string{"tenant": g.By.Tenant, "subject": g.By.Subject},
				"to": map[string]string{"tenant": g.To.Tenant, "subject": g.To.Subject, "group": g.To.Group},
			})
			text = append(text, fmt.Sprintf("%q: %s, to %s, by %q/%q, %s",
				g.ThreadID, role, grantee(g.To), g.By.Tenant, g.By.Subject, g.At.Format(time.RFC3339)))
		}
		more, after = p.HasMore, p.After
	}
	if len(text) == 0 {
		text = []string{"no grants"}
	}
	a.print(map[string]any{"grants": found}, strings.Join(text, "\n"))
	return nil
}

func grantee(g sharing.Grantee) string {
	switch {
	case g.Group != "":
		return fmt.Sprintf("group %q of %q", g.Group, g.Tenant)
	case g.Subject == "":
		return fmt.Sprintf("all of %q", g.Tenant)
	}
	return fmt.Sprintf("%q/%q", g.Tenant, g.Subject)
}

type checkCmd struct {
	database
}

func (c *checkCmd) Run(ctx context.Context, a *app) error {
	d, err := a.diagnose(ctx, c.URL)
	if err != nil {
		return err
	}
	failed, text := 0, []string{}
	for _, k := range d.Checks {
		text = append(text, fmt.Sprintf("%-11s  %-7s  %s", k.Name, k.Result, k.Text))
		if k.Result == "FAIL" {
			failed++
		}
	}
	a.print(d, strings.Join(text, "\n"))
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}
