package storesqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

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
}

// overage is by how much a cost passes what the hold held; a hold that is gone says nothing.
func (r *holdRow) overage(cost store.Money) store.Money {
	if r == nil {
		return 0
	}
	return max(0, cost-store.Money(r.Cost))
}

const selectOpenHolds = `
SELECT id, model, lines, cost, owner, created_at, expires_at, released, record
FROM usage_holds
WHERE tenant = ?
  AND released = 0
  AND record = ''
  AND expires_at > ?
ORDER BY id`

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
	lines, err := s.lines(ctx, q, row.Lines)
	if err != nil {
		return nil, err
	}
	return &store.Hold{
		TenantID: n.row.ID, ID: row.ID, Provider: name.Provider, Model: name.Name, Lines: lines, Cost: store.Money(row.Cost),
		Owner: row.Owner, CreatedAt: instant(row.CreatedAt), ExpiresAt: instant(row.ExpiresAt),
	}, nil
}

// liveHolds returns the tenant's live holds from the cache. The cache keeps all that were live when it was filled or
// came later, so an instant before that would miss some: clocks of several hosts differ, and then it is filled again.
func (t *tx) liveHolds(ctx context.Context, n *tenant, at time.Time) ([]*store.Hold, error) {
	if !n.read.holds || at.Before(n.holdsFrom) {
		rows, err := t.store.selectHolds(ctx, t, n, at)
		if err != nil {
			return nil, err
		}
		n.holds, n.holdsFrom, n.read.holds = rows, at, true
		return slices.Clone(rows), nil
	}
	n.holds = slices.DeleteFunc(n.holds, func(h *store.Hold) bool { return !h.Live(at) })
	n.holdsFrom = at
	return slices.Clone(n.holds), nil
}

const insertHold = `
INSERT INTO usage_holds (tenant, id, model, lines, cost, owner, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING`

// Hold implements store.Store.
func (s *Store) Hold(ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide) (refusals []error, err error) {
	err = s.write(ctx, "hold", now, func(t *tx) error {
		refusals = make([]error, len(holds))
		for i := range holds {
			n, err := t.tenant(ctx, holds[i].TenantID)
			if err != nil {
				return err
			}
			standing, err := t.standing(ctx, n, now)
			if err != nil {
				return err
			}
			if refusals[i] = decide(standing, &holds[i]); refusals[i] != nil {
				continue
			}
			taken, err := t.insertHold(ctx, n, &holds[i])
			if err != nil {
				return err
			}
			if !taken {
				refusals[i] = &store.ConflictError{TenantID: n.row.ID, ID: holds[i].ID, Field: "ID"}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return refusals, nil
}

// insertHold reports false when the tenant has a hold of that id.
func (t *tx) insertHold(ctx context.Context, n *tenant, h *store.Hold) (bool, error) {
	model, err := t.modelNumber(ctx, modelName{h.Provider, h.Model})
	if err != nil {
		return false, err
	}
	lines, err := t.packLines(ctx, h.Lines)
	if err != nil {
		return false, err
	}
	result, err := t.ExecContext(ctx, insertHold, n.number, h.ID, model, lines, int64(h.Cost), h.Owner,
		micros(h.CreatedAt), micros(h.ExpiresAt))
	if err != nil {
		return false, err
	}
	if rows, err := result.RowsAffected(); rows == 0 || err != nil {
		return false, err
	}
	held := *h
	held.Lines = slices.Clone(h.Lines)
	n.holds = append(n.holds, &held)
	return true, nil
}

const selectHold = `
SELECT id, model, lines, cost, owner, created_at, expires_at, released, record
FROM usage_holds
WHERE tenant = ?
  AND id = ?`

// getHold returns nil when the tenant has no such hold.
func (t *tx) getHold(ctx context.Context, n *tenant, id string) (*holdRow, error) {
	row := new(holdRow)
	err := t.GetContext(ctx, row, selectHold, n.number, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return row, err
}

// settlement tells what a record does to the hold that it names, and sets that in the record; the hold itself is
// settled by settle once the record is in.
func (t *tx) settlement(ctx context.Context, n *tenant, r *store.Record) error {
	r.Settlement, r.Overage = "", 0
	row, err := t.getHold(ctx, n, r.HoldID)
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

func (t *tx) settle(ctx context.Context, n *tenant, r *store.Record) error {
	if r.Settlement != store.Settled {
		return nil
	}
	n.dropHold(r.HoldID)
	_, err := t.ExecContext(ctx, updateHoldSettled, r.ID, n.number, r.HoldID)
	return err
}

func (n *tenant) dropHold(id string) {
	n.holds = slices.DeleteFunc(n.holds, func(h *store.Hold) bool { return h.ID == id })
}

const updateHoldReleased = `
UPDATE usage_holds
SET released = 1
WHERE tenant = ?
  AND id = ?`

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, now time.Time, tenantID, holdID string) error {
	return s.write(ctx, "release", now, func(t *tx) error {
		n, err := t.knownTenant(ctx, tenantID)
		if err != nil {
			return err
		}
		if n == nil {
			return store.ErrNotFound
		}
		row, err := t.getHold(ctx, n, holdID)
		switch {
		case err != nil:
			return err
		case row == nil:
			return store.ErrNotFound
		case row.Record != "":
			return &store.HoldError{TenantID: tenantID, HoldID: holdID, RecordID: row.Record}
		case !now.Before(instant(row.ExpiresAt)):
			return nil // it stays one that has expired, and a late record of its call still counts
		}
		n.dropHold(holdID)
		_, err = t.ExecContext(ctx, updateHoldReleased, n.number, holdID)
		return err
	})
}
