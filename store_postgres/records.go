package storepostgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

type recordRow struct {
	Tenant     string
	ID         string
	At         time.Time
	RecordedAt time.Time `db:"recorded_at"`
	AtGiven    bool      `db:"at_given"`
	Model      int32
	Lines      []byte
	Picods     sql.NullInt64
	Unpriced   string
	Prices     int32
	Conditions int32
	Endpoint   string
	Status     int
	Latency    int64
	Error      string
	UserID     string `db:"user_id"`
	IP         string
	Tags       string
	Hold       string
	Settlement string
	Overage    int64
}

// recordKey is the identity of a record.
type recordKey struct{ tenantID, id string }

// records resolves the numbers of rows.
func (s *Store) records(ctx context.Context, q queryer, rows []recordRow) (records []store.Record, err error) {
	packed := make([][]pack.Line, len(rows))
	var texts, models []int32
	for i := range rows {
		if packed[i], err = pack.ParseLines(nil, rows[i].Lines); err != nil {
			return nil, err
		}
		texts, models = append(appendTexts(texts, packed[i]), rows[i].Prices, rows[i].Conditions), append(models, rows[i].Model)
	}
	if err := s.readNumbers(ctx, q, texts, models); err != nil {
		return nil, err
	}
	records = make([]store.Record, len(rows))
	for i := range rows {
		if records[i], err = s.record(&rows[i], packed[i]); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func appendTexts(texts []int32, lines []pack.Line) []int32 {
	for _, line := range lines {
		texts = append(texts, int32(line.Meter), int32(line.Rate))
	}
	return texts
}

func (s *Store) record(row *recordRow, packed []pack.Line) (r store.Record, err error) {
	name, okModel := s.dictionary.model(row.Model)
	prices, okPrices := s.dictionary.text(row.Prices)
	conditions, okConditions := s.dictionary.text(row.Conditions)
	switch {
	case !okModel:
		return r, dangling("model", row.Model)
	case !okPrices:
		return r, dangling("text", row.Prices)
	case !okConditions:
		return r, dangling("text", row.Conditions)
	}
	r = store.Record{
		TenantID: row.Tenant, ID: row.ID, Provider: name.Provider, Model: name.Name,
		At: row.At.UTC(), RecordedAt: row.RecordedAt.UTC(), AtGiven: row.AtGiven,
		Cost: store.Money(row.Picods.Int64), Unpriced: row.Unpriced, PriceVersion: prices, Conditions: conditions,
		Endpoint: row.Endpoint, Status: row.Status, Latency: time.Duration(row.Latency) * time.Microsecond, Error: row.Error,
		User: row.UserID, IP: row.IP, HoldID: row.Hold,
		Settlement: store.Settlement(row.Settlement), Overage: store.Money(row.Overage),
	}
	if row.Tags != "" {
		if err := json.Unmarshal([]byte(row.Tags), &r.Tags); err != nil {
			return r, fmt.Errorf("tags of record %q: %w: %w", row.ID, store.ErrCorrupt, err)
		}
	}
	r.Lines, err = s.lines(packed)
	return r, err
}

func (s *Store) lines(packed []pack.Line) ([]store.Line, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	lines := make([]store.Line, len(packed))
	for i, p := range packed {
		meter, ok := s.dictionary.text(int32(p.Meter))
		if !ok {
			return nil, dangling("text", int32(p.Meter))
		}
		rate, err := s.dictionary.rate(int32(p.Rate))
		if err != nil {
			return nil, err
		}
		lines[i] = store.Line{
			Meter: store.Meter(meter), Quantity: p.Quantity, Rate: rate, Cost: store.Money(p.Cost), Unbilled: p.Unbilled,
		}
	}
	return lines, nil
}

// recordColumns are the columns of a recordRow, from the table under the name r.
const recordColumns = `
	r.tenant, r.id, r.at, r.recorded_at, r.at_given IS NOT NULL AS at_given, r.model, r.lines,
	(r.cost * 1000000000000)::bigint AS picods,
	COALESCE(r.unpriced, '') AS unpriced, r.prices, r.conditions, COALESCE(r.endpoint, '') AS endpoint, r.status, r.latency,
	COALESCE(r.error, '') AS error, COALESCE(r.user_id, '') AS user_id, COALESCE(r.ip, '') AS ip,
	COALESCE(r.tags::text, '') AS tags, COALESCE(r.hold, '') AS hold, COALESCE(r.settlement, '') AS settlement,
	COALESCE(r.overage * 1000000000000, 0)::bigint AS overage`

// A key says in which partition its record is. OFFSET 0 has the server look there and nowhere else, whatever it thinks of
// the size of the tables.
const selectRecord = `
SELECT` + recordColumns + `
FROM usage_keys AS k
CROSS JOIN LATERAL (
	SELECT tenant, id, at, recorded_at, at_given, model, lines, cost, unpriced, prices, conditions, endpoint, status, latency,
	       error, user_id, ip, tags, hold, settlement, overage
	FROM usage_records
	WHERE tenant = k.tenant
	  AND at = k.at
	  AND id = k.id
	OFFSET 0) AS r
WHERE k.tenant = $1
  AND k.id = $2`

// Record implements store.Store.
func (s *Store) Record(ctx context.Context, tenantID, id string) (r store.Record, err error) {
	err = s.read(ctx, "record", func(q queryer) error {
		var row recordRow
		err := q.GetContext(ctx, &row, selectRecord, tenantID, id)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		records, err := s.records(ctx, q, []recordRow{row})
		if err == nil {
			r = records[0]
		}
		return err
	})
	return r, err
}

const selectRecordsByID = `
SELECT` + recordColumns + `
FROM unnest($1::text[], $2::text[]) AS g (tenant, id)
CROSS JOIN LATERAL (
	SELECT tenant, id, at
	FROM usage_keys
	WHERE tenant = g.tenant
	  AND id = g.id
	OFFSET 0) AS k
CROSS JOIN LATERAL (
	SELECT tenant, id, at, recorded_at, at_given, model, lines, cost, unpriced, prices, conditions, endpoint, status, latency,
	       error, user_id, ip, tags, hold, settlement, overage
	FROM usage_records
	WHERE tenant = k.tenant
	  AND at = k.at
	  AND id = k.id
	OFFSET 0) AS r`

// queueExisting asks which of the records are in the ledger.
func (t *tx) queueExisting(rows *[]recordRow, records []*store.Record) {
	tenants, ids := make([]string, len(records)), make([]string, len(records))
	for i := range records {
		tenants[i], ids[i] = records[i].TenantID, records[i].ID
	}
	t.queue(rows, selectRecordsByID, tenants, ids)
}

// The bounds $2 ≤ at < $3 select partitions; ($4, $5) is where a page starts after, if it does.
const selectRecordsForward = `
SELECT` + recordColumns + `
FROM usage_records AS r
JOIN usage_models AS m ON m.model = r.model
WHERE r.tenant = $1
  AND r.at >= COALESCE($2::timestamptz, '-infinity')
  AND r.at < COALESCE($3::timestamptz, 'infinity')
  AND ($4::timestamptz IS NULL OR (r.at, r.id) > ($4, $5::text))
  AND ($6::text = '' OR m.provider = $6)
  AND ($7::text = '' OR m.name = $7)
  AND ($8::text = '' OR r.user_id = $8)
  AND ($9::integer = 0 OR r.status = $9)
  AND (NOT $10::boolean OR r.unpriced IS NOT NULL)
ORDER BY r.at, r.id
LIMIT $11`

const selectRecordsBackward = `
SELECT` + recordColumns + `
FROM usage_records AS r
JOIN usage_models AS m ON m.model = r.model
WHERE r.tenant = $1
  AND r.at >= COALESCE($2::timestamptz, '-infinity')
  AND r.at < COALESCE($3::timestamptz, 'infinity')
  AND ($4::timestamptz IS NULL OR (r.at, r.id) < ($4, $5::text))
  AND ($6::text = '' OR m.provider = $6)
  AND ($7::text = '' OR m.name = $7)
  AND ($8::text = '' OR r.user_id = $8)
  AND ($9::integer = 0 OR r.status = $9)
  AND (NOT $10::boolean OR r.unpriced IS NOT NULL)
ORDER BY r.at DESC, r.id DESC
LIMIT $11`

// Records implements store.Store.
func (s *Store) Records(ctx context.Context, query store.RecordQuery) (records []store.Record, err error) {
	from, to, statement := timestamp(query.From), timestamp(query.To), selectRecordsForward
	var at sql.NullTime
	var id string
	if p := query.After; p != nil {
		at, id = sql.NullTime{Time: p.At, Valid: true}, p.ID
		// The position is a bound too, so that partitions on its other side are left alone.
		if past := p.At.Add(time.Microsecond); query.NewestFirst && (!to.Valid || past.Before(to.Time)) {
			to = sql.NullTime{Time: past, Valid: true}
		} else if !query.NewestFirst && (!from.Valid || p.At.After(from.Time)) {
			from = at
		}
	}
	if query.NewestFirst {
		statement = selectRecordsBackward
	}
	err = s.read(ctx, "records", func(q queryer) error {
		var rows []recordRow
		err := q.SelectContext(ctx, &rows, statement, query.TenantID, from, to, at, id,
			query.Provider, query.Model, query.User, query.Status, query.Unpriced, query.Limit)
		if err != nil {
			return err
		}
		records, err = s.records(ctx, q, rows)
		return err
	})
	return records, err
}
