package storepostgres

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
)

// queryer is what reads need, of a snapshot or of the transaction that writes.
type queryer interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
	SelectContext(ctx context.Context, dest any, query string, args ...any) error
	// resets are how often the dictionary had been reset before it was begun.
	resets() int64
}

// read runs fn on one snapshot. fn may run several times.
func (s *Store) read(ctx context.Context, op string, fn func(queryer) error) error {
	if err := s.ready(ctx, op); err != nil {
		return err
	}
	err := s.retry(ctx, func() error { return s.readOnce(ctx, fn) }, transient)
	return wrap(op, s.whenClosed(err))
}

func (s *Store) readOnce(ctx context.Context, fn func(queryer) error) error {
	resets := s.dictionary.resets.Load()
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	begun, err := conn.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return contextFirst(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // nothing was written
	return contextFirst(ctx, fn(&snapshot{begun, s.names, resets}))
}

// snapshot is a transaction that reads.
type snapshot struct {
	tx     *sqlx.Tx
	names  names
	before int64
}

func (r *snapshot) resets() int64 { return r.before }

func (r *snapshot) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	return r.tx.GetContext(ctx, dest, r.names.of(query), args...)
}

func (r *snapshot) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	return r.tx.SelectContext(ctx, dest, r.names.of(query), args...)
}

// GetContext reads one row into a struct or a value, in a round trip of its own.
func (t *tx) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	return t.SelectContext(ctx, dest, query, args...)
}

// SelectContext reads rows into a slice, in a round trip of its own.
func (t *tx) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	if t.quick {
		return errAsk
	}
	t.queue(dest, query, args...)
	return t.send(ctx)
}

// ExecContext runs a statement, in a round trip of its own.
func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if t.quick {
		return nil, errAsk
	}
	var rows int64
	t.queued.Queue(t.names.of(query), args...).Exec(func(tag pgconn.CommandTag) error {
		rows = tag.RowsAffected()
		return nil
	})
	err := t.send(ctx)
	return driver.RowsAffected(rows), err
}

// committed runs statements each in a transaction of its own, and so reads what is committed.
type committed struct{ store *Store }

func (c committed) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	return c.do(ctx, func(conn *sqlx.Conn) error { return conn.GetContext(ctx, dest, c.store.names.of(query), args...) })
}

func (c committed) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	return c.do(ctx, func(conn *sqlx.Conn) error { return conn.SelectContext(ctx, dest, c.store.names.of(query), args...) })
}

// ExecContext commits as every transaction of the store does, so that a crash takes back nothing that is remembered.
func (c committed) ExecContext(ctx context.Context, query string, args ...any) error {
	return c.store.onSession(ctx, func(session *session) error {
		session.queue(nil, selectSettings)
		session.queue(nil, query, args...)
		return session.send(ctx)
	})
}

// do does it on a connection that is waited for no longer than a method may.
func (c committed) do(ctx context.Context, do func(*sqlx.Conn) error) error {
	conn, err := c.store.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	return do(conn)
}
