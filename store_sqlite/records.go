package storesqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

type recordRow struct {
	ID         string
	At         int64
	RecordedAt int64 `db:"recorded_at"`
	AtGiven    bool  `db:"at_given"`
	Model      int64
	Lines      []byte
	Cost       sql.NullInt64
	Unpriced   sql.NullString
	Prices     int64
	Conditions int64
	Endpoint   int64
	Status     int
	Latency    int64
	Error      sql.NullString
	User       sql.NullString
	IP         sql.NullString
	Tags       sql.NullString
	Hold       sql.NullString
	Settlement sql.NullString
	Overage    int64
	// given are the lines of a call that is sent again: mostly they are those of the row.
	given []store.Line
}

// record resolves the numbers of a row.
func (s *Store) record(ctx context.Context, q queryer, n *tenant, row *recordRow) (r store.Record, err error) {
	name, err := s.model(ctx, q, row.Model)
	if err != nil {
		return r, err
	}
	r = store.Record{
		TenantID: n.row.ID, ID: row.ID, Provider: name.Provider, Model: name.Name,
		At: instant(row.At), RecordedAt: instant(row.RecordedAt), AtGiven: row.AtGiven,
		Cost: store.Money(row.Cost.Int64), Unpriced: row.Unpriced.String,
		Status: row.Status, Latency: time.Duration(row.Latency) * time.Microsecond, Error: row.Error.String,
		User: row.User.String, IP: row.IP.String, HoldID: row.Hold.String,
		Settlement: store.Settlement(row.Settlement.String), Overage: store.Money(row.Overage),
	}
	if r.Lines, err = s.lines(ctx, q, row.Lines, row.given); err != nil {
		return r, err
	}
	if r.Tags, err = row.tags(); err != nil {
		return r, err
	}
	if r.PriceVersion, err = s.text(ctx, q, row.Prices); err != nil {
		return r, err
	}
	if r.Conditions, err = s.text(ctx, q, row.Conditions); err != nil {
		return r, err
	}
	r.Endpoint, err = s.text(ctx, q, row.Endpoint)
	return r, err
}

func (row *recordRow) tags() (map[string]string, error) {
	if !row.Tags.Valid {
		return nil, nil
	}
	var tags map[string]string
	if err := json.Unmarshal([]byte(row.Tags.String), &tags); err != nil {
		return nil, fmt.Errorf("tags of record %q: %w: %w", row.ID, store.ErrCorrupt, err)
	}
	return tags, nil
}

// usualLines is as many lines as hardly any record passes.
const usualLines = 8

// lines unpacks the lines of a row. Those that are like others are the others: a call that is sent again has its lines already.
func (s *Store) lines(ctx context.Context, q queryer, b []byte, others []store.Line) ([]store.Line, error) {
	packed, err := pack.ParseLines(make([]pack.Line, 0, usualLines), b)
	if err != nil || len(packed) == 0 {
		return nil, err
	}
	lines := make([]store.Line, 0, usualLines) // on the stack
	for _, p := range packed {
		meter, err := s.text(ctx, q, p.Meter)
		if err != nil {
			return nil, err
		}
		rate, err := s.rate(ctx, q, p.Rate)
		if err != nil {
			return nil, err
		}
		lines = append(lines, store.Line{
			Meter: store.Meter(meter), Quantity: p.Quantity, Rate: rate, Cost: store.Money(p.Cost), Unbilled: p.Unbilled,
		})
	}
	if slices.Equal(lines, others) {
		return others, nil
	}
	return slices.Clone(lines), nil
}

// recordColumns are the columns of a recordRow, from the table under the name r: the id, those that every record has, and those
// that most lack.
const (
	recordColumns = `
	r.id,` + plainColumns + `,` + rarerColumns

	plainColumns = `
	r.at, r.recorded_at, r.at_given, r.model, r.lines, r.cost, r.prices, r.conditions, r.endpoint, r.status, r.latency`

	rarerColumns = `
	r.unpriced, r.error, r.user, r.ip, r.tags, r.hold, r.settlement, r.overage`
)

const selectRecord = `
SELECT` + recordColumns + `
FROM usage_records AS r
WHERE id = ?
  AND tenant = ?`

// getRecord returns sql.ErrNoRows when there is none.
func (s *Store) getRecord(ctx context.Context, q queryer, n *tenant, id string) (*store.Record, error) {
	var row recordRow
	if err := q.GetContext(ctx, &row, selectRecord, id, n.number); err != nil {
		return nil, err
	}
	r, err := s.record(ctx, q, n, &row)
	return &r, err
}

// findRecord is getRecord within the transaction that writes.
func (t *tx) findRecord(ctx context.Context, n *tenant, id string) (*store.Record, error) {
	values := make([]driver.Value, 1+plainColumnCount+rarerColumnCount)
	if err := t.row(findRecord, values, id, n.number); err != nil {
		return nil, err
	}
	row := recordRowOf(id, values[1:])
	r, err := t.store.record(ctx, t, n, &row)
	return &r, err
}

const (
	plainColumnCount = 11
	rarerColumnCount = 8
)

// recordRowOf is what sqlx does with a row, without its looking up each column's name, of plainColumns and, if they are there,
// rarerColumns.
func recordRowOf(id string, v []driver.Value) recordRow {
	number := func(i int) int64 { n, _ := v[i].(int64); return n }
	text := func(i int) sql.NullString { s, ok := v[i].(string); return sql.NullString{String: s, Valid: ok} }
	lines, _ := v[4].([]byte)
	row := recordRow{
		ID: id, At: number(0), RecordedAt: number(1), AtGiven: number(2) != 0, Model: number(3), Lines: lines,
		Cost: sql.NullInt64{Int64: number(5), Valid: v[5] != nil}, Prices: number(6), Conditions: number(7),
		Endpoint: number(8), Status: int(number(9)), Latency: number(10),
	}
	if len(v) > plainColumnCount {
		row.Unpriced, row.Error, row.User, row.IP = text(11), text(12), text(13), text(14)
		row.Tags, row.Hold, row.Settlement, row.Overage = text(15), text(16), text(17), number(18)
	}
	return row
}

// Record implements store.Store.
func (s *Store) Record(ctx context.Context, tenantID, id string) (r store.Record, err error) {
	err = s.read(ctx, "record", func(q queryer) error {
		n, err := readTenant(ctx, q, tenantID)
		if err != nil {
			return err
		}
		found, err := s.getRecord(ctx, q, n, id)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		if err == nil {
			r = *found
		}
		return err
	})
	return r, err
}

// What Records selects, of the records that are filed by time and of those that are not yet. The bounds ?2 ≤ at ≤ ?3 are
// those of the index; ?4 is the id that a page starts after at its edge, empty on the first page.
const (
	fromFiled = `
SELECT` + recordColumns + `
FROM usage_times AS f
CROSS JOIN usage_records AS r ON r.record = f.record
JOIN usage_models AS m ON m.model = r.model
WHERE f.tenant = ?1
  AND f.at >= ?2
  AND f.at <= ?3
  AND r.tenant = ?1`

	fromUnfiled = `
SELECT` + recordColumns + `
FROM usage_records AS r
JOIN usage_models AS m ON m.model = r.model
WHERE r.record > (SELECT value FROM usage_watermarks WHERE name = 'filed')
  AND r.tenant = ?1
  AND r.at >= ?2
  AND r.at <= ?3`

	matching = `
  AND (?5 = '' OR m.provider = ?5)
  AND (?6 = '' OR m.name = ?6)
  AND (?7 = '' OR r.user = ?7)
  AND (?8 = 0 OR r.status = ?8)
  AND (?9 = 0 OR r.unpriced IS NOT NULL)`

	forward = `
  AND (?4 = '' OR r.at > ?2 OR r.id > ?4)
ORDER BY r.at, r.id
LIMIT ?10`

	backward = `
  AND (?4 = '' OR r.at < ?3 OR r.id < ?4)
ORDER BY r.at DESC, r.id DESC
LIMIT ?10`

	filedForward = `
  AND (?4 = '' OR f.at > ?2 OR r.id > ?4)
ORDER BY f.at, r.id
LIMIT ?10`

	filedBackward = `
  AND (?4 = '' OR f.at < ?3 OR r.id < ?4)
ORDER BY f.at DESC, r.id DESC
LIMIT ?10`

	selectFiledForward    = fromFiled + matching + filedForward
	selectFiledBackward   = fromFiled + matching + filedBackward
	selectUnfiledForward  = fromUnfiled + matching + forward
	selectUnfiledBackward = fromUnfiled + matching + backward
)

// Records implements store.Store.
func (s *Store) Records(ctx context.Context, query store.RecordQuery) (records []store.Record, err error) {
	from, to, after := int64(math.MinInt64), int64(math.MaxInt64), ""
	if !query.From.IsZero() {
		from = query.From.UnixMicro()
	}
	if !query.To.IsZero() {
		to = query.To.UnixMicro() - 1
	}
	if p := query.After; p != nil && query.NewestFirst && p.At.UnixMicro() <= to {
		to, after = p.At.UnixMicro(), p.ID
	} else if p != nil && !query.NewestFirst && p.At.UnixMicro() >= from {
		from, after = p.At.UnixMicro(), p.ID
	}
	err = s.read(ctx, "records", func(q queryer) error {
		n, err := readTenant(ctx, q, query.TenantID)
		if err != nil {
			return err
		}
		rows, err := selectRecords(ctx, q, query.NewestFirst, n.number, from, to, after,
			query.Provider, query.Model, query.User, query.Status, query.Unpriced, query.Limit)
		if err != nil {
			return err
		}
		records = make([]store.Record, min(len(rows), query.Limit))
		for i := range records {
			if records[i], err = s.record(ctx, q, n, &rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return records, err
}

// selectRecords reads a page of the filed records and one of the others, and sorts them into one that may be too long.
func selectRecords(ctx context.Context, q queryer, newestFirst bool, args ...any) (rows []recordRow, err error) {
	statements, order := []string{selectFiledForward, selectUnfiledForward}, 1
	if newestFirst {
		statements, order = []string{selectFiledBackward, selectUnfiledBackward}, -1
	}
	for _, statement := range statements {
		var page []recordRow
		if err := q.SelectContext(ctx, &page, statement, args...); err != nil {
			return nil, err
		}
		rows = append(rows, page...)
	}
	slices.SortFunc(rows, func(a, b recordRow) int {
		return order * cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID))
	})
	return rows, nil
}
