package storesqlite

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// read runs fn on one snapshot.
func (s *Store) read(ctx context.Context, op string, fn func(queryer) error) error {
	if err := s.ready(ctx, op); err != nil {
		return err
	}
	tx, err := s.reader.BeginTxx(ctx, nil)
	if err != nil && s.closed.Load() {
		err = store.ErrClosed
	}
	if err != nil {
		return wrap(op, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if s.reader == s.writer {
		return wrap(op, fn(tx)) // in memory the snapshot has the only connection, on which nothing else can be prepared
	}
	return wrap(op, fn(&snapshot{tx, s}))
}

// snapshot is a transaction that reads. It keeps its statements prepared: to parse one takes longer than to run it.
type snapshot struct {
	tx    *sqlx.Tx
	store *Store
}

// statement returns a prepared query. All queries are constants, so there are few.
func (r *snapshot) statement(ctx context.Context, query string) (*sqlx.Stmt, error) {
	known, ok := r.store.queries.Load(query)
	if !ok {
		stmt, err := r.store.reader.PreparexContext(ctx, query)
		if err != nil {
			return nil, err
		}
		known, ok = r.store.queries.LoadOrStore(query, stmt)
		if ok {
			stmt.Close() //nolint:errcheck // somebody else was faster
		}
	}
	return r.tx.StmtxContext(ctx, known), nil
}

func (r *snapshot) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	stmt, err := r.statement(ctx, query)
	if err != nil {
		return err
	}
	return stmt.GetContext(ctx, dest, args...)
}

func (r *snapshot) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	stmt, err := r.statement(ctx, query)
	if err != nil {
		return err
	}
	return stmt.SelectContext(ctx, dest, args...)
}

func (r *snapshot) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	stmt, err := r.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryxContext(ctx, args...)
}

// queryer is what reads need, of a snapshot or of the transaction that writes.
type queryer interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
	SelectContext(ctx context.Context, dest any, query string, args ...any) error
	QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error)
}
