package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func pagingPromises() []promise {
	return []promise{
		{"records are listed by time and id in pages of any size, both ways", recordsPaged},
		{"a page has no more than its limit and starts after its position", pageAfterPosition},
		{"filters select by time, provider, model, user, status and price", recordsFiltered},
		{"pages stay stable while records are added", pagesStable},
	}
}

// paged lists a tenant's records in pages. between runs after each.
func (l *ledger) paged(q store.RecordQuery, between func()) (all []store.Record) {
	l.t.Helper()
	for {
		page, err := l.Records(l.t.Context(), q)
		l.must("Records", err)
		if len(page) > q.Limit || len(all) > everything {
			l.t.Fatalf("page of %d records, %d in all, with a limit of %d", len(page), len(all), q.Limit)
		}
		all = append(all, page...)
		if len(page) < q.Limit {
			return all
		}
		last := page[len(page)-1]
		q.After = &store.Position{At: last.At, ID: last.ID}
		between()
	}
}

// spread are records at four times, three at each, in an order that is neither that of their times nor of their ids.
func spread() (records []store.Record, ids []string) {
	for i := range 12 {
		k := (i * 5) % 12
		records = append(records, call(acme, []string{"B", "a", "b"}[k%3]+fmt.Sprint(k/3), noon().Add(time.Duration(k/3)*time.Microsecond), int64(k)))
	}
	for k := range 12 {
		ids = append(ids, []string{"B", "a", "b"}[k%3]+fmt.Sprint(k/3))
	}
	return records, ids
}

func recordsPaged(t *testing.T, l *ledger) {
	records, want := spread()
	l.add(noon(), append(records, call(globex, "a0", noon(), 1))...)
	newest := slices.Clone(want)
	slices.Reverse(newest)
	for limit := 1; limit <= len(want)+1; limit++ {
		q := store.RecordQuery{TenantID: acme, Limit: limit}
		equal(t, fmt.Sprintf("oldest first by %d", limit), recordIDs(l.paged(q, func() {})), want)
		q.NewestFirst = true
		equal(t, fmt.Sprintf("newest first by %d", limit), recordIDs(l.paged(q, func() {})), newest)
	}
}

func pageAfterPosition(t *testing.T, l *ledger) {
	records, want := spread()
	l.add(noon(), records...)
	for _, c := range []struct {
		after  store.Position
		newest bool
		limit  int
		want   []string
	}{
		{store.Position{At: noon(), ID: "a0"}, false, 3, want[2:5]},
		{store.Position{At: noon(), ID: "a0"}, true, 3, []string{"B0"}},
		{store.Position{At: noon(), ID: "no such"}, false, 2, want[3:5]},
		{store.Position{At: noon().Add(-time.Hour), ID: "z"}, false, 2, want[:2]},
		{store.Position{At: noon().Add(time.Hour), ID: ""}, true, 1, want[11:]},
		{store.Position{At: noon().Add(time.Hour), ID: ""}, false, 5, nil},
	} {
		page, err := l.Records(t.Context(), store.RecordQuery{TenantID: acme, After: &c.after, NewestFirst: c.newest, Limit: c.limit})
		l.must("Records", err)
		equal(t, fmt.Sprintf("page after %v", c.after), recordIDs(page), c.want)
	}
}

// mixed are eight records that differ in each thing that a filter looks at.
func mixed() (records []store.Record) {
	for i := range 8 {
		r := call(acme, fmt.Sprint(i), noon().Add(time.Duration(i)*time.Minute), int64(i))
		r.Provider, r.Model = []string{"openai", "elevenlabs"}[i%2], []string{"m1", "m2"}[i/2%2]
		r.User, r.Status = []string{"", "ann"}[i/4], []int{200, 0, 500}[i%3]
		if i == 3 || i == 4 {
			r.Unpriced, r.Cost, r.Lines = "model has no price", 0, []store.Line{{Meter: "input_tokens", Quantity: 1}}
		}
		records = append(records, r)
	}
	return records
}

func recordsFiltered(t *testing.T, l *ledger) {
	l.add(noon(), mixed()...)
	minute := func(n int) time.Time { return noon().Add(time.Duration(n) * time.Minute) }
	for _, c := range []struct {
		query store.RecordQuery
		want  []string
	}{
		{store.RecordQuery{From: minute(6)}, []string{"6", "7"}},
		{store.RecordQuery{To: minute(2)}, []string{"0", "1"}},
		{store.RecordQuery{From: minute(2), To: minute(4)}, []string{"2", "3"}},
		{store.RecordQuery{From: minute(2).Add(time.Microsecond), To: minute(4).Add(time.Microsecond)}, []string{"3", "4"}},
		{store.RecordQuery{Provider: "elevenlabs"}, []string{"1", "3", "5", "7"}},
		{store.RecordQuery{Model: "m2"}, []string{"2", "3", "6", "7"}},
		{store.RecordQuery{Provider: "openai", Model: "m2"}, []string{"2", "6"}},
		{store.RecordQuery{User: "ann"}, []string{"4", "5", "6", "7"}},
		{store.RecordQuery{Status: 500}, []string{"2", "5"}},
		{store.RecordQuery{Unpriced: true}, []string{"3", "4"}},
		{store.RecordQuery{Unpriced: true, User: "ann", Provider: "openai", From: minute(1), To: minute(5)}, []string{"4"}},
		{store.RecordQuery{Provider: "OpenAI"}, nil},
		{store.RecordQuery{Model: "m"}, nil},
		{store.RecordQuery{TenantID: globex}, nil},
	} {
		if c.query.TenantID == "" {
			c.query.TenantID = acme
		}
		for limit := 1; limit <= 5; limit += 4 {
			c.query.Limit, c.query.NewestFirst = limit, false
			equal(t, fmt.Sprintf("records of %+v", c.query), recordIDs(l.paged(c.query, func() {})), c.want)
			c.query.NewestFirst = true
			newest := recordIDs(l.paged(c.query, func() {}))
			slices.Reverse(newest)
			equal(t, fmt.Sprintf("records of %+v, turned round", c.query), newest, c.want)
		}
	}
}

// pagesStable adds a record before, at and after all others between any two pages: what was there at the start is
// listed once, and what was added at most once.
func pagesStable(t *testing.T, l *ledger) {
	records, want := spread()
	l.add(noon(), records...)
	writer := l.another()
	for _, newest := range []bool{false, true} {
		n := 0
		got := recordIDs(l.paged(store.RecordQuery{TenantID: acme, NewestFirst: newest, Limit: 2}, func() {
			if n++; n > 4 {
				return
			}
			for _, after := range []time.Duration{-time.Hour, 1000, time.Hour} {
				writer.add(noon(), call(acme, fmt.Sprint("added ", newest, n, after), noon().Add(after), 1))
			}
		}))
		old := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return len(id) > 2 })
		if newest {
			slices.Reverse(old)
		}
		equal(t, "the records that were there", old, want)
		slices.Sort(got)
		equal(t, "each once", len(slices.Compact(slices.Clone(got))), len(got))
	}
}
