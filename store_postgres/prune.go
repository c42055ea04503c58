package storepostgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

const updateHorizon = `
UPDATE usage_tenants
SET horizon = $2,
    settings = version
WHERE tenant = $1`

// deletePruned deletes a tenant's oldest records before its horizon, with their keys, and answers what they were.
const deletePruned = `
WITH oldest AS (
	SELECT at, id
	FROM usage_records
	WHERE tenant = $1
	  AND at < $2
	ORDER BY at, id
	LIMIT $3
), keys AS (
	DELETE FROM usage_keys AS k
	USING oldest AS o
	WHERE k.tenant = $1
	  AND k.id = o.id
)
DELETE FROM usage_records AS r
USING oldest AS o
WHERE r.tenant = $1
  AND r.at < $2
  AND r.at = o.at
  AND r.id = o.id
RETURNING` + recordColumns

// Prune implements store.Store.
func (s *Store) Prune(ctx context.Context, tenantID string, before time.Time, limit int) (dropped int, err error) {
	err = s.write(ctx, change{op: "prune", tenants: []string{tenantID}, once: true, apply: func(t *tx) (err error) {
		dropped = 0
		n := t.tenants[tenantID]
		if n == nil {
			return nil
		}
		if before.After(n.row.Horizon) {
			if _, err := t.ExecContext(ctx, updateHorizon, tenantID, before); err != nil {
				return err
			}
			n.row.Horizon, n.settings = before, n.version
		}
		dropped, err = t.drop(ctx, n, limit)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return dropped, nil
}

const selectHoldsAfter = `
SELECT COALESCE(max(id), '') AS last, COALESCE(bool_or(expires_at < $3), false) AS prunable
FROM (
	SELECT id, expires_at
	FROM usage_holds
	WHERE tenant = $1
	  AND id > $2
	ORDER BY id
	LIMIT $4) AS page`

const deleteHolds = `
DELETE FROM usage_holds
WHERE tenant = $1
  AND id > $2
  AND id <= $3
  AND expires_at < $4`

// PruneHolds implements store.Store. It looks before it locks: most of the holds may be younger than the horizon, and who
// looks is in nobody's way.
func (s *Store) PruneHolds(ctx context.Context, tenantID, after string, limit int) (last string, err error) {
	var found struct {
		Last     string
		Prunable bool
	}
	err = s.read(ctx, "prune holds", func(q queryer) error {
		n, _, err := readTenant(ctx, q, tenantID)
		if err != nil {
			return err
		}
		return q.GetContext(ctx, &found, selectHoldsAfter, tenantID, after, n.row.Horizon, limit)
	})
	if err != nil || !found.Prunable {
		return found.Last, err
	}
	err = s.write(ctx, change{op: "prune holds", tenants: []string{tenantID}, apply: func(t *tx) error {
		n := t.tenants[tenantID]
		if n == nil {
			return nil
		}
		_, err := t.ExecContext(ctx, deleteHolds, tenantID, after, found.Last, n.row.Horizon)
		return err
	}})
	if err != nil {
		return "", err
	}
	return found.Last, nil
}

// drop drops the oldest records before the tenant's horizon, and adds them to what is kept of their days.
func (t *tx) drop(ctx context.Context, n *tenant, limit int) (int, error) {
	var rows []recordRow
	if err := t.SelectContext(ctx, &rows, deletePruned, n.row.ID, timestamp(n.row.Horizon), limit); err != nil {
		return 0, err
	}
	records, err := t.store.records(ctx, t, rows)
	if len(records) == 0 || err != nil {
		return 0, err
	}
	return len(records), t.carry(ctx, n, records)
}

// carried tells the sums of dropped records apart: by the instant that stands for their day, and their model.
type carried struct {
	at    int64
	model int32
}

// carry adds records that are dropped to what is kept of their days.
func (t *tx) carry(ctx context.Context, n *tenant, records []store.Record) error {
	middles := make([]time.Time, len(records))
	for i := range records {
		middles[i] = n.calendar.Day(records[i].At).Middle()
	}
	sums, err := t.carriedTotals(ctx, n, middles)
	if err != nil {
		return err
	}
	for i := range records {
		r := &records[i]
		model, ok := t.store.dictionary.modelNumber(modelName{r.Provider, r.Model})
		if !ok {
			return unnumbered(r.Model) // it has just been read
		}
		key := carried{middles[i].UnixMicro(), model}
		if sums[key] == nil {
			sums[key] = &total{model: model, Total: store.Total{
				TenantID: n.row.ID, Window: store.Day, Start: middles[i], Provider: r.Provider, Model: r.Model,
			}}
		}
		if !sums[key].Add(r) {
			return store.ErrOverflow
		}
	}
	return t.writeCarried(ctx, sums)
}

const selectCarriedDays = `
SELECT tenant, at AS start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
FROM usage_carried
WHERE tenant = $1
  AND at = ANY ($2::timestamptz[])`

// carriedTotals returns what is kept of some days already.
func (t *tx) carriedTotals(ctx context.Context, n *tenant, middles []time.Time) (map[carried]*total, error) {
	var rows []dayRow
	days := slices.CompactFunc(slices.Clone(middles), time.Time.Equal)
	if err := t.SelectContext(ctx, &rows, selectCarriedDays, n.row.ID, days); err != nil {
		return nil, err
	}
	totals, err := t.store.totals(ctx, t, store.Day, rows)
	sums := make(map[carried]*total, len(totals))
	for _, row := range totals {
		sums[carried{row.Start.UnixMicro(), row.model}] = row
	}
	return sums, err
}

const upsertCarried = `
INSERT INTO usage_carried (tenant, at, model, calls, errors, unpriced, cost, meters)
SELECT g.tenant, g.at, g.model, g.calls, g.errors, g.unpriced, g.picodollars * 0.000000000001, g.meters
FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])
	AS g (tenant, at, model, calls, errors, unpriced, picodollars, meters)
ON CONFLICT (tenant, at, model) DO UPDATE
SET calls = excluded.calls,
    errors = excluded.errors,
    unpriced = excluded.unpriced,
    cost = excluded.cost,
    meters = excluded.meters`

// writeCarried stores sums in the order of their keys.
func (t *tx) writeCarried(ctx context.Context, sums map[carried]*total) error {
	var c totalLists
	for _, key := range slices.SortedFunc(maps.Keys(sums), compareCarried) {
		if err := c.add(sums[key], t.store); err != nil {
			return err
		}
	}
	_, err := t.ExecContext(ctx, upsertCarried, c.tenants, c.starts, c.models, c.calls, c.errors, c.unpriced, c.picods, c.meters)
	return err
}

func compareCarried(a, b carried) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.model, b.model))
}

const selectCarried = `
SELECT tenant, at AS start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
FROM usage_carried
WHERE tenant = $1`

// tally adds up a tenant's records, each of which it shows to look, and what is kept of those that were dropped.
func (s *Store) tally(ctx context.Context, q queryer, n *tenant, look func(*store.Record)) (*store.Tally, error) {
	tally := store.NewTally(n.calendar)
	var rows []dayRow
	if err := q.SelectContext(ctx, &rows, selectCarried, n.row.ID); err != nil {
		return nil, err
	}
	totals, err := s.totals(ctx, q, store.Day, rows)
	if err != nil {
		return nil, err
	}
	for _, row := range totals {
		if err := tally.AddTotal(row.Start, &row.Total); err != nil {
			return nil, err
		}
	}
	return tally, s.eachRecord(ctx, q, n.row.ID, func(r *store.Record) error {
		look(r)
		return tally.Add(r)
	})
}
