package storepostgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// errRolledBack is what the driver says of a COMMIT that the server answered with ROLLBACK.
var errRolledBack = pgx.ErrTxCommitRollback

// errAgain has a transaction rolled back and begun anew.
var errAgain = errors.New("begin anew")

// errAsk: what a quick transaction would have to know or do takes a round trip of its own.
var errAsk = errors.New("has to ask the server")

// errOvertaken: what was sent may have been committed, which the next try finds out.
var errOvertaken = errors.New("another has written since")

// tx is a transaction that writes for some tenants. It comes in two forms.
//
// A full one locks the tenants' rows and gives them a new version, reads what is not remembered of them, decides, writes
// and commits: three round trips, however much it writes. Where others are known to write for the same tenants, what they
// may have changed is read along with the lock, and there are two.
//
// A quick one is a single statement. As long as a tenant has the version that this store gave it last, nobody else has
// changed anything of it, so what the store remembers is right and decisions can be made before the server is asked. The
// statement locks the rows, looks whether they have those versions and none of the ids is taken, and writes everything or
// nothing. If it is nothing, or if something has to be asked first, the transaction is made again in full.
type tx struct {
	*session
	store *Store
	now   time.Time
	// server is what the numbers of texts and models were read from. See Store.server.
	server *string
	before int64 // see resets
	quick  bool
	// refused says that its quick form was sent, and has written nothing.
	refused bool
	// many are the tenants that had many live holds, of those that its quick form has forgotten.
	many map[string]bool
	// claimed are the tenants that no other transaction of this store works on meanwhile, and what is remembered of them.
	claimed map[string]*tenant
	// tenants are those of them that it has locked, or will: in a full transaction they exist.
	tenants map[string]*tenant
	// changing says that what is remembered of the tenants is ahead of what is stored.
	changing bool
	// number is the server's number of a full transaction.
	number  int64
	witness witness
	// committing says that the end of it was sent, or may have been, whatever the answer was.
	committing bool
	once       bool // see change
	writes     writes
}

func (t *tx) resets() int64 { return t.before }

// change is what a call of the store does to tenants in one transaction.
type change struct {
	op  string
	now time.Time
	// tenants are those whose rows are locked; they are made when they do not exist if create says so, and left out of
	// tx.tenants if not.
	tenants []string
	create  bool
	// quick says that apply only loads, decides and adds to tx.writes.
	quick bool
	// once says that to make it a second time, when others have written since, does not come to the same.
	once bool
	// prepare runs before the transaction, outside of it; it may be nil.
	prepare func() error
	// ask queues what a full transaction has to read whatever is remembered; it may be nil. If it is not, apply loads the
	// standings, with the totals of instants.
	ask      func(*tx)
	instants map[string][]time.Time
	// apply does it. It may run several times: what it leaves behind outside of the transaction is of its last run.
	apply func(*tx) error
}

// write makes a change, which is durable when it returns nil.
func (s *Store) write(ctx context.Context, c change) error {
	if err := s.ready(ctx, c.op); err != nil {
		return err
	}
	c.tenants = slices.Compact(slices.Sorted(slices.Values(c.tenants)))
	overtaken := false
	try := func() error {
		before, server := s.dictionary.resets.Load(), s.server.Load() // in this order: a reset comes before another server
		if c.prepare != nil {
			if err := c.prepare(); err != nil {
				return contextFirst(ctx, err)
			}
		}
		err := s.attempt(ctx, &tx{store: s, now: c.now, server: server, before: before, once: c.once}, &c)
		overtaken = overtaken || errors.Is(err, errOvertaken)
		return err
	}
	passes := func(err error) bool { return transient(err) || errors.Is(err, errUnnumbered) }
	err := s.retry(ctx, try, passes)
	if err != nil && overtaken && !errors.Is(err, store.ErrUnknownOutcome) {
		err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return wrap(c.op, s.whenClosed(err))
}

// retry calls try until it returns nil or an error that does not pass, for as long as the store may.
func (s *Store) retry(ctx context.Context, try func() error, passes func(error) bool) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 5*time.Millisecond, 500*time.Millisecond
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		for last = s.try(try); errors.Is(last, errAgain); last = s.try(try) { // no need to wait
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

// try tries. That a word is missing which was forgotten meanwhile is no damage.
func (s *Store) try(try func() error) error {
	resets := s.dictionary.resets.Load()
	err := try()
	if errors.Is(err, store.ErrCorrupt) && s.dictionary.resets.Load() != resets {
		return errAgain
	}
	return err
}

// attempt makes a change once, or finds out that it was made. What is remembered of the tenants is kept if it was.
func (s *Store) attempt(ctx context.Context, t *tx, c *change) (err error) {
	claimed, err := s.cache.claim(ctx, c.tenants, t.server)
	if err != nil {
		return err
	}
	t.claimed = claimed.tenants
	made := false // nor when apply panics
	defer func() {
		if !made {
			t.tenants = nil
		}
		s.cache.release(claimed, t.tenants)
	}()
	err = s.onSession(ctx, func(session *session) (err error) {
		t.session = session
		defer func() {
			if lacksPartition(err) { // which a session may not have noticed, and then does not until it ends
				session.conn.Close(ctx) //nolint:errcheck // it is of no use either way
			}
		}()
		if c.quick && s.alone.Load() {
			t.quick = true
			if err := t.make(ctx, c); !errors.Is(err, errAsk) {
				return err
			}
			t.again()
		}
		return t.make(ctx, c)
	})
	if err != nil && t.committing {
		err = s.resolve(ctx, t, err)
	} else {
		err = contextFirst(ctx, err)
	}
	made = err == nil
	return err
}

// again makes a full transaction of a quick one that has written nothing.
func (t *tx) again() {
	if t.changing {
		t.many = make(map[string]bool)
		for id, n := range t.claimed {
			t.many[id] = n.hasManyHolds()
		}
		clear(t.claimed)
	}
	t.refused = t.committing
	t.quick, t.changing, t.committing, t.writes, t.witness, t.tenants = false, false, false, writes{}, witness{}, nil
}

// make runs the transaction. Until its end is sent, ctx ends it; the answer to that is waited for somewhat longer.
func (t *tx) make(ctx context.Context, c *change) error {
	defer t.rollback(ctx)
	if err := t.lock(ctx, c); err != nil {
		return err
	}
	if err := c.apply(t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.commit(ctx)
}

// contextFirst names the end of a context where that is why something failed, whatever the driver makes of it.
func contextFirst(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
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

// selectSettings begins every transaction. It sees to it that a commit is synced to disk where the server's setting would
// not. And it has statements with names planned once and by their indexes: plans that were made while the tables were small
// would read them from end to end long after that.
const selectSettings = `
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on'
                                        ELSE current_setting('synchronous_commit')
                                        END, true),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true),
       set_config('usage.done', 'true', true)`

// commit sends what the transaction writes and has it committed. To end that half-way would only make its outcome unknown,
// so the end of ctx does that after a while.
func (t *tx) commit(ctx context.Context) error {
	var answer answer
	if err := t.queueWrites(&answer); err != nil {
		return err
	}
	var ended bool
	if !t.quick {
		t.queueCommit(&ended)
	}
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	err := t.send(patient)
	var unsent pgx.ErrPreprocessingBatch // statements are described before they are sent
	t.committing = !errors.As(err, &unsent) && !pgconn.SafeToRetry(err)
	switch {
	case sqlState(err) == "22012": // division by zero: see done
		return errDetached
	case err != nil:
		return err
	case t.quick && !answer.Done:
		return errAsk
	case !t.quick && !ended:
		return errRolledBack
	}
	return nil
}

// queueCommit queues the end of a full transaction.
func (t *tx) queueCommit(ended *bool) {
	t.queued.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		*ended = tag.String() == "COMMIT"
		return nil
	})
}

// rollback ends a transaction that was begun and not committed. A connection on which that fails is of no use.
func (c *session) rollback(ctx context.Context) {
	if c.conn.IsClosed() || c.conn.PgConn().TxStatus() == 'I' {
		return
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if _, err := c.conn.Exec(patient, "ROLLBACK"); err != nil {
		c.conn.Close(patient) //nolint:errcheck // it is of no use either way
	}
}
