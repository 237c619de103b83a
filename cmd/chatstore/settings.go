package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// settings are the values of a configuration file, by the names of flags.
type settings map[string]any

func configuration(r io.Reader) (kong.Resolver, error) {
	s := settings{}
	d := json.NewDecoder(r)
	if err := d.Decode(&s); err != nil || d.Decode(&struct{}{}) != io.EOF {
		return nil, errors.New("the configuration file is not one JSON object")
	}
	return s, nil
}

// Validate refuses unknown names: a misspelt "hold" must not delete what it should keep.
func (s settings) Validate(model *kong.Application) error {
	known := map[string]bool{}
	for _, n := range append([]*kong.Node{model.Node}, model.Children...) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
	}
	for name := range s {
		if !known[name] {
			return fmt.Errorf("the configuration file has %q, which is no flag", name)
		}
	}
	return nil
}

// Resolve returns the value for a flag that the environment does not set.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	for _, name := range f.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	switch n, ok := s[f.Name].(float64); {
	case ok && strings.HasSuffix(f.Target.Type().String(), "time.Duration"):
		return nil, fmt.Errorf(`the configuration file: %s must be a text with a unit, such as "720h"`, f.Name)
	case ok && n != math.Trunc(n):
		return nil, fmt.Errorf("the configuration file: %s must be a whole number", f.Name)
	}
	return s[f.Name], nil
}

// database is the argument of the commands that need one database.
type database struct {
	URL databaseURL `arg:"" help:"The database."`
}

func (d database) url() databaseURL { return d.URL }

// databaseURL is what a database's argument names, itself or by env:NAME.
type databaseURL string

func (u *databaseURL) UnmarshalText(text []byte) error {
	*u = databaseURL(text)
	if name, ok := strings.CutPrefix(string(text), "env:"); ok {
		if *u = databaseURL(os.Getenv(name)); *u == "" {
			if secretive.MatchString(name) {
				name = "…"
			}
			return fmt.Errorf("the environment variable %s is not set", name)
		}
	}
	return nil
}

// usageError is an error of an argument that the parser does not know.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func (a *app) options(more ...sqlstore.Option) []sqlstore.Option {
	all := append(more, sqlstore.WithTablePrefix(a.TablePrefix), sqlstore.WithStatementTimeout(a.StatementTimeout), sqlstore.WithLockTimeout(a.LockTimeout))
	if a.Schema != "" {
		all = append(all, sqlstore.WithSchema(a.Schema))
	}
	if a.Pooler {
		all = append(all, sqlstore.WithPooler())
	}
	return all
}

// diagnose finds out what is wrong with a database. A server that does not answer must not hold it up.
func (a *app) diagnose(ctx context.Context, url databaseURL) (sqlstore.Diagnosis, error) {
	ctx, cancel := context.WithTimeout(ctx, a.StatementTimeout)
	defer cancel()
	d, err := sqlstore.Diagnose(ctx, string(url), a.options()...)
	return d, named(url, err)
}

// open opens a database that has its tables.
func (a *app) open(ctx context.Context, url databaseURL) (*sqlstore.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, a.StatementTimeout)
	defer cancel()
	s, err := sqlstore.Open(ctx, string(url), a.options(sqlstore.WithoutMigration())...)
	return s, named(url, err)
}

// target opens a database to save rows in. It creates the tables if there are none, but does not migrate those that programs may
// use.
func (a *app) target(ctx context.Context, url databaseURL) (*sqlstore.Store, error) {
	d, err := a.diagnose(ctx, url)
	if err != nil || d.Schema != 0 {
		return a.open(ctx, url)
	}
	s, err := sqlstore.Open(ctx, string(url), a.options()...)
	return s, named(url, err)
}

// named adds to an error of opening which database it is about.
func named(url databaseURL, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", sqlstore.Redacted(string(url)), err)
	}
	if errors.Is(err, store.ErrInvalid) {
		err = usageError{err}
	}
	return err
}

// nonEmpty is a text that must not be empty: an unset variable of a shell must not mean "everybody" or "no hold".
type nonEmpty string

func (n *nonEmpty) UnmarshalText(text []byte) error {
	if *n = nonEmpty(text); *n == "" {
		return errors.New("it is empty")
	}
	return nil
}

// owner is an owner in the form TENANT/SUBJECT, SUBJECT, or {"tenant": …, "subject": …} for a tenant with a slash.
type owner chat.Owner

func (o *owner) UnmarshalText(text []byte) error {
	*o = owner{}
	if strings.HasPrefix(string(text), "{") {
		if err := json.Unmarshal(text, (*chat.Owner)(o)); err != nil {
			return errors.New("it is no JSON object with tenant and subject")
		}
	} else if tenant, subject, ok := strings.Cut(string(text), "/"); ok {
		*o = owner{tenant, subject}
	} else {
		o.Subject = tenant
	}
	if o.Subject == "" {
		return errors.New("it has no subject: use TENANT/SUBJECT")
	}
	return nil
}

// filter says whose rows.
type filter struct {
	Owner  owner    `help:"Only the rows of TENANT/SUBJECT, or of SUBJECT without a tenant." placeholder:"T/S" xor:"whose"`
	Tenant nonEmpty `help:"Only the rows of this tenant." placeholder:"TENANT" xor:"whose"`
}

func (f filter) owners() store.OwnerFilter {
	switch {
	case f.Owner != owner{}:
		return store.OwnedBy(chat.Owner(f.Owner))
	case f.Tenant != "":
		return store.InTenant(string(f.Tenant))
	}
	return store.AnyOwner()
}
