package storepostgres

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// lockedTenants are the tenants of a quick transaction that have the versions which are remembered of them, and that nobody
// else has locked.
const lockedTenants = `
WITH locked AS MATERIALIZED (
	SELECT t.tenant
	FROM unnest($1::text[], $2::bigint[]) AS g (tenant, version)
	JOIN usage_tenants AS t ON t.tenant = g.tenant AND t.version = g.version
	ORDER BY t.tenant
	FOR NO KEY UPDATE OF t SKIP LOCKED
)`

// current is whether those are all, at the server that the versions are of. A full transaction gives no server: it knows.
const current = `($3::text IS NULL
		OR (SELECT count(*) FROM locked) = cardinality($1::text[])
		   AND $3::text = (SELECT ` + serverName + `))`

// serverName tells servers, runs of one and databases of one apart, in whatever zone and style a session shows times.
const serverName = `(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint || ' ' || 'usage_texts'::regclass::oid`

// done says whether the statement has written, to the store and to the statements after it in the same transaction. Where it
// has not, though a full transaction had looked whether it can, it fails by a division by zero.
const done = `
SELECT done, set_config('usage.done', done::text, true) AS told, CASE WHEN $3::text IS NULL THEN 1 / done::integer END AS checked
FROM go`

// ifDone is the condition of those statements.
const ifDone = `current_setting('usage.done') = 'true'`

// selectCurrent writes nothing: what was decided is only to say no, which has to be as right.
const selectCurrent = lockedTenants + `, go AS MATERIALIZED (
	SELECT ` + current + ` AS done
)` + done

// insertRecords adds records with their keys and writes the totals that they changed, those of months that have a row; or it
// does nothing, when one of the keys is there. The tenants are locked, so nobody else adds keys of theirs meanwhile.
const insertRecords = lockedTenants + `, go AS MATERIALIZED (
	SELECT ` + current + ` AND NOT EXISTS (
		SELECT
		FROM unnest($4::text[], $5::text[]) AS g (tenant, id)
		WHERE (SELECT k.at FROM usage_keys AS k WHERE k.tenant = g.tenant AND k.id = g.id) IS NOT NULL) AS done
), keys AS (
	INSERT INTO usage_keys (tenant, id, at)
	SELECT g.tenant, g.id, g.at
	FROM unnest($4::text[], $5::text[], $6::timestamptz[]) AS g (tenant, id, at)
	WHERE (SELECT done FROM go)
), records AS (
	INSERT INTO usage_records (
		tenant, id, at, recorded_at, latency, model, prices, conditions, status, at_given, lines, cost, unpriced, endpoint,
		error, user_id, ip, tags, hold, settlement, overage)
	SELECT g.tenant, g.id, g.at, g.recorded_at, g.latency, g.model, g.prices, g.conditions, g.status,
	       NULLIF(g.at_given, false), g.lines,
	       CASE WHEN COALESCE(g.unpriced, '') = '' THEN g.picodollars * 0.000000000001 END,
	       NULLIF(g.unpriced, ''), NULLIF(g.endpoint, ''), NULLIF(g.error, ''), NULLIF(g.user_id, ''), NULLIF(g.ip, ''),
	       NULLIF(g.tags, '')::jsonb, NULLIF(g.hold, ''), NULLIF(g.settlement, ''), NULLIF(g.overage, 0) * 0.000000000001
	FROM unnest($4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::integer[], $10::integer[],
	            $11::integer[], $12::integer[], $13::boolean[], $14::bytea[], $15::bigint[], $16::text[], $17::text[],
	            $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::bigint[])
		AS g (tenant, id, at, recorded_at, latency, model, prices, conditions, status, at_given, lines, picodollars, unpriced,
			endpoint, error, user_id, ip, tags, hold, settlement, overage)
	WHERE (SELECT done FROM go)
), months AS (
	UPDATE usage_months AS m
	SET calls = g.calls,
	    errors = g.errors,
	    unpriced = g.unpriced,
	    cost = g.picodollars * 0.000000000001,
	    meters = g.meters,
	    day = g.day,
	    day_calls = g.day_calls,
	    day_errors = g.day_errors,
	    day_unpriced = g.day_unpriced,
	    day_cost = g.day_picodollars * 0.000000000001,
	    day_meters = g.day_meters,
	    revision = g.revision
	FROM unnest($25::text[], $26::timestamptz[], $27::integer[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[],
	            $32::bytea[], $33::bigint[], $34::timestamptz[], $35::bigint[], $36::bigint[], $37::bigint[], $38::bigint[],
	            $39::bytea[])
		AS g (tenant, start, model, calls, errors, unpriced, picodollars, meters, revision,
			day, day_calls, day_errors, day_unpriced, day_picodollars, day_meters)
	WHERE m.tenant = g.tenant
	  AND m.start = g.start
	  AND m.model = g.model
	  AND (SELECT done FROM go)
)` + done

// insertMonths adds the totals of months that had none.
const insertMonths = `
INSERT INTO usage_months (
	tenant, start, model, calls, errors, unpriced, cost, meters, revision,
	day, day_calls, day_errors, day_unpriced, day_cost, day_meters)
SELECT g.tenant, g.start, g.model, g.calls, g.errors, g.unpriced, g.picodollars * 0.000000000001, g.meters, g.revision,
       g.day, g.day_calls, g.day_errors, g.day_unpriced, g.day_picodollars * 0.000000000001, g.day_meters
FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[],
            $9::bigint[], $10::timestamptz[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bytea[])
	AS g (tenant, start, model, calls, errors, unpriced, picodollars, meters, revision,
		day, day_calls, day_errors, day_unpriced, day_picodollars, day_meters)
WHERE ` + ifDone

// settleHolds settles the holds that records name.
const settleHolds = `
UPDATE usage_holds AS h
SET record = g.record,
    revision = NULLIF(g.revision, 0)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS g (tenant, id, record, revision)
WHERE h.tenant = g.tenant
  AND h.id = g.id
  AND ` + ifDone

// insertHolds adds holds, or does nothing when one of the ids is taken.
const insertHolds = lockedTenants + `, go AS MATERIALIZED (
	SELECT ` + current + ` AND NOT EXISTS (
		SELECT
		FROM unnest($4::text[], $5::text[]) AS g (tenant, id)
		WHERE (SELECT h.model FROM usage_holds AS h WHERE h.tenant = g.tenant AND h.id = g.id) IS NOT NULL) AS done
), holds AS (
	INSERT INTO usage_holds (tenant, id, model, lines, cost, owner, created_at, expires_at, arrivals, revision)
	SELECT g.tenant, g.id, g.model, g.lines, g.picodollars * 0.000000000001, g.owner, g.created_at, g.expires_at,
	       NULLIF(g.arrivals, '')::jsonb, NULLIF(g.revision, 0)
	FROM unnest($4::text[], $5::text[], $6::integer[], $7::bytea[], $8::bigint[], $9::text[], $10::timestamptz[],
	            $11::timestamptz[], $12::text[], $13::bigint[])
		AS g (tenant, id, model, lines, picodollars, owner, created_at, expires_at, arrivals, revision)
	WHERE (SELECT done FROM go)
)` + done

// writes are what a transaction adds, besides the totals that have changed.
type writes struct {
	records  []*store.Record
	holds    []*store.Hold
	arrivals map[arrivalKey]store.Arrival
}

// ids are those of the records or of the holds.
func (w *writes) ids() (tenants, ids []string) {
	for _, r := range w.records {
		tenants, ids = append(tenants, r.TenantID), append(ids, r.ID)
	}
	for _, h := range w.holds {
		tenants, ids = append(tenants, h.TenantID), append(ids, h.ID)
	}
	return tenants, ids
}

// answer is what the server says of them.
type answer struct {
	Done    bool
	Told    string
	Checked sql.NullInt64
}

// queueWrites queues all that the transaction writes.
func (t *tx) queueWrites(answer *answer) error {
	changed, err := t.changedTotals()
	if err != nil {
		return err
	}
	if t.quick {
		t.queue(nil, selectSettings)
	}
	switch {
	case len(t.writes.holds) > 0:
		err = t.queueHoldWrites(answer)
	case len(t.writes.records)+len(changed.months.tenants) > 0:
		err = t.queueRecordWrites(&changed, answer)
	case t.quick:
		t.queue(answer, selectCurrent, t.condition()...)
	}
	if n, d := &changed.newMonths, &changed.newLastDays; len(n.tenants) > 0 {
		t.queue(nil, insertMonths, n.tenants, n.starts, n.models, n.calls, n.errors, n.unpriced, n.picods, n.meters,
			t.revisions(n.tenants, (*tenant).current), d.starts, d.calls, d.errors, d.unpriced, d.picods, d.meters)
	}
	if d := &changed.days; len(d.tenants) > 0 {
		t.queue(nil, upsertDays, d.tenants, d.starts, d.models, d.calls, d.errors, d.unpriced, d.picods, d.meters)
	}
	t.queueSettlements()
	t.queueArrivals()
	return err
}

// condition are the first arguments of a statement that begins with lockedTenants.
func (t *tx) condition() []any {
	if !t.quick {
		return []any{[]string(nil), []int64(nil), (*string)(nil)}
	}
	ids := slices.Collect(maps.Keys(t.tenants))
	return []any{ids, t.remembered(ids, func(n *tenant) int64 { return n.version }), t.server}
}

func (t *tx) queueRecordWrites(changed *changedTotals, answer *answer) error {
	records := t.writes.records
	c := newRecordLists(len(records))
	for i, r := range records {
		if err := c.set(i, r, t.store); err != nil {
			return err
		}
	}
	if len(records) > 0 {
		if err := t.bearWitness(records[0], c.models[0]); err != nil {
			return err
		}
	}
	m, d := &changed.months, &changed.lastDays
	t.queue(answer, insertRecords, append(t.condition(),
		c.tenants, c.ids, c.ats, c.recorded, c.latencies, c.models, c.prices, c.conditions, c.statuses, c.given, c.lines,
		c.picods, c.unpriced.all(), c.endpoints.all(), c.errors.all(), c.users.all(), c.ips.all(), c.tags.all(), c.holds.all(),
		c.settlements.all(), c.overages,
		m.tenants, m.starts, m.models, m.calls, m.errors, m.unpriced, m.picods, m.meters, t.revisions(m.tenants, (*tenant).current),
		d.starts, d.calls, d.errors, d.unpriced, d.picods, d.meters)...)
	return nil
}

// revisions are those of locked tenants that go into rows.
func (t *tx) revisions(tenants []string, of func(*tenant) int64) []int64 {
	revisions := make([]int64, len(tenants))
	for i, id := range tenants {
		revisions[i] = of(t.tenants[id])
	}
	return revisions
}

// bearWitness makes a record that the transaction adds its witness.
func (t *tx) bearWitness(r *store.Record, model int32) error {
	month, _ := t.tenants[r.TenantID].monthAt(r.At)
	sum := month.byModel[model]
	if sum == nil {
		return unnumbered(r.Model) // it has had another number a moment ago
	}
	t.witness = witness{kind: recordWitness, tenantID: r.TenantID, id: r.ID, month: month.Start, model: model, calls: sum.Calls}
	return nil
}

func (t *tx) queueHoldWrites(answer *answer) error {
	holds := t.writes.holds
	n := len(holds)
	tenants, ids, owners, arrivals := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	models, packed, picods := make([]int32, n), make([][]byte, n), make([]int64, n)
	created, expires := make([]time.Time, n), make([]time.Time, n)
	for i, h := range holds {
		model, ok := t.store.dictionary.modelNumber(modelName{h.Provider, h.Model})
		if !ok {
			return unnumbered(h.Model)
		}
		var err error
		if packed[i], err = t.store.packLines(h.Lines); err != nil {
			return err
		}
		if arrivals[i], err = pack.ArrivalsText(h.Arrivals); err != nil {
			return err
		}
		tenants[i], ids[i], owners[i], models[i], picods[i] = h.TenantID, h.ID, h.Owner, model, int64(h.Cost)
		created[i], expires[i] = h.CreatedAt, h.ExpiresAt
	}
	t.witness = witness{kind: holdWitness, tenantID: holds[0].TenantID, id: holds[0].ID}
	t.queue(answer, insertHolds, append(t.condition(),
		tenants, ids, models, packed, picods, owners, created, expires, arrivals,
		t.revisions(tenants, (*tenant).trace))...)
	return nil
}

// queueSettlements settles the holds that the records which are added have settled.
func (t *tx) queueSettlements() {
	var tenants, ids, records []string
	for _, r := range t.writes.records {
		if r.Settlement == store.Settled {
			tenants, ids, records = append(tenants, r.TenantID), append(ids, r.HoldID), append(records, r.ID)
		}
	}
	if len(ids) > 0 {
		t.queue(nil, settleHolds, tenants, ids, records, t.revisions(tenants, (*tenant).trace))
	}
}

// recordLists are the arguments that insert records, one list for each column.
type recordLists struct {
	tenants, ids                                                      []string
	unpriced, endpoints, errors, users, ips, tags, holds, settlements optional
	ats, recorded                                                     []time.Time
	latencies, picods, overages                                       []int64
	models, prices, conditions, statuses                              []int32
	given                                                             []bool
	lines                                                             [][]byte
}

// optional is a column that most rows have nothing in; a list of nothing but empty texts is sent as NULL.
type optional struct {
	texts []string
	any   bool
}

func (o *optional) set(i int, text string) {
	o.texts[i], o.any = text, o.any || text != ""
}

func (o *optional) all() []string {
	if !o.any {
		return nil
	}
	return o.texts
}

func newRecordLists(n int) *recordLists {
	texts, times, numbers, small := make([]string, 10*n), make([]time.Time, 2*n), make([]int64, 3*n), make([]int32, 4*n)
	text := func(i int) []string { return texts[i*n : (i+1)*n : (i+1)*n] }
	some := func(i int) optional { return optional{texts: text(i)} }
	return &recordLists{
		tenants: text(0), ids: text(1), unpriced: some(2), endpoints: some(3), errors: some(4), users: some(5), ips: some(6),
		tags: some(7), holds: some(8), settlements: some(9),
		ats: times[:n:n], recorded: times[n:],
		latencies: numbers[:n:n], picods: numbers[n : 2*n : 2*n], overages: numbers[2*n:],
		models: small[:n:n], prices: small[n : 2*n : 2*n], conditions: small[2*n : 3*n : 3*n], statuses: small[3*n:],
		given: make([]bool, n), lines: make([][]byte, n),
	}
}

func (c *recordLists) set(i int, r *store.Record, s *Store) (err error) {
	model, okModel := s.dictionary.modelNumber(modelName{r.Provider, r.Model})
	prices, okPrices := s.dictionary.textNumber(r.PriceVersion)
	conditions, okConditions := s.dictionary.textNumber(r.Conditions)
	if !okModel || !okPrices || !okConditions {
		return unnumbered(r.Model + ", " + r.PriceVersion + " or " + r.Conditions)
	}
	c.tenants[i], c.ids[i], c.ats[i], c.recorded[i], c.given[i] = r.TenantID, r.ID, r.At, r.RecordedAt, r.AtGiven
	c.models[i], c.prices[i], c.conditions[i], c.statuses[i] = model, prices, conditions, int32(r.Status)
	c.latencies[i], c.picods[i], c.overages[i] = r.Latency.Microseconds(), int64(r.Cost), int64(r.Overage)
	c.unpriced.set(i, r.Unpriced)
	c.endpoints.set(i, r.Endpoint)
	c.errors.set(i, r.Error)
	c.users.set(i, r.User)
	c.ips.set(i, r.IP)
	c.tags.set(i, packTags(r.Tags))
	c.holds.set(i, r.HoldID)
	c.settlements.set(i, string(r.Settlement))
	c.lines[i], err = s.packLines(r.Lines)
	return err
}

// errUnnumbered: a word has no number, though all of a batch were given theirs before. The dictionary was reset meanwhile.
var errUnnumbered = errors.New("has no number")

func unnumbered(word string) error {
	return fmt.Errorf("%q %w: %w", word, errUnnumbered, store.ErrUnavailable)
}

func packTags(tags map[string]string) string {
	if len(tags) == 0 {
		return ""
	}
	packed, err := json.Marshal(tags)
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	return string(packed)
}

func (s *Store) packLines(lines []store.Line) ([]byte, error) {
	packed := make([]byte, 0, 16*len(lines))
	for i := range lines {
		meter, okMeter := s.dictionary.textNumber(string(lines[i].Meter))
		rate, okRate := s.dictionary.rateNumber(lines[i].Rate)
		if !okMeter || !okRate {
			return nil, unnumbered(string(lines[i].Meter))
		}
		packed = pack.AppendLine(packed, pack.Line{
			Meter: int64(meter), Quantity: lines[i].Quantity, Rate: int64(rate), Cost: int64(lines[i].Cost), Unbilled: lines[i].Unbilled,
		})
	}
	return packed, nil
}
