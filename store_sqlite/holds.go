package storesqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/held"
	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

type holdRow struct {
	ID        string
	Model     int64
	Lines     []byte
	Cost      int64
	Owner     string
	CreatedAt int64 `db:"created_at"`
	ExpiresAt int64 `db:"expires_at"`
	Released  bool
	Record    string
	Arrivals  string
}

// overage is by how much a cost passes what the hold held; a hold that is gone says nothing.
func (r *holdRow) overage(cost store.Money) store.Money {
	if r == nil {
		return 0
	}
	return max(0, cost-store.Money(r.Cost))
}

const selectOpenHolds = `
SELECT id, model, lines, cost, owner, created_at, expires_at, released, record, COALESCE(arrivals, '') AS arrivals
FROM usage_holds
WHERE tenant = ?
  AND released = 0
  AND record = ''
  AND expires_at > ?
ORDER BY id`

// liveHolds returns the tenant's holds that are live at an instant, from the cache.
func (t *tx) liveHolds(ctx context.Context, n *tenant, at time.Time) (*held.Holds, error) {
	if !n.holds.Known(at) {
		holds, err := t.store.selectHolds(ctx, t, n, at)
		if err != nil {
			return nil, err
		}
		n.holds.Reset(at)
		for _, h := range holds {
			n.holds.Add(h)
		}
	}
	n.holds.Expire(at)
	return &n.holds, nil
}

// selectHolds returns the holds that are live at an instant, by id.
func (s *Store) selectHolds(ctx context.Context, q queryer, n *tenant, at time.Time) ([]*store.Hold, error) {
	var rows []holdRow
	if err := q.SelectContext(ctx, &rows, selectOpenHolds, n.number, micros(at)); err != nil {
		return nil, err
	}
	holds := make([]*store.Hold, len(rows))
	for i := range rows {
		hold, err := s.hold(ctx, q, n, &rows[i])
		if err != nil {
			return nil, err
		}
		holds[i] = hold
	}
	return holds, nil
}

func (s *Store) hold(ctx context.Context, q queryer, n *tenant, row *holdRow) (*store.Hold, error) {
	name, err := s.model(ctx, q, row.Model)
	if err != nil {
		return nil, err
	}
	lines, err := s.lines(ctx, q, row.Lines, nil)
	if err != nil {
		return nil, err
	}
	arrivals, err := pack.ParseArrivals(row.Arrivals)
	if err != nil {
		return nil, fmt.Errorf("hold %q: %w", row.ID, err)
	}
	return &store.Hold{
		TenantID: n.row.ID, ID: row.ID, Provider: name.Provider, Model: name.Name, Lines: lines, Cost: store.Money(row.Cost),
		Owner: row.Owner, CreatedAt: instant(row.CreatedAt), ExpiresAt: instant(row.ExpiresAt), Arrivals: arrivals,
	}, nil
}

const insertHold = `
INSERT INTO usage_holds (tenant, id, model, lines, cost, owner, created_at, expires_at, arrivals)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING`

// Hold implements store.Store.
func (s *Store) Hold(
	ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide,
) (outcomes []store.HoldOutcome, err error) {
	if len(holds) == 0 {
		return nil, s.ready(ctx, "hold")
	}
	err = s.write(ctx, "hold", now, func(t *tx) error {
		outcomes = make([]store.HoldOutcome, len(holds))
		for i := range holds {
			n, err := t.tenant(ctx, holds[i].TenantID)
			if err != nil {
				return err
			}
			if outcomes[i], err = t.takeHold(ctx, n, &holds[i], decide); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// takeHold decides on one hold and does what the verdict says.
func (t *tx) takeHold(ctx context.Context, n *tenant, h *store.Hold, decide store.Decide) (o store.HoldOutcome, err error) {
	standing, err := t.standing(ctx, n, t.now)
	if err != nil {
		return o, err
	}
	verdict := decide(standing, h)
	o.Err = verdict.Refusal
	if o.Err == nil {
		taken, err := t.insertHold(ctx, n, h, verdict.Arrivals)
		if err != nil {
			return o, err
		}
		if taken {
			err = t.setArrivals(n, verdict.Arrivals)
		} else {
			o.Err = &store.ConflictError{TenantID: n.row.ID, ID: h.ID, Field: "ID"}
		}
		if err != nil {
			return o, err
		}
	}
	o.Alerts, err = t.raise(ctx, n, verdict.Alerts)
	return o, err
}

// insertHold reports false when the tenant has a hold of that id.
func (t *tx) insertHold(ctx context.Context, n *tenant, h *store.Hold, arrivals []store.Arrival) (bool, error) {
	model, err := t.modelNumber(ctx, modelName{h.Provider, h.Model})
	if err != nil {
		return false, err
	}
	lines, err := t.packLines(ctx, h.Lines)
	if err != nil {
		return false, err
	}
	packed, err := pack.ArrivalsText(arrivals)
	if err != nil {
		return false, err
	}
	result, err := t.exec(insertHoldRow, n.number, h.ID, model, lines, int64(h.Cost), h.Owner,
		micros(h.CreatedAt), micros(h.ExpiresAt), text(packed))
	if err != nil {
		return false, err
	}
	if rows, err := result.RowsAffected(); rows == 0 || err != nil {
		return false, err
	}
	taken := *h
	taken.Lines, taken.Arrivals = slices.Clone(h.Lines), arrivals
	n.holds.Add(&taken)
	return true, nil
}

const selectHold = `
SELECT id, model, lines, cost, owner, created_at, expires_at, released, record, COALESCE(arrivals, '') AS arrivals
FROM usage_holds
WHERE tenant = ?
  AND id = ?`

// getHold returns nil when the tenant has no such hold.
func (t *tx) getHold(n *tenant, id string) (*holdRow, error) {
	values := make([]driver.Value, 10)
	err := t.row(selectHoldRow, values, n.number, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return holdRowOf(values), err
}

// holdRowOf is what sqlx does with a row of selectHold, without its looking up each column's name.
func holdRowOf(v []driver.Value) *holdRow {
	number := func(i int) int64 { n, _ := v[i].(int64); return n }
	text := func(i int) string { s, _ := v[i].(string); return s }
	lines, _ := v[2].([]byte)
	return &holdRow{
		ID: text(0), Model: number(1), Lines: lines, Cost: number(3), Owner: text(4),
		CreatedAt: number(5), ExpiresAt: number(6), Released: number(7) != 0, Record: text(8), Arrivals: text(9),
	}
}

// settlement tells what a record does to the hold that it names, and sets that in the record; the hold itself is
// settled by settle once the record is in.
func (t *tx) settlement(n *tenant, r *store.Record) error {
	r.Settlement, r.Overage = "", 0
	row, err := t.getHold(n, r.HoldID)
	switch {
	case err != nil:
		return err
	case row == nil:
		r.Settlement = store.HoldUnknown
	case row.Released || row.Record != "":
		return &store.HoldError{TenantID: r.TenantID, HoldID: r.HoldID, RecordID: row.Record}
	case !t.now.Before(instant(row.ExpiresAt)):
		r.Settlement = store.HoldExpired
	default:
		r.Settlement = store.Settled
		r.Overage = row.overage(r.Cost)
	}
	return nil
}

const updateHoldSettled = `
UPDATE usage_holds
SET record = ?
WHERE tenant = ?
  AND id = ?`

func (t *tx) settle(n *tenant, r *store.Record) error {
	if r.Settlement != store.Settled {
		return nil
	}
	n.holds.Drop(r.HoldID)
	_, err := t.exec(settleHoldRow, r.ID, n.number, r.HoldID)
	return err
}

const updateHoldReleased = `
UPDATE usage_holds
SET released = 1
WHERE tenant = ?
  AND id = ?`

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, now time.Time, tenantID, holdID string, refund store.Refund) error {
	return s.write(ctx, "release", now, func(t *tx) error {
		n, err := t.knownTenant(ctx, tenantID)
		if err != nil {
			return err
		}
		if n == nil {
			return store.ErrNotFound
		}
		row, err := t.getHold(n, holdID)
		switch {
		case err != nil:
			return err
		case row == nil:
			return store.ErrNotFound
		case row.Record != "":
			return &store.HoldError{TenantID: tenantID, HoldID: holdID, RecordID: row.Record}
		case row.Released || !now.Before(instant(row.ExpiresAt)):
			return nil // one that has expired stays so, and a late record of its call still counts
		}
		if err := t.refund(ctx, n, row, refund); err != nil {
			return err
		}
		n.holds.Drop(holdID)
		_, err = t.exec(releaseHoldRow, n.number, holdID)
		return err
	})
}

func (t *tx) refund(ctx context.Context, n *tenant, row *holdRow, refund store.Refund) error {
	hold, err := t.store.hold(ctx, t, n, row)
	if err != nil {
		return err
	}
	standing, err := t.standing(ctx, n, t.now)
	if err != nil {
		return err
	}
	return t.setArrivals(n, refund(standing, hold))
}
