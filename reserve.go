package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage/internal/group"
	"github.com/acf68eca/usage/store"
)

// Reservation is room in a tenant's limits that one call may use. The call's Log… settles it when it names ID.
type Reservation struct {
	TenantID, ID string
	// Cost is what it holds, in dollars.
	Cost decimal.Decimal
	// ExpiresAt is when it holds nothing any more, whoever forgot it.
	ExpiresAt time.Time

	tracker *Tracker
}

// Reserve takes what a call may use at the worst from the tenant's limits, before the call is made. Used and held
// together never pass a hard limit, and no rate gives more than it has, however many goroutines and processes reserve at
// once. Suspension, limits and rates are decided in one step: a reservation that any of them refuses takes nothing of the
// others.
//
// The errors are those of CheckQuota, but decided by what is in the store; a *UnpricedError when the estimate cannot be
// priced and a hard limit on cost applies, unless Config.AllowUnpriced; a *ConflictError when the tenant has had a
// reservation of the estimate's ID, unless Prune has dropped that; and a *UnknownOutcomeError when ctx ends while the
// reservation is being committed: Release the ID in it, or let it expire.
func (t *Tracker) Reserve(ctx context.Context, estimate Estimate) (*Reservation, error) {
	asked, err := t.pendingHold(estimate)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("usage: reserve: %w", err)
	}
	reservation := &Reservation{
		TenantID: asked.TenantID, ID: asked.ID, Cost: asked.Cost.Decimal(), ExpiresAt: asked.ExpiresAt, tracker: t,
	}
	switch _, err := t.holds.Do(ctx, asked); {
	case err == nil:
		return reservation, nil
	case errors.Is(err, group.ErrTaken), errors.Is(err, ErrUnknownOutcome):
		// It may have been taken. Nobody will use it, and it would hold its room until it expires.
		return nil, &UnknownOutcomeError{TenantID: asked.TenantID, ID: asked.ID, Err: err}
	case errors.Is(err, group.ErrWithdrawn):
		return nil, fmt.Errorf("usage: reserve: not taken: %w", err)
	default:
		return nil, err
	}
}

// Release frees the reservation, for a call that was not made. A rate gets back what it gave for it, as far as that has not
// come back by itself meanwhile. Releasing again, or after it expired, does nothing; after a call has settled it, it is a
// *ReservationError, and after Prune has dropped it ErrNotFound, which a deferred Release may ignore.
func (r *Reservation) Release(ctx context.Context) error {
	return r.tracker.Release(ctx, r.TenantID, r.ID)
}

// Release frees a reservation by its id, as Reservation.Release does. It returns ErrNotFound when the tenant has none of
// that id.
func (t *Tracker) Release(ctx context.Context, tenantID, reservationID string) error {
	var f faults
	f.id("tenantID", tenantID)
	f.id("reservationID", reservationID)
	if err := f.err(); err != nil {
		return err
	}
	err := t.store.Release(ctx, t.now(), tenantID, reservationID, refund)
	t.standings.forget(tenantID)
	return notFound(err, "reservation", reservationID, tenantID)
}

// pendingHold is a hold on its way to the store.
type pendingHold struct {
	store.Hold
	// unpriced is why the hold has no cost; nil when it has.
	unpriced error
}

// defaultHold is how long a reservation holds when the estimate does not say.
const defaultHold = 15 * time.Minute

// pendingHold checks an estimate, prices it as of now and completes it.
func (t *Tracker) pendingHold(estimate Estimate) (pendingHold, error) {
	hold, query, err := estimate.hold()
	if err != nil {
		return pendingHold{}, err
	}
	query.At = t.now()
	hold.CreatedAt, hold.ExpiresAt = query.At, query.At.Add(defaultHold)
	if estimate.ExpiresIn > 0 {
		hold.ExpiresAt = query.At.Add(max(estimate.ExpiresIn.Truncate(time.Microsecond), time.Microsecond))
	}
	if hold.ID == "" {
		if hold.ID, err = newID(); err != nil {
			return pendingHold{}, err
		}
	}
	hold.Cost, err = t.prices.Load().of(hold.TenantID).price(&query, hold.Lines)
	if errors.Is(err, ErrUnpriced) {
		return pendingHold{Hold: hold, unpriced: err}, nil
	}
	return pendingHold{Hold: hold}, err
}

// commitHolds takes a batch of holds in one transaction, and one by one when it fails for one hold's sake.
func (t *Tracker) commitHolds(batch []pendingHold) []group.Result[struct{}] {
	results := make([]group.Result[struct{}], len(batch))
	outcomes, err := t.takeHolds(batch)
	if err != nil && len(batch) > 1 && concernsOne(err) {
		for i := range batch {
			results[i] = t.commitHolds(batch[i : i+1])[0]
		}
		return results
	}
	for i := range results {
		if results[i].Err = err; err == nil {
			results[i].Err = outcomes[i].Err
			t.alerts.add(outcomes[i].Alerts)
		}
	}
	return results
}

func (t *Tracker) takeHolds(batch []pendingHold) (outcomes []store.HoldOutcome, err error) {
	holds := make([]store.Hold, len(batch))
	unpriced := make(map[holdKey]error) // not by address: the store may hand decide a copy
	for i := range batch {
		holds[i] = batch[i].Hold
		if batch[i].unpriced != nil && !t.cfg.AllowUnpriced {
			unpriced[keyOf(&holds[i])] = batch[i].unpriced
		}
	}
	w := t.standings.witness()
	err = t.commit(func(ctx context.Context) (err error) {
		outcomes, err = t.store.Hold(ctx, t.now(), holds, func(s *store.Standing, h *store.Hold) store.Verdict {
			return w.decide(s, h, unpriced[keyOf(h)])
		})
		return err
	})
	w.cameAbout(len(outcomes), func(i int) (string, bool) { return holds[i].TenantID, outcomes[i].Err == nil })
	for i := range outcomes {
		if errors.Is(outcomes[i].Err, ErrConflict) {
			w.forget(holds[i].TenantID) // what was decided of it did not come about
		}
	}
	w.done(err)
	return outcomes, err
}

// holdKey is what tells the holds of a batch apart for their price.
type holdKey struct{ tenantID, id, provider, model string }

func keyOf(h *store.Hold) holdKey { return holdKey{h.TenantID, h.ID, h.Provider, h.Model} }
