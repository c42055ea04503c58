package storepostgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/held"
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

// hasManyHolds reports whether so many holds are remembered that those which are written say under which revision, so that
// another store need not read all that are live whenever it takes its turn. Where there are few, that costs more than it saves.
func (n *tenant) hasManyHolds() bool { return n.holds.Len() >= manyHolds }

const manyHolds = 64

// current is the revision that goes into totals which are written.
func (n *tenant) current() int64 { return n.revision }

// trace is the revision that goes into holds which are written; 0 is none.
func (n *tenant) trace() int64 {
	if n.untraced == n.revision {
		return 0
	}
	return n.revision
}

// selectHoldsSince reads the holds of tenants that were written after a revision, whatever became of them; or, where some may
// have been that do not say so, all that are live.
const selectHoldsSince = `
SELECT h.tenant, h.id, h.model, h.lines, h.picods, h.owner, h.created_at, h.expires_at, h.released, h.record, h.arrivals
FROM unnest($1::text[], $2::bigint[]) AS g (tenant, revision)
JOIN usage_tenants AS t ON t.tenant = g.tenant
CROSS JOIN LATERAL (
	(SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	        COALESCE(record, '') AS record, COALESCE(arrivals::text, '') AS arrivals
	FROM usage_holds
	WHERE tenant = g.tenant
	  AND revision > g.revision
	  AND t.untraced <= g.revision
	ORDER BY revision
	LIMIT $4)
	UNION ALL
	SELECT tenant, id, model, lines, (cost * 1000000000000)::bigint AS picods, owner, created_at, expires_at, released,
	       '' AS record, COALESCE(arrivals::text, '') AS arrivals
	FROM usage_holds
	WHERE tenant = g.tenant
	  AND t.untraced > g.revision
	  AND NOT released
	  AND record IS NULL
	  AND expires_at > $3) AS h`

// mostChanged is how many holds of a tenant are read that others have written. When there are more, those that are live are
// read instead, which may be fewer: others may have written for long.
const mostChanged = 1000

// selectHolds returns the holds of tenants that are live at an instant, by tenant and id.
func (s *Store) selectHolds(ctx context.Context, q queryer, tenants []string, at time.Time) ([]*store.Hold, error) {
	var rows []holdRow
	if err := q.SelectContext(ctx, &rows, selectOpenHolds, tenants, at); err != nil {
		return nil, err
	}
	return s.holds(ctx, q, rows)
}

// missingHolds are the tenants whose live holds are to be read, and those of whose holds only what others have written since is,
// with the revisions since when.
func (t *tx) missingHolds(of map[string]*tenant) (unknown, changed []string, since []int64) {
	for id, n := range of {
		switch known := n.holds.Known(t.now); {
		case known && n.outdated && n.hasManyHolds():
			changed, since = append(changed, id), append(since, n.readAt)
		case !known || n.outdated:
			n.holds.Reset(t.now)
			unknown = append(unknown, id)
		}
	}
	return unknown, changed, since
}

func (t *tx) putHolds(ctx context.Context, r *reading) error {
	live := append(r.holdRows, t.putChangedHolds(r)...)
	holds, err := t.store.holds(ctx, t, live)
	for _, h := range holds {
		r.tenants[h.TenantID].holds.Add(h)
	}
	return err
}

// putChangedHolds takes out what others have written, and returns what of that is live.
func (t *tx) putChangedHolds(r *reading) (live []holdRow) {
	read := make(map[string]int)
	for i := range r.changedHolds {
		read[r.changedHolds[i].Tenant]++
	}
	for _, id := range r.changed {
		switch n := r.tenants[id]; {
		case n.untraced > n.readAt:
			n.holds.Reset(t.now)
		case read[id] == mostChanged:
			n.holds, r.unfinished = held.Holds{}, true
		default:
			n.holds.Expire(t.now) // of those that had expired by then, the others' are not taken
		}
	}
	for _, row := range r.changedHolds {
		n := r.tenants[row.Tenant]
		n.holds.Drop(row.ID)
		if n.holds.Known(t.now) && !row.Released && row.Record == "" && t.now.Before(row.ExpiresAt) {
			live = append(live, row)
		}
	}
	return live
}

// holds resolves the numbers of rows.
func (s *Store) holds(ctx context.Context, q queryer, rows []holdRow) ([]*store.Hold, error) {
	packed := make([][]pack.Line, len(rows))
	var texts, models []int32
	for i := range rows {
		lines, err := pack.ParseLines(nil, rows[i].Lines)
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
	arrivals, err := pack.ParseArrivals(row.Arrivals)
	if err != nil {
		return nil, fmt.Errorf("hold %q: %w", row.ID, err)
	}
	return &store.Hold{
		TenantID: row.Tenant, ID: row.ID, Provider: name.Provider, Model: name.Name, Lines: lines, Cost: store.Money(row.Picods),
		Owner: row.Owner, CreatedAt: row.CreatedAt.UTC(), ExpiresAt: row.ExpiresAt.UTC(), Arrivals: arrivals,
	}, nil
}

// Hold implements store.Store.
func (s *Store) Hold(
	ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide,
) (outcomes []store.HoldOutcome, err error) {
	if len(holds) == 0 {
		return nil, s.ready(ctx, "hold")
	}
	tenants := make([]string, len(holds))
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
	var taken []holdRow
	err = s.write(ctx, change{
		op: "hold", now: now, tenants: tenants, create: true, quick: true, prepare: prepare,
		ask: func(t *tx) {
			taken = nil
			t.queueHolds(&taken, keysOf(holds))
		},
		apply: func(t *tx) (err error) {
			outcomes, err = t.hold(ctx, holds, taken, decide)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// hold takes holds; taken are those whose ids are taken, which a quick transaction finds out when it writes.
func (t *tx) hold(ctx context.Context, holds []store.Hold, taken []holdRow, decide store.Decide) ([]store.HoldOutcome, error) {
	if err := t.load(ctx, nil); err != nil {
		return nil, err
	}
	if t.quick && t.mistakable(holds) {
		return nil, errAsk // see selectApplied
	}
	known := make(map[holdKey]bool, len(taken))
	for i := range taken {
		known[holdKey{taken[i].Tenant, taken[i].ID}] = true
	}
	outcomes, asked := t.decide(holds, known, decide)
	raised, err := t.raise(ctx, asked, len(outcomes))
	for i := range raised {
		outcomes[i].Alerts = raised[i]
	}
	return outcomes, err
}

// mistakable reports whether one of the holds has the id of a live one, or has expired itself: the queue was longer than it lasts.
func (t *tx) mistakable(holds []store.Hold) bool {
	return slices.ContainsFunc(holds, func(h store.Hold) bool {
		return t.tenants[h.TenantID].holds.Get(h.ID) != nil || !h.Live(t.now)
	})
}

func keysOf(holds []store.Hold) []holdKey {
	keys := make([]holdKey, len(holds))
	for i := range holds {
		keys[i] = holdKey{holds[i].TenantID, holds[i].ID}
	}
	return keys
}

// decide asks about each hold in order. known are the ids that are taken.
func (t *tx) decide(
	holds []store.Hold, known map[holdKey]bool, decide store.Decide,
) (outcomes []store.HoldOutcome, alerts []alertAsked) {
	outcomes = make([]store.HoldOutcome, len(holds))
	for i := range holds {
		asked := holds[i]
		asked.Lines = slices.Clone(asked.Lines)
		n, key := t.tenants[asked.TenantID], holdKey{asked.TenantID, asked.ID}
		verdict := decide(t.standing(n), &asked)
		switch {
		case verdict.Refusal != nil:
			outcomes[i].Err = verdict.Refusal
		case known[key]:
			outcomes[i].Err = &store.ConflictError{TenantID: asked.TenantID, ID: asked.ID, Field: "ID"}
		default:
			asked.Arrivals = verdict.Arrivals
			n.holds.Add(&asked)
			t.setArrivals(n, verdict.Arrivals)
			known[key], t.writes.holds = true, append(t.writes.holds, &asked)
		}
		for _, alert := range verdict.Alerts {
			alerts = append(alerts, alertAsked{alert.Raise(asked.TenantID, t.now), i})
		}
	}
	return outcomes, alerts
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

// queueHolds asks for the holds of these identities, whatever became of them.
func (t *tx) queueHolds(rows *[]holdRow, keys []holdKey) {
	if len(keys) == 0 {
		return
	}
	tenants, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		tenants[i], ids[i] = key.tenantID, key.id
	}
	t.queue(rows, selectHoldsByID, tenants, ids)
}

func holdsByKey(rows []holdRow) map[holdKey]*holdRow {
	found := make(map[holdKey]*holdRow, len(rows))
	for i := range rows {
		found[holdKey{rows[i].Tenant, rows[i].ID}] = &rows[i]
	}
	return found
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

// settle settles the holds of records that are in.
func (t *tx) settle(added []*store.Record) {
	for _, r := range added {
		if r.Settlement == store.Settled {
			t.tenants[r.TenantID].holds.Drop(r.HoldID)
		}
	}
}

const updateHoldReleased = `
UPDATE usage_holds
SET released = true,
    revision = NULLIF($3::bigint, 0)
WHERE tenant = $1
  AND id = $2`

// Release implements store.Store. A transaction that finds out that there is nothing to release is committed all the same: else
// all that is remembered of the tenant would be forgotten, and many release whatever they have reserved when they are done.
func (s *Store) Release(ctx context.Context, now time.Time, tenantID, holdID string, refund store.Refund) error {
	var rows []holdRow
	var refused error
	ask := func(t *tx) {
		rows = nil
		t.queueHolds(&rows, []holdKey{{tenantID, holdID}})
	}
	apply := func(t *tx) error {
		if refused = nil; len(t.tenants) == 0 {
			return store.ErrNotFound
		}
		if err := t.load(ctx, nil); err != nil {
			return err
		}
		switch {
		case len(rows) == 0:
			refused = store.ErrNotFound
		case rows[0].Record != "":
			refused = &store.HoldError{TenantID: tenantID, HoldID: holdID, RecordID: rows[0].Record}
		default:
			return t.release(ctx, &rows[0], refund)
		}
		return nil
	}
	if err := s.write(ctx, change{op: "release", now: now, tenants: []string{tenantID}, ask: ask, apply: apply}); err != nil {
		return err
	}
	return wrap("release", refused)
}

func (t *tx) release(ctx context.Context, row *holdRow, refund store.Refund) error {
	if row.Released || !t.now.Before(row.ExpiresAt) {
		return nil // one that has expired stays so, and a late record of its call still counts
	}
	holds, err := t.store.holds(ctx, t, []holdRow{*row})
	if err != nil {
		return err
	}
	n := t.tenants[row.Tenant]
	t.setArrivals(n, refund(t.standing(n), holds[0]))
	n.holds.Drop(row.ID)
	t.witness = witness{kind: releaseWitness, tenantID: row.Tenant, id: row.ID}
	_, err = t.ExecContext(ctx, updateHoldReleased, row.Tenant, row.ID, n.trace())
	return err
}
