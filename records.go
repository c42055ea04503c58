package usage

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"iter"
	"time"

	"github.com/acf68eca/usage/store"
)

// RecordFilter selects records of one tenant. Empty fields select everything.
type RecordFilter struct {
	TenantID string // required
	// From and To bound At: [From, To). A zero time is no bound.
	From, To time.Time
	// Provider, Model and User are compared as they were recorded: Model is the name that the provider returned, with its date.
	Provider, Model, User string
	// Status is an HTTP status.
	Status int
	// Unpriced selects only records without a price.
	Unpriced bool
	// NewestFirst lists them backwards in time. Defaults to oldest first.
	NewestFirst bool
}

// Page is one page of a listing.
type Page struct {
	Records []Record
	// Next is the cursor of the next page, empty when this is the last.
	Next string
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// Record returns one record of a tenant, or ErrNotFound.
func (t *Tracker) Record(ctx context.Context, tenantID, id string) (Record, error) {
	var f faults
	f.id("tenantID", tenantID)
	f.id("id", id)
	if err := f.err(); err != nil {
		return Record{}, err
	}
	row, err := t.store.Record(ctx, tenantID, id)
	if err != nil {
		return Record{}, notFound(err, "call", id, tenantID)
	}
	return recordOf(&row, parseConditions(row.Conditions)), nil
}

// Records yields a tenant's records in the order of time, and of ids where the time is the same. It reads them in
// pages, so that a slow reader holds up nobody; records that are added meanwhile are seen when they lie ahead. The
// first error ends the sequence. An unknown tenant has no records.
func (t *Tracker) Records(ctx context.Context, filter RecordFilter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var f faults
		query := filter.query(&f)
		if err := f.err(); err != nil {
			yield(Record{}, err)
			return
		}
		query.Limit = maxPage
		for row, err := range t.rows(ctx, query) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(recordOf(row, parseConditions(row.Conditions)), nil) {
				return
			}
		}
	}
}

// rows yields the rows that a query selects, page after page of query.Limit.
func (t *Tracker) rows(ctx context.Context, query store.RecordQuery) iter.Seq2[*store.Record, error] {
	return func(yield func(*store.Record, error) bool) {
		for {
			rows, err := t.store.Records(ctx, query)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range rows {
				if !yield(&rows[i], nil) {
					return
				}
			}
			if len(rows) < query.Limit {
				return
			}
			last := &rows[len(rows)-1]
			query.After = &store.Position{At: last.At, ID: last.ID}
		}
	}
}

// RecordsPage returns one page of a listing: limit records, 100 if limit is 0 and at most 1,000, after a cursor that an
// earlier page gave; the empty cursor is the first page. The filter must be the one of the earlier page. A cursor that
// no page gave is an *InvalidError.
func (t *Tracker) RecordsPage(ctx context.Context, filter RecordFilter, cursor string, limit int) (Page, error) {
	var f faults
	query := filter.query(&f)
	query.After = parseCursor(&f, cursor)
	if err := f.err(); err != nil {
		return Page{}, err
	}
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	query.Limit = limit + 1 // one more tells whether there is a next page
	rows, err := t.store.Records(ctx, query)
	if err != nil {
		return Page{}, err
	}
	var page Page
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = cursorOf(store.Position{At: rows[limit-1].At, ID: rows[limit-1].ID})
	}
	page.Records = make([]Record, len(rows))
	for i := range rows {
		page.Records[i] = recordOf(&rows[i], parseConditions(rows[i].Conditions))
	}
	return page, nil
}

func (r RecordFilter) query(f *faults) store.RecordQuery {
	f.id("TenantID", r.TenantID)
	from, to := f.time("From", r.From), f.time("To", r.To)
	f.text("Provider", r.Provider, maxID)
	f.text("Model", r.Model, maxID)
	f.text("User", r.User, maxID)
	f.status("Status", r.Status)
	return store.RecordQuery{
		TenantID: r.TenantID, From: from, To: to, Provider: r.Provider, Model: r.Model, User: r.User,
		Status: r.Status, Unpriced: r.Unpriced, NewestFirst: r.NewestFirst,
	}
}

// A cursor is the position that a page ended at: a version, the microseconds of At and the id, in base64.
const cursorVersion = 1

func cursorOf(p store.Position) string {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, uint64(p.At.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(b, p.ID...))
}

func parseCursor(f *faults, cursor string) *store.Position {
	if cursor == "" {
		return nil
	}
	var bad faults
	var p store.Position
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(b) > 9 {
		p.At = bad.time("cursor", time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:9]))))
		p.ID = string(b[9:])
		bad.id("cursor", p.ID)
	}
	if cursorOf(p) != cursor || len(bad) > 0 { // of all that decodes alike, a page gives one
		f.add("cursor", "is none that a page gave")
	}
	return &p
}
