package storepostgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// errRolledBack is what the driver says of a COMMIT that the server answered with ROLLBACK.
var errRolledBack = pgx.ErrTxCommitRollback

// errAgain has a transaction rolled back and begun anew.
var errAgain = errors.New("begin anew")

// tx is a transaction that writes.
type tx struct {
	*sqlx.Tx
	store *Store
	now   time.Time
	// server is what the numbers of texts and models were read from. See Store.server.
	server *string
	// number is the server's number of the transaction; 0 before it has locked a tenant.
	number int64
	// witness is a record or a hold that it adds.
	witness recordKey
	// tenants are those that it has locked, by id, and taken out of the cache.
	tenants map[string]*tenant
	// arrivals are those that were set and are yet to be written.
	arrivals map[arrivalKey]store.Arrival
}

// write runs fn in a transaction, which is durable when write returns nil. fn may run several times: what it leaves
// behind outside of the transaction is of its last run. prepare, if not nil, runs before it each time, outside of the
// transaction.
func (s *Store) write(ctx context.Context, op string, now time.Time, fn func(*tx) error, prepare func() error) error {
	if err := s.ready(ctx, op); err != nil {
		return err
	}
	try := func() error {
		server := s.server.Load()
		if prepare != nil {
			if err := prepare(); err != nil {
				return contextFirst(ctx, err)
			}
		}
		return s.attempt(ctx, &tx{store: s, now: now, server: server}, fn)
	}
	passes := func(err error) bool { return transient(err) || errors.Is(err, errUnnumbered) }
	return wrap(op, s.whenClosed(s.retry(ctx, try, passes)))
}

// retry calls try until it returns nil or an error that does not pass, for as long as the store may.
func (s *Store) retry(ctx context.Context, try func() error, passes func(error) bool) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 5*time.Millisecond, 500*time.Millisecond
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		for last = try(); errors.Is(last, errAgain); last = try() { // no need to wait
			if ctx.Err() != nil {
				return struct{}{}, backoff.Permanent(ctx.Err())
			}
		}
		if last != nil && (ctx.Err() != nil || s.closed.Load() || !passes(last)) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(s.busyTimeout), backoff.WithMaxTries(0))
	if err != nil && ctx.Err() != nil && last != nil && !errors.Is(last, ctx.Err()) && !errors.Is(last, store.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", ctx.Err(), last) // what it was tried again for
	}
	return err
}

// attempt runs the transaction once. Until the commit, ctx ends it; the commit itself is waited for somewhat longer.
func (s *Store) attempt(ctx context.Context, t *tx, fn func(*tx) error) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	unbounded, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	begun, err := conn.BeginTxx(unbounded, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return contextFirst(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // does nothing after a commit; also when fn panics
	t.Tx = begun
	if err := fn(t); err != nil {
		return contextFirst(ctx, err)
	}
	if !stop() {
		return ctx.Err()
	}
	s.cache.put(t.tenants)
	if err := s.commit(ctx, begun, cancel); err != nil {
		return s.resolve(ctx, t, err)
	}
	return nil
}

// contextFirst names the end of a context where that is why something failed, whatever the driver makes of it.
func contextFirst(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// connection waits for one of the pool's connections.
func (s *Store) connection(ctx context.Context) (*sqlx.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, s.busyTimeout)
	defer cancel()
	conn, err := s.db.Connx(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return nil, fmt.Errorf("%w: no connection within %s: %w", store.ErrBusy, s.busyTimeout, err)
	}
	return conn, err
}

// grace is how long a commit that was sent is waited for after its context has ended, and asked about after that.
const grace = 2 * time.Second

// commit commits. To end it half-way would only make its outcome unknown, so the end of ctx does that after a while.
func (s *Store) commit(ctx context.Context, begun *sqlx.Tx, cancel context.CancelFunc) error {
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	return begun.Commit()
}

// A number that a server gave, and lost with the transaction when another took its place, may be given again. So of a
// transaction that added something it is also asked whether that is there.
const selectStatus = `
SELECT COALESCE(pg_xact_status($1::bigint::text::xid8), 'unknown') AS status,
       $2::text = ''
           OR EXISTS (SELECT FROM usage_keys WHERE tenant = $2 AND id = $3::text)
           OR EXISTS (SELECT FROM usage_holds WHERE tenant = $2 AND id = $3::text) AS present`

// resolve says what became of a transaction whose commit has failed. Where the server's answer did not arrive, it asks
// the server: nil if it was committed after all, so that it is not tried again and its first result is the caller's.
func (s *Store) resolve(ctx context.Context, t *tx, failed error) error {
	if decided(failed) {
		return failed
	}
	if t.number == 0 {
		return nil // it has written nothing
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(grace, s.busyTimeout))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	status, err := s.status(patient, t)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w, and asking about it: %w", store.ErrUnknownOutcome, failed, err)
	case status == "committed":
		return nil
	case status == "aborted":
		return failed // which passes, for the connection broke
	}
	return fmt.Errorf("%w: transaction is %s: %w", store.ErrUnknownOutcome, status, failed)
}

// errInProgress: the server has not noticed yet that the connection of a transaction is gone.
var errInProgress = errors.New("transaction is in progress")

// status asks what became of a transaction, until that is known.
func (s *Store) status(ctx context.Context, t *tx) (status string, err error) {
	err = s.retry(ctx, func() error {
		var found struct {
			Status  string
			Present bool
		}
		err := committed{s}.GetContext(ctx, &found, selectStatus, t.number, t.witness.tenantID, t.witness.id)
		switch status = found.Status; {
		case sqlState(err) == "22023": // a number that is yet to be given: the server crashed and came back without it
			status = "aborted"
		case err != nil:
			return err
		case status == "in progress":
			return errInProgress
		case status == "committed" && !found.Present:
			status = "unknown"
		}
		return nil
	}, func(err error) bool { return transient(err) || errors.Is(err, errInProgress) })
	return status, err
}
