package storepostgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage/store"
)

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

// A standby may not have heard yet of what its primary has committed, and will when it is promoted.
const selectStatus = `
SELECT CASE
       WHEN pg_is_in_recovery() THEN 'in progress'
       ELSE COALESCE(pg_xact_status($1::bigint::text::xid8), 'unknown')
       END`

// A server that crashed before a number was on its disk gives it again, as does one that took another's place without having
// heard of it. So what has that number may be another transaction, and a committed one is asked for what it has left: the
// version that it gave its tenant, if no two have written since, or else what it added, all of it, released or set. Calls that
// others added and reservations that others released have another number; a reservation has that of who settled it, and is
// known by its id alone.
const selectPresent = `
SELECT pg_is_in_recovery() AS standby,
       EXISTS (
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
		err := committed{s}.GetContext(ctx, &status, selectStatus, t.number)
		switch {
		case sqlState(err) == "22023": // a number that is yet to be given: the server crashed and came back without it
			status = "aborted"
			return nil
		case err == nil && status == "committed":
			status, err = s.committedBy(ctx, t)
		}
		if err == nil && status == "in progress" {
			return errInProgress
		}
		return err
	}, func(err error) bool { return mayAnswer(err) || errors.Is(err, errInProgress) })
	return status, err
}

// committedBy tells the status of a transaction whose number is that of a committed one. It asks later than that was found:
// a statement that asked for both might not see yet what was committed while it ran.
func (s *Store) committedBy(ctx context.Context, t *tx) (status string, err error) {
	w := &t.witness
	var found struct{ Standby, Latest, There bool }
	tenants, ids := t.writes.ids()
	err = committed{s}.GetContext(ctx, &found, selectPresent,
		w.tenantID, t.tenants[w.tenantID].version, w.kind, tenants, ids, t.number, w.id)
	switch {
	case err != nil:
		return "", err
	case found.Standby:
		return "in progress", nil
	case found.Latest:
		return "committed", nil
	case found.There:
		t.tenants = nil // two have written since, and what they wrote may be all there is
		return "committed", nil
	case t.once:
		return "unknown", nil
	}
	return "aborted", nil // or it has left nothing that is still there, and comes to the same when it is made again
}
