package storepostgres

import (
	"context"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

type holdRow struct {
	Tenant    string
	ID        string
	Model     int32
	Lines     []byte
	Picods    int64
	Owner     string
	CreatedAt time.Time `db:"created_at"`
	ExpiresAt time.Time `db:"expires_at"`
	Released  bool
	Record    string
}

// holdKey is the identity of a hold.
type holdKey struct{ tenantID, id string }

const selectOpenHolds = `
SELECT h.tenant, h.id, h.model, h.lines, h.picods, h.owner, h.created_at, h.expires_at, h.released, h.record
FROM unnest($1::text[]) AS g (tenant)
CROSS JOIN LATERAL (
	SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	       '' AS record
	FROM usage_holds
	WHERE tenant = g.tenant
	  AND NOT released
	  AND record IS NULL
	  AND expires_at > $2
	OFFSET 0) AS h
ORDER BY h.tenant, h.id`

// selectHolds returns the holds of tenants that are live at an instant, by tenant and id.
func (s *Store) selectHolds(ctx context.Context, q queryer, tenants []string, at time.Time) ([]*store.Hold, error) {
	var rows []holdRow
	if err := q.SelectContext(ctx, &rows, selectOpenHolds, tenants, at); err != nil {
		return nil, err
	}
	packed := make([][]pack.Line, len(rows))
	var texts, models []int32
	for i := range rows {
		lines, err := pack.ParseLines(rows[i].Lines)
		if err != nil {
			return nil, err
		}
		packed[i], texts, models = lines, appendTexts(texts, lines), append(models, rows[i].Model)
	}
	if err := s.readNumbers(ctx, q, texts, models); err != nil {
		return nil, err
	}
	holds := make([]*store.Hold, len(rows))
	for i := range rows {
		hold, err := s.hold(&rows[i], packed[i])
		if err != nil {
			return nil, err
		}
		holds[i] = hold
	}
	return holds, nil
}

func (s *Store) hold(row *holdRow, packed []pack.Line) (*store.Hold, error) {
	name, ok := s.dictionary.model(row.Model)
	if !ok {
		return nil, dangling("model", row.Model)
	}
	lines, err := s.lines(packed)
	return &store.Hold{
		TenantID: row.Tenant, ID: row.ID, Provider: name.Provider, Model: name.Name, Lines: lines,
		Cost: store.Money(row.Picods), Owner: row.Owner, CreatedAt: row.CreatedAt.UTC(), ExpiresAt: row.ExpiresAt.UTC(),
	}, err
}

// loadHolds reads the live holds of the tenants whose holds are not remembered, or only from a later instant on: clocks
// of several hosts differ.
func (t *tx) loadHolds(ctx context.Context) error {
	var tenants []string
	for id, n := range t.tenants {
		if !n.read.holds || t.now.Before(n.holdsFrom) {
			n.holds, n.holdsFrom, n.read.holds = nil, t.now, true
			tenants = append(tenants, id)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	holds, err := t.store.selectHolds(ctx, t, tenants, t.now)
	for _, h := range holds {
		n := t.tenants[h.TenantID]
		n.holds = append(n.holds, h)
	}
	return err
}

// Hold implements store.Store.
func (s *Store) Hold(ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide) (refusals []error, err error) {
	if len(holds) == 0 {
		return nil, s.ready(ctx, "hold")
	}
	tenants, looking := make([]string, len(holds)), false
	for i := range holds {
		tenants[i] = holds[i].TenantID
	}
	prepare := func() error {
		words := s.newWords()
		for i := range holds {
			words.model(holds[i].Provider, holds[i].Model)
			words.lines(holds[i].Lines)
		}
		return s.number(ctx, words)
	}
	err = s.write(ctx, "hold", now, func(t *tx) error {
		if err := t.lock(ctx, tenants, true); err != nil {
			return err
		}
		if err := t.load(ctx, nil); err != nil {
			return err
		}
		known := make(map[holdKey]bool)
		if looking {
			rows, err := t.getHolds(ctx, keysOf(holds))
			if err != nil {
				return err
			}
			for key := range rows {
				known[key] = true
			}
		}
		taken := t.decide(holds, known, decide, &refusals)
		inserted, err := t.insertHolds(ctx, taken)
		if err == nil && inserted < len(taken) {
			looking, err = true, errAgain // an id is taken, which the others have to be decided without
		}
		return err
	}, prepare)
	if err != nil {
		return nil, err
	}
	return refusals, nil
}

func keysOf(holds []store.Hold) []holdKey {
	keys := make([]holdKey, len(holds))
	for i := range holds {
		keys[i] = holdKey{holds[i].TenantID, holds[i].ID}
	}
	return keys
}

// decide asks about each hold in order, and returns those that are to be taken. known are the ids that are taken.
func (t *tx) decide(holds []store.Hold, known map[holdKey]bool, decide store.Decide, refusals *[]error) (taken []*store.Hold) {
	*refusals = make([]error, len(holds))
	standings := make(map[string]*store.Standing, len(t.tenants))
	for id, n := range t.tenants {
		standings[id] = t.standing(n)
	}
	for i := range holds {
		asked := holds[i]
		asked.Lines = append([]store.Line(nil), asked.Lines...)
		standing, key := standings[asked.TenantID], holdKey{asked.TenantID, asked.ID}
		if (*refusals)[i] = decide(standing, &asked); (*refusals)[i] != nil {
			continue
		}
		if known[key] {
			(*refusals)[i] = &store.ConflictError{TenantID: asked.TenantID, ID: asked.ID, Field: "ID"}
			continue
		}
		known[key] = true
		standing.Holds, taken = append(standing.Holds, &asked), append(taken, &asked)
		t.tenants[asked.TenantID].holds = standing.Holds
	}
	return taken
}

const insertHolds = `
INSERT INTO usage_holds (tenant, id, model, lines, cost, owner, created_at, expires_at)
SELECT g.tenant, g.id, g.model, g.lines, g.picodollars * 0.000000000001, g.owner, g.created_at, g.expires_at
FROM unnest($1::text[], $2::text[], $3::integer[], $4::bytea[], $5::bigint[], $6::text[], $7::timestamptz[],
            $8::timestamptz[])
	AS g (tenant, id, model, lines, picodollars, owner, created_at, expires_at)
ON CONFLICT DO NOTHING`

// insertHolds returns how many were inserted: those whose ids were not taken.
func (t *tx) insertHolds(ctx context.Context, holds []*store.Hold) (int, error) {
	if len(holds) == 0 {
		return 0, nil
	}
	var tenants, ids, owners []string
	var models []int32
	var packed [][]byte
	var picods []int64
	var created, expires []time.Time
	for _, h := range holds {
		model, ok := t.store.dictionary.modelNumber(modelName{h.Provider, h.Model})
		if !ok {
			return 0, unnumbered(h.Model)
		}
		lines, err := t.store.packLines(h.Lines)
		if err != nil {
			return 0, err
		}
		tenants, ids, owners = append(tenants, h.TenantID), append(ids, h.ID), append(owners, h.Owner)
		models, packed, picods = append(models, model), append(packed, lines), append(picods, int64(h.Cost))
		created, expires = append(created, h.CreatedAt), append(expires, h.ExpiresAt)
	}
	t.witness = recordKey{holds[0].TenantID, holds[0].ID}
	result, err := t.ExecContext(ctx, insertHolds, tenants, ids, models, packed, picods, owners, created, expires)
	if err != nil {
		return 0, err
	}
	rows, err := result.RowsAffected()
	return int(rows), err
}

const selectHoldsByID = `
SELECT h.tenant, h.id, h.model, h.lines, h.picods, h.owner, h.created_at, h.expires_at, h.released, h.record
FROM unnest($1::text[], $2::text[]) AS g (tenant, id)
CROSS JOIN LATERAL (
	SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	       COALESCE(record, '') AS record
	FROM usage_holds
	WHERE tenant = g.tenant
	  AND id = g.id
	OFFSET 0) AS h`

// getHolds returns the holds of these identities, whatever became of them.
func (t *tx) getHolds(ctx context.Context, keys []holdKey) (map[holdKey]*holdRow, error) {
	found := make(map[holdKey]*holdRow, len(keys))
	if len(keys) == 0 {
		return found, nil
	}
	tenants, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		tenants[i], ids[i] = key.tenantID, key.id
	}
	var rows []holdRow
	err := t.SelectContext(ctx, &rows, selectHoldsByID, tenants, ids)
	for i := range rows {
		found[holdKey{rows[i].Tenant, rows[i].ID}] = &rows[i]
	}
	return found, err
}

// settlement tells what a record does to the hold that it names, and sets that in the record. row is the hold, nil when
// there is none.
func (t *tx) settlement(row *holdRow, r *store.Record) error {
	switch {
	case row == nil:
		r.Settlement = store.HoldUnknown
	case row.Released || row.Record != "":
		return &store.HoldError{TenantID: r.TenantID, HoldID: r.HoldID, RecordID: row.Record}
	case !t.now.Before(row.ExpiresAt):
		r.Settlement = store.HoldExpired
	default:
		r.Settlement = store.Settled
		r.Overage = row.overage(r.Cost)
	}
	return nil
}

// overage is by how much a cost passes what the hold held; a hold that is gone says nothing.
func (r *holdRow) overage(cost store.Money) store.Money {
	if r == nil {
		return 0
	}
	return max(0, cost-store.Money(r.Picods))
}

const updateHoldsSettled = `
UPDATE usage_holds AS h
SET record = g.record
FROM unnest($1::text[], $2::text[], $3::text[]) AS g (tenant, id, record)
WHERE h.tenant = g.tenant
  AND h.id = g.id`

// settle settles the holds of records that are in.
func (t *tx) settle(ctx context.Context, added []*store.Record) error {
	var tenants, ids, records []string
	for _, r := range added {
		if r.Settlement == store.Settled {
			tenants, ids, records = append(tenants, r.TenantID), append(ids, r.HoldID), append(records, r.ID)
			t.tenants[r.TenantID].dropHold(r.HoldID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := t.ExecContext(ctx, updateHoldsSettled, tenants, ids, records)
	return err
}

func (n *tenant) dropHold(id string) {
	for i, h := range n.holds {
		if h.ID == id {
			n.holds = append(n.holds[:i], n.holds[i+1:]...)
			return
		}
	}
}

const updateHoldReleased = `
UPDATE usage_holds
SET released = true
WHERE tenant = $1
  AND id = $2`

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, now time.Time, tenantID, holdID string) error {
	return s.write(ctx, "release", now, func(t *tx) error {
		n, err := t.lockOne(ctx, tenantID, false)
		if err != nil {
			return err
		}
		if n == nil {
			return store.ErrNotFound
		}
		rows, err := t.getHolds(ctx, []holdKey{{tenantID, holdID}})
		row := rows[holdKey{tenantID, holdID}]
		switch {
		case err != nil:
			return err
		case row == nil:
			return store.ErrNotFound
		case row.Record != "":
			return &store.HoldError{TenantID: tenantID, HoldID: holdID, RecordID: row.Record}
		case !now.Before(row.ExpiresAt):
			return nil // it stays one that has expired, and a late record of its call still counts
		}
		n.dropHold(holdID)
		_, err = t.ExecContext(ctx, updateHoldReleased, tenantID, holdID)
		return err
	}, nil)
}
