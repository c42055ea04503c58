package storesqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/acf68eca/usage/store"
)

const updateHorizon = `
UPDATE usage_tenants
SET horizon = ?
WHERE tenant = ?`

const selectPrunable = `
SELECT f.record AS number,` + recordColumns + `
FROM usage_times AS f
CROSS JOIN usage_records AS r ON r.record = f.record
WHERE f.tenant = ?1
  AND f.at < ?2
  AND r.tenant = ?1
ORDER BY f.at, r.id
LIMIT ?3`

const deletePruned = `
DELETE FROM usage_records
WHERE record = ?
  AND tenant = ?`

const deletePrunedTime = `
DELETE FROM usage_times
WHERE tenant = ?
  AND at = ?
  AND record = ?`

type prunedRow struct {
	Number int64
	recordRow
}

// Prune implements store.Store.
func (s *Store) Prune(ctx context.Context, tenantID string, before time.Time, limit int) (dropped int, err error) {
	err = s.write(ctx, "prune", time.Time{}, func(t *tx) error {
		n, err := t.knownTenant(ctx, tenantID)
		if n == nil || err != nil {
			return err
		}
		if before.After(n.row.Horizon) {
			if _, err := t.ExecContext(ctx, updateHorizon, micros(before), n.number); err != nil {
				return err
			}
			n.row.Horizon = before
		}
		dropped, err = t.drop(ctx, n, limit)
		return err
	})
	if err != nil {
		return 0, err
	}
	return dropped, nil
}

const selectHoldsAfter = `
SELECT COALESCE(max(id), '') AS last, COALESCE(max(expires_at < ?3), 0) AS prunable
FROM (
	SELECT id, expires_at
	FROM usage_holds
	WHERE tenant = ?1
	  AND id > ?2
	ORDER BY id
	LIMIT ?4) AS page`

const deleteHolds = `
DELETE FROM usage_holds
WHERE tenant = ?
  AND id > ?
  AND id <= ?
  AND expires_at < ?`

// PruneHolds implements store.Store. It looks before it writes: most of the holds may be younger than the horizon, and who
// looks is in nobody's way.
func (s *Store) PruneHolds(ctx context.Context, tenantID, after string, limit int) (last string, err error) {
	var found struct {
		Last     string
		Prunable bool
	}
	err = s.read(ctx, "prune holds", func(q queryer) error {
		n, err := readTenant(ctx, q, tenantID)
		if err != nil {
			return err
		}
		return q.GetContext(ctx, &found, selectHoldsAfter, n.number, after, micros(n.row.Horizon), limit)
	})
	if err != nil || !found.Prunable {
		return found.Last, err
	}
	err = s.write(ctx, "prune holds", time.Time{}, func(t *tx) error {
		n, err := t.knownTenant(ctx, tenantID)
		if n == nil || err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, deleteHolds, n.number, after, found.Last, micros(n.row.Horizon))
		return err
	})
	if err != nil {
		return "", err
	}
	return found.Last, nil
}

// drop drops the oldest records before the tenant's horizon. All records are filed by time first and the watermark is set
// again afterwards: it may never be above the last record, whose number the next one gets when it is dropped.
func (t *tx) drop(ctx context.Context, n *tenant, limit int) (int, error) {
	values := make([]driver.Value, 1)
	if err := t.row(selectFiledRow, values); err != nil {
		return 0, dangling(err)
	}
	if _, err := t.ExecContext(ctx, fileRecords, values[0]); err != nil {
		return 0, err
	}
	var rows []prunedRow
	if err := t.SelectContext(ctx, &rows, selectPrunable, n.number, micros(n.row.Horizon), limit); err != nil {
		return 0, err
	}
	if err := t.carry(ctx, n, rows); err != nil {
		return 0, err
	}
	for i := range rows {
		if _, err := t.ExecContext(ctx, deletePruned, rows[i].Number, n.number); err != nil {
			return 0, err
		}
		if _, err := t.ExecContext(ctx, deletePrunedTime, n.number, rows[i].At, rows[i].Number); err != nil {
			return 0, err
		}
	}
	cache := t.store.cache
	cache.filedKnown = true
	return len(rows), t.GetContext(ctx, &cache.filed, updateFiled)
}

// carried tells the sums of dropped records apart: by the instant that stands for their day, and their model.
type carried struct{ at, model int64 }

// carry adds records that are about to be dropped to what is kept of their days.
func (t *tx) carry(ctx context.Context, n *tenant, rows []prunedRow) error {
	sums := make(map[carried]*store.Total)
	for i := range rows {
		r, err := t.store.record(ctx, t, n, &rows[i].recordRow)
		if err != nil {
			return err
		}
		key := carried{n.calendar.Day(r.At).Middle().UnixMicro(), rows[i].Model}
		if sums[key] == nil {
			if sums[key], err = t.carriedTotal(ctx, n, key); err != nil {
				return err
			}
		}
		if !sums[key].Add(&r) {
			return store.ErrOverflow
		}
	}
	for key, total := range sums {
		packed, err := t.packSums(ctx, total)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, upsertCarried, n.number, key.at, key.model, packed); err != nil {
			return err
		}
	}
	return nil
}

const upsertCarried = `
INSERT INTO usage_carried (tenant, at, model, sums)
VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, at, model) DO UPDATE
SET sums = excluded.sums`

const selectCarriedTotal = `
SELECT sums
FROM usage_carried
WHERE tenant = ?
  AND at = ?
  AND model = ?`

// carriedTotal returns what is kept of a day and model already.
func (t *tx) carriedTotal(ctx context.Context, n *tenant, key carried) (*store.Total, error) {
	row := sumsRow{Start: key.at, Model: key.model, Sums: []byte{0, 0, 0, 0}}
	err := t.GetContext(ctx, &row.Sums, selectCarriedTotal, n.number, key.at, key.model)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	total, err := t.store.total(ctx, t, n, store.Day, &row)
	if err != nil {
		return nil, err
	}
	return &total.Total, nil
}

const selectCarried = `
SELECT 0 AS rowid, at AS start, model, sums
FROM usage_carried
WHERE tenant = ?
ORDER BY at, model`

// tally adds up a tenant's records, each of which it shows to look, and what is kept of those that were dropped.
func (s *Store) tally(ctx context.Context, q queryer, n *tenant, look func(*store.Record)) (*store.Tally, error) {
	tally := store.NewTally(n.calendar)
	var rows []sumsRow
	if err := q.SelectContext(ctx, &rows, selectCarried, n.number); err != nil {
		return nil, err
	}
	for i := range rows {
		total, err := s.total(ctx, q, n, store.Day, &rows[i])
		if err != nil {
			return nil, err
		}
		if err := tally.AddTotal(total.Start, &total.Total); err != nil {
			return nil, err
		}
	}
	return tally, s.eachRecord(ctx, q, n, func(r *store.Record) error {
		look(r)
		return tally.Add(r)
	})
}
