package sqlstore

import (
	"context"
	"database/sql"
)

// prepared maps texts to prepared statements. Only SQLite needs it: its driver would parse a statement for every call, which
// takes longer than executing it. The driver of PostgreSQL keeps its statements prepared.
type prepared map[string]*sql.Stmt

// prepare prepares all statements or none. They end with db.
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
		_ = stmt.Close() // nothing depends on the error
	}
}

// asker runs statements by their text, prepared if possible, with or without a transaction.
type asker struct {
	db interface {
		ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
	}
	tx       *sql.Tx // nil outside of a transaction
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
