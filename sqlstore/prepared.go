package sqlstore

import (
	"context"
	"database/sql"
)

// prepared are the statements that stay parsed, by their text: those of SQLite, whose driver would parse them for every call, which
// takes longer than to execute them. The driver of PostgreSQL keeps them by itself.
type prepared map[string]*sql.Stmt

// prepare parses the statements: all, or none is left open. They end with db.
func prepare(ctx context.Context, db *sql.DB, texts []string) (prepared, error) {
	p := make(prepared, len(texts))
	for _, text := range texts {
		stmt, err := db.PrepareContext(ctx, text)
		if err != nil {
			p.close()
			return nil, err
		}
		p[text] = stmt
	}
	return p, nil
}

func (p prepared) close() {
	for _, stmt := range p {
		_ = stmt.Close() // of use to nobody
	}
}

// asker runs statements by their text, prepared where they are: in a transaction, or each by itself.
type asker struct {
	db interface {
		ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
	}
	tx       *sql.Tx // nil outside of one
	prepared prepared
}

// stmt returns the statement, or nil if it is not prepared.
func (a asker) stmt(ctx context.Context, text string) *sql.Stmt {
	s := a.prepared[text]
	if s != nil && a.tx != nil {
		return a.tx.StmtContext(ctx, s)
	}
	return s
}

func (a asker) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	if s := a.stmt(ctx, text); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return a.db.ExecContext(ctx, text, args...)
}

func (a asker) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if s := a.stmt(ctx, text); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return a.db.QueryContext(ctx, text, args...)
}

func (a asker) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	if s := a.stmt(ctx, text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return a.db.QueryRowContext(ctx, text, args...)
}
