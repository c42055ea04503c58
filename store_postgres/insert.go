package storepostgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// insertRecordsSQL adds records with their keys and writes the totals that they changed: those of months that have a row. Its answer is how many of the keys were new: when it is not all of them, the transaction has to
// be rolled back. The tenants are locked, so nobody else adds keys of theirs meanwhile, and looking for a key before it is
// added costs less than ON CONFLICT does.
const insertRecordsSQL = `
WITH keys AS (
	INSERT INTO usage_keys (tenant, id, at)
	SELECT g.tenant, g.id, g.at
	FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS g (tenant, id, at)
	WHERE (SELECT k.at FROM usage_keys AS k WHERE k.tenant = g.tenant AND k.id = g.id) IS NULL
	RETURNING 1
), records AS (
	INSERT INTO usage_records (
		tenant, id, at, recorded_at, latency, model, prices, conditions, status, at_given, lines, cost, unpriced, endpoint,
		error, user_id, ip, tags, hold, settlement, overage)
	SELECT g.tenant, g.id, g.at, g.recorded_at, g.latency, g.model, g.prices, g.conditions, g.status, g.at_given, g.lines,
	       CASE WHEN g.unpriced = '' THEN g.picodollars * 0.000000000001 END,
	       NULLIF(g.unpriced, ''), NULLIF(g.endpoint, ''), NULLIF(g.error, ''), NULLIF(g.user_id, ''), NULLIF(g.ip, ''),
	       NULLIF(g.tags, '')::jsonb, NULLIF(g.hold, ''), NULLIF(g.settlement, ''),
	       CASE WHEN g.overage > 0 THEN g.overage * 0.000000000001 END
	FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::integer[], $7::integer[],
	            $8::integer[], $9::integer[], $10::boolean[], $11::bytea[], $12::bigint[], $13::text[], $14::text[], $15::text[],
	            $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::bigint[])
		AS g (tenant, id, at, recorded_at, latency, model, prices, conditions, status, at_given, lines, picodollars, unpriced,
			endpoint, error, user_id, ip, tags, hold, settlement, overage)
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
	    day_meters = g.day_meters
	FROM unnest($22::text[], $23::timestamptz[], $24::integer[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[],
	            $29::bytea[], $30::timestamptz[], $31::bigint[], $32::bigint[], $33::bigint[], $34::bigint[], $35::bytea[])
		AS g (tenant, start, model, calls, errors, unpriced, picodollars, meters,
			day, day_calls, day_errors, day_unpriced, day_picodollars, day_meters)
	WHERE m.tenant = g.tenant
	  AND m.start = g.start
	  AND m.model = g.model
)
SELECT count(*)
FROM keys`

// insertRecords returns how many of the records were new.
func (t *tx) insertRecords(ctx context.Context, records []*store.Record) (inserted int, err error) {
	c := newRecordLists(len(records))
	for i, r := range records {
		if err := c.set(i, r, t.store); err != nil {
			return 0, err
		}
	}
	if len(records) > 0 {
		t.witness = recordKey{records[0].TenantID, records[0].ID}
	}
	w, err := t.changedTotals()
	if err != nil {
		return 0, err
	}
	if err := t.insertMonths(ctx, &w.newMonths, &w.newLastDays); err != nil {
		return 0, err
	}
	if err := t.writeDays(ctx, &w.days); err != nil {
		return 0, err
	}
	months, lastDays := &w.months, &w.lastDays
	err = t.GetContext(ctx, &inserted, insertRecordsSQL,
		c.tenants, c.ids, c.ats, c.recorded, c.latencies, c.models, c.prices, c.conditions, c.statuses, c.given, c.lines,
		c.picods, c.unpriced, c.endpoints, c.errors, c.users, c.ips, c.tags, c.holds, c.settlements, c.overages,
		months.tenants, months.starts, months.models, months.calls, months.errors, months.unpriced, months.picods, months.meters,
		lastDays.starts, lastDays.calls, lastDays.errors, lastDays.unpriced, lastDays.picods, lastDays.meters)
	return inserted, err
}

// writeTotals writes the totals that have changed, without any record.
func (t *tx) writeTotals(ctx context.Context) error {
	_, err := t.insertRecords(ctx, nil)
	return err
}

// recordLists are the arguments that insert records, one list for each column.
type recordLists struct {
	tenants, ids, unpriced, endpoints, errors, users, ips, tags, holds, settlements []string
	ats, recorded                                                                   []time.Time
	latencies, picods, overages                                                     []int64
	models, prices, conditions, statuses                                            []int32
	given                                                                           []bool
	lines                                                                           [][]byte
}

func newRecordLists(n int) *recordLists {
	texts, times, numbers, small := make([]string, 10*n), make([]time.Time, 2*n), make([]int64, 3*n), make([]int32, 4*n)
	text := func(i int) []string { return texts[i*n : (i+1)*n : (i+1)*n] }
	return &recordLists{
		tenants: text(0), ids: text(1), unpriced: text(2), endpoints: text(3), errors: text(4), users: text(5), ips: text(6),
		tags: text(7), holds: text(8), settlements: text(9),
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
	c.latencies[i], c.picods[i], c.unpriced[i], c.overages[i] = r.Latency.Microseconds(), int64(r.Cost), r.Unpriced, int64(r.Overage)
	c.endpoints[i], c.errors[i], c.users[i], c.ips[i], c.tags[i] = r.Endpoint, r.Error, r.User, r.IP, packTags(r.Tags)
	c.holds[i], c.settlements[i] = r.HoldID, string(r.Settlement)
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
