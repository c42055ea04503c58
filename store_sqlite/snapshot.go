package storesqlite

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// read runs fn on one snapshot.
func (s *Store) read(ctx context.Context, op string, fn func(queryer) error) error {
	if err := s.ready(ctx, op); err != nil {
		return err
	}
	tx, err := s.reader.BeginTxx(ctx, nil)
	if err != nil {
		return wrap(op, s.whenClosed(err))
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if s.reader == s.writer {
		return wrap(op, s.whenClosed(fn(tx))) // in memory the snapshot has the only connection, on which nothing else can be prepared
	}
	return wrap(op, s.whenClosed(fn(&snapshot{tx, s})))
}

// whenClosed names the reason for an error of a store that was closed meanwhile.
func (s *Store) whenClosed(err error) error {
	if err != nil && s.closed.Load() {
		return fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	return err
}

// snapshot is a transaction that reads. It keeps its statements prepared: to parse one takes longer than to run it.
type snapshot struct {
	tx    *sqlx.Tx
	store *Store
}

// readQueries are prepared when the store is opened. Later would be too late: to prepare takes a connection, and a
// snapshot that waits for a second one while it holds its own could wait for others that do the same.
func readQueries() []string {
	return []string{
		selectText, selectModel, selectTenant, selectTenants, selectMonthRows, selectDayRows, selectOpenHolds, selectTenantAlerts, selectTenantArrivals,
		selectCarried, selectHoldsAfter,
		selectAlerts, selectRecord, selectFiledForward, selectFiledBackward, selectUnfiledForward, selectUnfiledBackward,
		selectAllFiled, selectAllUnfiled,
	}
}

func (s *Store) prepareReads(ctx context.Context) error {
	s.queries = make(map[string]*sqlx.Stmt)
	for _, query := range readQueries() {
		stmt, err := s.reader.PreparexContext(ctx, query) //nolint:sqlclosecheck // closed with the store
		if err != nil {
			return err
		}
		s.queries[query] = stmt
	}
	return nil
}

// statement is a prepared query on the snapshot's own connection; it is closed with the snapshot.
func (r *snapshot) statement(ctx context.Context, query string) *sqlx.Stmt {
	return r.tx.StmtxContext(ctx, r.store.queries[query])
}

func (r *snapshot) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	return r.statement(ctx, query).GetContext(ctx, dest, args...) //nolint:sqlclosecheck // closed with the snapshot
}

func (r *snapshot) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	return r.statement(ctx, query).SelectContext(ctx, dest, args...) //nolint:sqlclosecheck // closed with the snapshot
}

func (r *snapshot) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return r.statement(ctx, query).QueryxContext(ctx, args...) //nolint:sqlclosecheck // closed with the snapshot
}

// queryer is what reads need, of a snapshot or of the transaction that writes.
type queryer interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
	SelectContext(ctx context.Context, dest any, query string, args ...any) error
	QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error)
}
