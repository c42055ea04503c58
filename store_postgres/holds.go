package storepostgres

import (
	"context"
	"slices"
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
	Arrivals  string
}

// holdKey is the identity of a hold.
type holdKey struct{ tenantID, id string }

const selectOpenHolds = `
SELECT h.tenant, h.id, h.model, h.lines, h.picods, h.owner, h.created_at, h.expires_at, h.released, h.record, h.arrivals
FROM unnest($1::text[]) AS g (tenant)
CROSS JOIN LATERAL (
	SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	       '' AS record, COALESCE(arrivals::text, '') AS arrivals
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
	return s.holds(ctx, q, rows)
}

// holds resolves the numbers of rows.
func (s *Store) holds(ctx context.Context, q queryer, rows []holdRow) ([]*store.Hold, error) {
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
	if err != nil {
		return nil, err
	}
	arrivals, err := unpackArrivals(row.ID, row.Arrivals)
	return &store.Hold{
		TenantID: row.Tenant, ID: row.ID, Provider: name.Provider, Model: name.Name, Lines: lines, Cost: store.Money(row.Picods),
		Owner: row.Owner, CreatedAt: row.CreatedAt.UTC(), ExpiresAt: row.ExpiresAt.UTC(), Arrivals: arrivals,
	}, err
}

// Hold implements store.Store.
func (s *Store) Hold(
	ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide,
) (outcomes []store.HoldOutcome, err error) {
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
		d := t.decide(holds, known, decide)
		outcomes = d.outcomes
		inserted, err := t.insertHolds(ctx, d.taken)
		if err == nil && inserted < len(d.taken) {
			looking, err = true, errAgain // an id is taken, which the others have to be decided without
		}
		if err != nil {
			return err
		}
		return t.follow(ctx, d)
	}, prepare)
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

func keysOf(holds []store.Hold) []holdKey {
	keys := make([]holdKey, len(holds))
	for i := range holds {
		keys[i] = holdKey{holds[i].TenantID, holds[i].ID}
	}
	return keys
}

// decision is what was decided on holds.
type decision struct {
	outcomes []store.HoldOutcome
	taken    []*store.Hold
	asked    []alertAsked
}

// decide asks about each hold in order. known are the ids that are taken.
func (t *tx) decide(holds []store.Hold, known map[holdKey]bool, decide store.Decide) decision {
	d := decision{outcomes: make([]store.HoldOutcome, len(holds))}
	for i := range holds {
		asked := holds[i]
		asked.Lines = slices.Clone(asked.Lines)
		n, key := t.tenants[asked.TenantID], holdKey{asked.TenantID, asked.ID}
		verdict := decide(t.standing(n), &asked)
		switch {
		case verdict.Refusal != nil:
			d.outcomes[i].Err = verdict.Refusal
		case known[key]:
			d.outcomes[i].Err = &store.ConflictError{TenantID: asked.TenantID, ID: asked.ID, Field: "ID"}
		default:
			asked.Arrivals = verdict.Arrivals
			n.holds.add(&asked)
			t.setArrivals(n, verdict.Arrivals)
			known[key], d.taken = true, append(d.taken, &asked)
		}
		for _, alert := range verdict.Alerts {
			d.asked = append(d.asked, alertAsked{alert.Raise(asked.TenantID, t.now), i})
		}
	}
	return d
}

// follow stores what follows from holds that are in: the arrivals that they set, and the alerts.
func (t *tx) follow(ctx context.Context, d decision) error {
	if err := t.writeArrivals(ctx); err != nil {
		return err
	}
	raised, err := t.raise(ctx, d.asked, len(d.outcomes))
	for i := range raised {
		d.outcomes[i].Alerts = raised[i]
	}
	return err
}

const insertHolds = `
INSERT INTO usage_holds (tenant, id, model, lines, cost, owner, created_at, expires_at, arrivals)
SELECT g.tenant, g.id, g.model, g.lines, g.picodollars * 0.000000000001, g.owner, g.created_at, g.expires_at,
       NULLIF(g.arrivals, '')::jsonb
FROM unnest($1::text[], $2::text[], $3::integer[], $4::bytea[], $5::bigint[], $6::text[], $7::timestamptz[],
            $8::timestamptz[], $9::text[])
	AS g (tenant, id, model, lines, picodollars, owner, created_at, expires_at, arrivals)
ON CONFLICT DO NOTHING`

// insertHolds returns how many were inserted: those whose ids were not taken.
func (t *tx) insertHolds(ctx context.Context, holds []*store.Hold) (int, error) {
	if len(holds) == 0 {
		return 0, nil
	}
	var tenants, ids, owners, arrivals []string
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
		set, err := packArrivals(h.Arrivals)
		if err != nil {
			return 0, err
		}
		tenants, ids, owners = append(tenants, h.TenantID), append(ids, h.ID), append(owners, h.Owner)
		models, packed, picods = append(models, model), append(packed, lines), append(picods, int64(h.Cost))
		created, expires, arrivals = append(created, h.CreatedAt), append(expires, h.ExpiresAt), append(arrivals, set)
	}
	t.witness = recordKey{holds[0].TenantID, holds[0].ID}
	result, err := t.ExecContext(ctx, insertHolds, tenants, ids, models, packed, picods, owners, created, expires, arrivals)
	if err != nil {
		return 0, err
	}
	rows, err := result.RowsAffected()
	return int(rows), err
}

const selectHoldsByID = `
SELECT h.tenant, h.id, h.model, h.lines, h.picods, h.owner, h.created_at, h.expires_at, h.released, h.record, h.arrivals
FROM unnest($1::text[], $2::text[]) AS g (tenant, id)
CROSS JOIN LATERAL (
	SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	       COALESCE(record, '') AS record, COALESCE(arrivals::text, '') AS arrivals
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
			t.tenants[r.TenantID].holds.drop(r.HoldID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := t.ExecContext(ctx, updateHoldsSettled, tenants, ids, records)
	return err
}

const updateHoldReleased = `
UPDATE usage_holds
SET released = true
WHERE tenant = $1
  AND id = $2`

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, now time.Time, tenantID, holdID string, refund store.Refund) error {
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
		case row.Released || !now.Before(row.ExpiresAt):
			return nil // one that has expired stays so, and a late record of its call still counts
		}
		if err := t.refund(ctx, n, row, refund); err != nil {
			return err
		}
		n.holds.drop(holdID)
		_, err = t.ExecContext(ctx, updateHoldReleased, tenantID, holdID)
		return err
	}, nil)
}

func (t *tx) refund(ctx context.Context, n *tenant, row *holdRow, refund store.Refund) error {
	holds, err := t.store.holds(ctx, t, []holdRow{*row})
	if err != nil {
		return err
	}
	if err := t.load(ctx, nil); err != nil {
		return err
	}
	t.setArrivals(n, refund(t.standing(n), holds[0]))
	return t.writeArrivals(ctx)
}
