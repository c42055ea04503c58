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
	// committing says that all was sent to the server, whatever its answer was.
	committing bool
	writes     writes
}

// witness is a record or a hold that a transaction adds, or a hold that it releases, from which it can be told whether it was
// committed; or only a tenant that a full one has locked. A call and its reservation may have the same id.
type witness struct {
	kind, tenantID, id string
	// How many calls the month of a record has with it.
	month time.Time
	model int32
	calls int64
}

// The kinds of witnesses.
const (
	recordWitness  = "record"
	holdWitness    = "hold"
	releaseWitness = "release"
	versionWitness = "version"
)

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
		server := s.server.Load()
		if c.prepare != nil {
			if err := c.prepare(); err != nil {
				return contextFirst(ctx, err)
			}
		}
		err := s.attempt(ctx, &tx{store: s, now: c.now, server: server}, &c)
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
	err = s.onSession(ctx, func(session *session) error {
		t.session = session
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
	t.committing = !errors.As(err, &unsent)
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

// A standby may not have heard yet of what its primary has committed, and will when it is promoted.
const selectStatus = `
SELECT CASE
       WHEN pg_is_in_recovery() THEN 'in progress'
       ELSE COALESCE(pg_xact_status($1::bigint::text::xid8), 'unknown')
       END`

// A server that crashed before a number was on its disk gives it again, as does one that took another's place without having
// heard of it. So what has that number may be another transaction, and a committed one is asked for what it has left: the
// version that it gave its tenant, if no two have written since, or else what it added, all of it, released or set. Calls that
// others added and reservations that others released have another number.
const selectPresent = `
SELECT EXISTS (
           SELECT
           FROM usage_tenants
           WHERE tenant = $1::text
             AND $2::bigint IN (version, previous)) AS latest,
       CASE $3::text
       WHEN 'record' THEN NOT EXISTS (
           SELECT
           FROM unnest($4::text[], $5::text[]) AS g (tenant, id)
           WHERE (SELECT k.xmin FROM usage_keys AS k WHERE k.tenant = g.tenant AND k.id = g.id)
                 IS DISTINCT FROM $6::bigint::text::xid8::xid)
       WHEN 'hold' THEN NOT EXISTS (
           SELECT
           FROM unnest($4::text[], $5::text[]) AS g (tenant, id)
           WHERE (SELECT h.model FROM usage_holds AS h WHERE h.tenant = g.tenant AND h.id = g.id) IS NULL)
       WHEN 'release' THEN EXISTS (
           SELECT
           FROM usage_holds
           WHERE tenant = $1::text
             AND id = $7::text
             AND xmin = $6::bigint::text::xid8::xid)
       ELSE EXISTS (SELECT FROM usage_tenants WHERE tenant = $1::text AND settings = $2::bigint)
       END AS there`

// resolve says what became of a transaction whose end was sent and has failed. Where the server's answer did not arrive, it
// asks the server: nil if it was committed after all, so that it is not tried again and its first result is the caller's.
func (s *Store) resolve(ctx context.Context, t *tx, failed error) error {
	if decided(failed) {
		return contextFirst(ctx, failed)
	}
	if !t.quick && t.number == 0 {
		return nil // it has written nothing
	}
	if t.quick && t.witness == (witness{}) {
		return failed // nor has this one, but it did not hear whether what it decided by is still so
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(grace, s.busyTimeout))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	ask := s.status
	if t.quick {
		ask = s.overtake
	}
	status, err := ask(patient, t)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w, and asking about it: %w", store.ErrUnknownOutcome, failed, err)
	case status == "committed":
		return nil
	case status == "aborted":
		return failed // which passes, for the connection broke
	case status == "overtaken" && t.witness.kind == recordWitness:
		return fmt.Errorf("%w: %w", errOvertaken, failed)
	}
	return fmt.Errorf("%w: transaction is %s: %w", store.ErrUnknownOutcome, status, failed)
}

// A quick transaction has no number to ask about. Whoever locks one of its tenants has waited for it, and when that row has
// another version, it cannot happen any more. That the same was done before, unheard, makes no difference.
const updateVersion = `
UPDATE usage_tenants
SET version = $2,
    previous = CASE WHEN version = $2 THEN previous ELSE version END
WHERE tenant = $1
RETURNING previous = $3::bigint AS ours`

// That an id is there does not say that it was there not before, in which case nothing was written. So of a record the total
// is asked that it changed, which is as it was left when nobody else has written since; and of a hold whether it is live,
// which one that was there before is not: that would have been known.
const selectApplied = `
SELECT CASE $1::text
       WHEN 'record' THEN EXISTS (
           SELECT
           FROM usage_months
           WHERE tenant = $2::text
             AND start = $3::timestamptz
             AND model = $4::integer
             AND calls = $5::bigint)
       ELSE EXISTS (
           SELECT
           FROM usage_holds
           WHERE tenant = $2::text
             AND id = $6::text
             AND NOT released
             AND record IS NULL
             AND expires_at > $7::timestamptz)
       END AS applied,
       CASE $1::text
       WHEN 'record' THEN EXISTS (SELECT FROM usage_keys WHERE tenant = $2::text AND id = $6::text)
       ELSE EXISTS (SELECT FROM usage_holds WHERE tenant = $2::text AND id = $6::text)
       END AS taken`

// overtake tells what became of a quick transaction, and sees to it that that is final. If another has written for the
// tenant since, what is there may be that one's: overtaken. Of a record the next try tells. The next try of a hold would only
// tell that its id is taken, though it may be by itself.
func (s *Store) overtake(ctx context.Context, t *tx) (status string, err error) {
	w, tenant, version := &t.witness, t.tenants[t.witness.tenantID], newVersion()
	err = s.retry(ctx, func() error {
		return s.onSession(ctx, func(session *session) error {
			defer session.rollback(ctx)
			var ours []struct{ Ours bool }
			var found struct{ Applied, Taken bool }
			session.queue(nil, "BEGIN ISOLATION LEVEL READ COMMITTED")
			session.queue(&ours, updateVersion, w.tenantID, version, tenant.version)
			session.queue(&found, selectApplied, w.kind, w.tenantID, w.month, w.model, w.calls, w.id, t.now)
			session.queue(nil, "COMMIT")
			if err := session.send(ctx); err != nil {
				return err
			}
			switch onlyOurs := len(ours) == 1 && ours[0].Ours; {
			case onlyOurs && found.Applied:
				status = "committed"
			case !onlyOurs && found.Taken:
				status = "overtaken"
			default:
				status = "aborted"
			}
			return nil
		})
	}, mayAnswer)
	return status, err
}

// mayAnswer reports whether who asks what became of a transaction, and got this error, may ask again: of a standby, which may
// be promoted, or of a timeout, which others' locks may outlast.
func mayAnswer(err error) bool {
	switch sqlState(err) {
	case "25006", "55P03", "57014": // read_only_sql_transaction, lock_not_available, query_canceled
		return true
	}
	return transient(err)
}

// errInProgress: the server has not noticed yet that the connection of a transaction is gone, or is a standby.
var errInProgress = errors.New("transaction is in progress")

// status asks what became of a transaction, until that is known.
func (s *Store) status(ctx context.Context, t *tx) (status string, err error) {
	err = s.retry(ctx, func() error {
		return s.onSession(ctx, func(session *session) (err error) {
			if status, err = t.statusOn(ctx, &tx{session: session}); status == "in progress" {
				return errInProgress
			}
			return err
		})
	}, func(err error) bool { return mayAnswer(err) || errors.Is(err, errInProgress) })
	return status, err
}

// statusOn asks q, all of whose answers are of one server.
func (t *tx) statusOn(ctx context.Context, q queryer) (status string, err error) {
	err = q.GetContext(ctx, &status, selectStatus, t.number)
	switch {
	case sqlState(err) == "22023": // a number that is yet to be given: the server crashed and came back without it
		return "aborted", nil
	case err == nil && status == "committed":
		return t.committedBy(ctx, q)
	}
	return status, err
}

// committedBy tells the status of a transaction whose number is that of a committed one. It asks later than that was found:
// a statement that asked for both might not see yet what was committed while it ran.
func (t *tx) committedBy(ctx context.Context, q queryer) (status string, err error) {
	w := &t.witness
	var found struct{ Latest, There bool }
	tenants, ids := t.writes.ids()
	err = q.GetContext(ctx, &found, selectPresent,
		w.tenantID, t.tenants[w.tenantID].version, w.kind, tenants, ids, t.number, w.id)
	switch {
	case err != nil:
		return "", err
	case found.Latest:
		return "committed", nil
	case found.There:
		t.tenants = nil // two have written since, and what they wrote may be all there is
		return "committed", nil
	case w.kind == versionWitness:
		return "unknown", nil
	}
	return "aborted", nil
}
