package storesqlite

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage/store"
)

// Most records lack most of what a record can have, and are inserted without it. Each field alone has to be enough for it to
// be kept; one that is added to store.Record and not thought of here is a failure.
func TestEachFieldOfARecordIsKept(t *testing.T) {
	t.Parallel()
	h := open(t, newFile(t))
	samples := map[string]func(*store.Record){
		"TenantID": func(*store.Record) {}, "ID": func(*store.Record) {}, // all have them
		"Provider":     func(r *store.Record) { r.Provider = "other" },
		"Model":        func(r *store.Record) { r.Model = "other" },
		"At":           func(r *store.Record) { r.At = r.At.Add(-time.Hour) },
		"AtGiven":      func(r *store.Record) { r.AtGiven = true },
		"RecordedAt":   func(r *store.Record) { r.RecordedAt = r.RecordedAt.Add(time.Microsecond) },
		"Lines":        func(r *store.Record) { r.Lines = []store.Line{{Meter: "images", Quantity: 1, Unbilled: true}} },
		"Cost":         func(r *store.Record) { r.Cost, r.Lines = 3, []store.Line{{Meter: "images", Quantity: 1, Cost: 3}} },
		"Unpriced":     func(r *store.Record) { r.Unpriced = "unknown model" },
		"PriceVersion": func(r *store.Record) { r.PriceVersion = "v2" },
		"Conditions":   func(r *store.Record) { r.Conditions = "batch=true" },
		"Endpoint":     func(r *store.Record) { r.Endpoint = "/v1/other" },
		"Status":       func(r *store.Record) { r.Status = 500 },
		"Latency":      func(r *store.Record) { r.Latency = time.Second },
		"Error":        func(r *store.Record) { r.Error = "timeout" },
		"User":         func(r *store.Record) { r.User = "ann" },
		"IP":           func(r *store.Record) { r.IP = "192.0.2.1" },
		"Tags":         func(r *store.Record) { r.Tags = map[string]string{"team": "blue"} },
		"HoldID":       func(r *store.Record) { r.HoldID = "h" },
		"Settlement":   func(r *store.Record) { r.HoldID = "h" }, // the store's, of a record with a hold
		"Overage":      func(r *store.Record) { r.HoldID = "h" },
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[store.Record]()) {
		t.Run(field.Name, func(t *testing.T) {
			t.Parallel()
			set := samples[field.Name]
			if set == nil {
				t.Fatal("the test does not know the field")
			}
			record := store.Record{TenantID: acme, ID: fmt.Sprint("with ", field.Name), Provider: "p", Model: "m", At: noon(), RecordedAt: noon()}
			set(&record)
			want := record
			if want.HoldID != "" {
				want.Settlement = store.HoldUnknown
			}
			outcomes, err := h.Append(t.Context(), noon(), []*store.Record{&record}, noAlerts)
			if err != nil || outcomes[0].Err != nil {
				t.Fatalf("%v, %v", err, outcomes)
			}
			page, err := h.Records(t.Context(), store.RecordQuery{TenantID: acme, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range page {
				if got.ID != want.ID {
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			t.Error("it is not in the ledger")
		})
	}
}

func noAlerts(*store.Standing, []*store.Record) store.Judgement { return store.Judgement{} }

// Ids that are made in the order of time are then added at the end of their index, however many tenants share the batch.
func TestABatchIsAddedInTheOrderGiven(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	var batch []store.Record
	for i := range 12 {
		batch = append(batch, call(fmt.Sprint("tenant-", i*5%4), fmt.Sprintf("id-%02d", i), noon(), 1))
	}
	h.add(batch...)
	if number(t, foreign(t, path), "SELECT COUNT(*) FROM usage_records WHERE record = 1 + substr(id, 4)") != 12 {
		t.Error("the rows are in another order than their records")
	}
	h.healthy()
}

// A batch writes each total once, however many of its records changed it: that of a day alone where the month had that day,
// and of a late call those of its day and month, whose last day stays what it was.
func TestABatchWritesWhatChangedOnce(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	on := func(day int, ids ...string) (batch []store.Record) {
		for _, id := range ids {
			batch = append(batch, call(acme, id, noon().AddDate(0, 0, day), 1))
		}
		return batch
	}
	h.add(on(0, "first")...)
	db := foreign(t, path)
	run(t, db, "CREATE TABLE written (what TEXT)")
	for _, table := range []string{"usage_days", "usage_months"} {
		for _, event := range []string{"INSERT", "UPDATE"} {
			run(t, db, fmt.Sprintf("CREATE TRIGGER %s_%s AFTER %[2]s ON %[1]s BEGIN INSERT INTO written VALUES ('%[1]s'); END", table, event))
		}
	}
	for _, tt := range []struct {
		name         string
		batch        []store.Record
		days, months int64
	}{
		{"of the last day", on(0, "a", "b", "c"), 1, 0},
		{"of two tenants, one new", slices.Concat(on(0, "d"), calls("globex", "x", 5), on(0, "e")), 2, 1},
		{"with late ones", slices.Concat(on(-2, "f"), on(0, "g"), on(-2, "h")), 2, 1},
		{"of a day that begins", on(1, "i", "j"), 1, 1},
		{"of days that begin, and those before", slices.Concat(on(1, "k"), on(2, "l"), on(1, "m"), on(3, "n"), on(2, "o")), 3, 1},
	} {
		run(t, db, "DELETE FROM written")
		h.add(tt.batch...)
		for table, want := range map[string]int64{"usage_days": tt.days, "usage_months": tt.months} {
			equal(t, tt.name+": rows of "+table, number(t, db, "SELECT COUNT(*) FROM written WHERE what = '"+table+"'"), want)
		}
		wrong := number(t, db, `SELECT COUNT(*) FROM usage_months AS m
			WHERE day < (SELECT MAX(start) FROM usage_days AS d WHERE d.tenant = m.tenant)`)
		equal(t, tt.name+": months whose last day is not their last", wrong, 0)
	}
	h.healthy()
}
