// Package store is the contract between the tracker and the databases that keep its ledger.
//
// Hosts do not use it; they open one of the stores (store_sqlite, store_postgres) and hand it to usage.New. It is public
// so that other stores can be written: implement Store, and pass storetest.Run.
//
// A store knows rows, transactions and locks. It knows no rules: where a decision needs the current state, the
// tracker passes a pure function (Judge, Decide, Refund) and the store calls it inside its transaction, with what it read
// there. Whatever a method changes is one transaction: all of it is durable when the method returns nil, and nothing
// of it is there when it returns an error other than ErrUnknownOutcome.
package store

import (
	"context"
	"time"
)

// Store keeps the ledger. It is safe for concurrent use, by any number of goroutines and by as many processes as its
// database allows; two handles on one database see each other's commits at once.
//
// Times are stored in UTC with microseconds; the tracker has truncated them. Texts are valid UTF-8 without control
// characters, ids have 1 to 255 bytes, and no quantity is negative: the tracker has seen to that before it calls.
//
// A context that ends stops a method before its commit, with nothing written; a store that cannot tell whether the
// commit happened says ErrUnknownOutcome. Errors wrap the sentinels of this package and name the operation.
type Store interface {
	// Append adds calls to the ledger: their records, the totals of the two periods that each At lies in by its
	// tenant's calendar, the settling of the holds they name and the alerts that judge returns, in one transaction.
	// Tenants that do not exist are created, with their id as their name, UTC and the first of the month.
	//
	// Records are taken in order, and there is one outcome for each, in the same order. A record whose id the tenant
	// already has, be it from this batch or before, is a duplicate when Differs finds no difference and a
	// *ConflictError otherwise; neither changes anything. A hold that is live at now is settled; one that has expired
	// or that the tenant does not have leaves the record counted without a hold; one that is settled or released
	// refuses the record with a *HoldError. A record whose At lies before its tenant's Horizon is refused with a
	// *PrunedError, whether its id is there or not. A record whose totals would pass an int64 is refused with ErrOverflow.
	// The others go through.
	//
	// When all records of a tenant are in, judge is called once for each tenant that got any, with its standing at now;
	// the arrivals that it returns are stored, and the alerts unless one of the same key is there.
	//
	// The records are lent for the time of the call. The store sets their Settlement and Overage, and may do so again and
	// again when it has to try again; nothing else in them is changed. The outcome of a record that was added points to it.
	//
	// The locks of several tenants are taken in the order of their ids. An error means that no record was added.
	Append(ctx context.Context, now time.Time, records []*Record, judge Judge) ([]Outcome, error)

	// Reprice gives records a price that had none: Lines, Cost, PriceVersion, Unpriced and, where they settled a hold,
	// Overage are replaced, and their cost is added to the totals, in one transaction. A record that has a price by now is
	// left as it is, with its outcome marked as a duplicate, so repeating it changes nothing. Outcome.Err is ErrNotFound or
	// ErrOverflow. judge is called as in Append.
	Reprice(ctx context.Context, now time.Time, records []*Record, judge Judge) ([]Outcome, error)

	// Hold takes holds. For each of them, in order, decide is called with the standing of its tenant, which has the holds
	// taken before it and the arrivals they set. A hold whose verdict has no refusal is taken, with its arrivals, unless
	// the tenant has a hold of its id, a live one or not: then its outcome is a *ConflictError with the field "ID", and it sets
	// nothing. Alerts of a verdict are stored in any case, unless one of the same key is there. Tenants that do not exist
	// are created. There is one outcome for each hold, in the same order; all that was taken or set is committed together,
	// and the last error means that none was.
	Hold(ctx context.Context, now time.Time, holds []Hold, decide Decide) ([]HoldOutcome, error)

	// Release frees a hold, and stores the arrivals that refund returns for it and the standing before it is freed.
	// Releasing one that is released or has expired does nothing, and refund is not asked. It returns ErrNotFound when the
	// tenant has no such hold, and a *HoldError when a record has settled it.
	Release(ctx context.Context, now time.Time, tenantID, holdID string, refund Refund) error

	// Standing reads a tenant's standing at an instant, in one snapshot. An unknown tenant is no error: it has the
	// defaults and has used nothing.
	Standing(ctx context.Context, tenantID string, at time.Time) (Standing, error)

	// SetTenant creates or replaces a tenant, all but its suspension, Horizon and CreatedAt. When zone or billing day
	// change, the totals are made anew as by Rebuild in the same transaction, so that they follow the new calendar.
	SetTenant(ctx context.Context, now time.Time, t Tenant) error

	// Suspend sets why the tenant is suspended, or lifts the suspension when reason is empty. A tenant that does not
	// exist is created.
	Suspend(ctx context.Context, now time.Time, tenantID, reason string) error

	// Tenants lists tenants by id, after the given one, at most limit.
	Tenants(ctx context.Context, after string, limit int) ([]Tenant, error)

	// SetQuota replaces a tenant's quota and stores the alerts that judge returns for the standing it leads to, which
	// it returns. Tenants that do not exist are created.
	SetQuota(ctx context.Context, now time.Time, q Quota, judge Judge) ([]Alert, error)

	// Record returns one record, or ErrNotFound.
	Record(ctx context.Context, tenantID, id string) (Record, error)

	// Records lists a tenant's records by (At, ID). Two pages are two snapshots: a record that is added meanwhile is
	// seen if it lies after the position, and none is seen twice or left out for it.
	Records(ctx context.Context, q RecordQuery) ([]Record, error)

	// Totals lists a tenant's totals.
	Totals(ctx context.Context, q TotalQuery) ([]Total, error)

	// TenantTotals lists tenants by id, after the given one, at most limit, each with the totals of its own period of
	// the window that contains at.
	TenantTotals(ctx context.Context, w Window, at time.Time, after string, limit int) ([]TenantTotals, error)

	// Alerts lists alerts by (RaisedAt, TenantID, Number).
	Alerts(ctx context.Context, q AlertQuery) ([]Alert, error)

	// ClaimAlerts takes up to limit pending alerts that nobody has a lease on at now, oldest first, and leases them
	// until now + lease. Two claimers never get the same alert while its lease lasts.
	ClaimAlerts(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Alert, error)

	// MarkAlert moves an alert forward to a status, sets that status's time to now and returns it. An alert that is
	// there already or further is returned as it is. It returns ErrNotFound when there is none.
	MarkAlert(ctx context.Context, now time.Time, tenantID, id string, status AlertStatus) (Alert, error)

	// Prune moves a tenant's Horizon forward to before, unless it is there or further already, and drops records whose At
	// lies before the Horizon, with their ids: in the order of (At, ID), at most limit of them, in one transaction. It
	// returns how many; when there were fewer than limit, none is left. Totals, alerts and holds stay as they are. An unknown
	// tenant has none and is not created.
	//
	// What a dropped record counted for is kept for Verify, Rebuild and SetTenant: from then on it counts as if it had
	// happened in the middle (Period.Middle) of its day, by the calendar that the tenant had when it was dropped. See
	// Tally.AddTotal.
	Prune(ctx context.Context, tenantID string, before time.Time, limit int) (int, error)

	// PruneHolds drops a tenant's holds that expired before its Horizon, whatever became of them, with their ids, which are
	// unknown from then on. Of the holds whose ids come after the given one it looks at limit, in the order of ids, drops what
	// is to go of them in one transaction, and returns the id of the last, or "" when there are none.
	PruneHolds(ctx context.Context, tenantID, after string, limit int) (last string, err error)

	// Verify adds up a tenant's records, and what dropped ones counted for, in one snapshot and returns every difference to
	// its totals, none when all is well. It reads the tenant's whole ledger.
	Verify(ctx context.Context, tenantID string) ([]Drift, error)

	// Rebuild makes a tenant's totals anew from its records and from what dropped ones counted for, in one transaction.
	Rebuild(ctx context.Context, tenantID string) error

	// Close closes what the store opened. Methods return ErrClosed afterwards. Closing twice is no error.
	Close() error
}

// Writers is implemented by stores that gain from several Appends, or several Holds, at the same time. A tracker gives others
// one batch after the other.
type Writers interface {
	// Writers is the most at a time that is of use now; it is asked before each, and has to answer at once. Those that are
	// under way together are of different tenants.
	Writers() int
}
