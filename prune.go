package usage

import (
	"context"
	"time"
)

// Prune drops the records of all tenants of calls that happened before an instant, with their ids, and keeps their totals.
// It returns how many it dropped. It also drops the reservations that expired before then.
//
// From then on, Tenant.Horizon being that instant, such calls are refused with a *PrunedError, so that none of them is
// counted again when it is logged late. A call that is logged again without its At is a new one: prune what nobody sends
// again any more. Reports by days and months stay as they are, Verify and Rebuild stay right, and Usage refuses a period
// that begins or ends within a day whose records are needed and gone. A call that had no price stays unpriced: Reprice
// before. When the zone or billing day of a tenant changes, each day that was pruned counts as a whole in the day and month
// that contain its middle. The id of a reservation that was dropped may be had again, and a call that names it is counted as
// one whose reservation is unknown (ReservationUnknown).
//
// It works in batches, beside calls that are logged, and each batch is a transaction of its own: when it fails or ctx
// ends, what was dropped is dropped, and calling it again goes on. A horizon never moves back; a tenant that does not exist
// yet has none. The error is an *InvalidError, when before is zero or in the future, or the store's.
func (t *Tracker) Prune(ctx context.Context, before time.Time) (dropped int, err error) {
	var f faults
	horizon := f.time("before", before)
	switch {
	case before.IsZero():
		f.add("before", "is missing")
	case horizon.After(t.now()):
		f.add("before", "is in the future")
	}
	if err := f.err(); err != nil {
		return 0, err
	}
	for tenant, err := range t.Tenants(ctx) {
		if err != nil {
			return dropped, err
		}
		for n := maxPage; n == maxPage; dropped += n {
			if n, err = t.store.Prune(ctx, tenant.ID, horizon, maxPage); err != nil {
				return dropped, err
			}
		}
		if err := t.pruneHolds(ctx, tenant.ID); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

func (t *Tracker) pruneHolds(ctx context.Context, tenantID string) (err error) {
	for after := ""; ; {
		after, err = t.store.PruneHolds(ctx, tenantID, after, maxPage)
		if err != nil || after == "" {
			return err
		}
	}
}
