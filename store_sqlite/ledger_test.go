package storesqlite

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
)

// What package store promises is tested by storetest. The tests here are about the file: its schema and plans, what
// becomes of it when the disk, another process or a damage gets in the way, and the cache of its writer.

var update = flag.Bool("update", false, "write the golden files anew")

const acme = "acme"

// errRefused is what the tests refuse a hold with.
var errRefused = errors.New("refused by the test")

// noon is when the tests take place.
func noon() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC) }

// newFile is the path of a database that does not exist yet.
func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "usage.db") }

// handle is a store whose helpers end the test at an unexpected error.
type handle struct {
	*Store
	t testing.TB
}

func open(t testing.TB, path string) *handle {
	t.Helper()
	return openConfig(t, path, Config{BusyTimeout: proctest.Limit}) // others may write, on a busy machine
}

func openConfig(t testing.TB, path string, cfg Config) *handle {
	t.Helper()
	st, err := OpenConfig(t.Context(), path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &handle{Store: st, t: t}
}

// foreign opens a connection that knows nothing of the store, as a foreign tool has.
func foreign(t testing.TB, path string) *sqlx.DB {
	t.Helper()
	db, err := sqlx.ConnectContext(t.Context(), "sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// run executes statements by other means than the store's.
func run(t testing.TB, db *sqlx.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// call is a record of as many tokens as it costs picodollars.
func call(tenant, id string, at time.Time, cost int64) store.Record {
	return store.Record{
		TenantID: tenant, ID: id, Provider: "openai", Model: "gpt-4", At: at, AtGiven: true, RecordedAt: at,
		Lines: []store.Line{{
			Meter: "input_tokens", Quantity: cost, Rate: store.Rate{Amount: 1, Per: 1}, Cost: store.Money(cost),
		}},
		Cost: store.Money(cost), PriceVersion: "2026-01", Endpoint: "/v1/chat/completions", Status: 200,
	}
}

// calls are n calls of one picodollar whose ids begin with a text.
func calls(tenant, prefix string, n int) []store.Record {
	records := make([]store.Record, n)
	for i := range records {
		records[i] = call(tenant, fmt.Sprintf("%s%05d", prefix, i), noon(), 1)
	}
	return records
}

// holdOf is a reservation of an amount for an hour.
func holdOf(tenant, id string, from time.Time, cost int64) store.Hold {
	return store.Hold{
		TenantID: tenant, ID: id, Provider: "openai", Model: "gpt-4", Cost: store.Money(cost), Owner: "host-1",
		Lines:     []store.Line{{Meter: "input_tokens", Quantity: cost, Cost: store.Money(cost)}},
		CreatedAt: from, ExpiresAt: from.Add(time.Hour),
	}
}

// quiet is a Judge that raises nothing, and admit a Decide that refuses nothing.
func quiet(*store.Standing, []*store.Record) store.Judgement { return store.Judgement{} }
func admit(*store.Standing, *store.Hold) store.Verdict       { return store.Verdict{} }

// refused is the first error of holds, or of the whole.
func refused(outcomes []store.HoldOutcome, err error) error {
	for i := range outcomes {
		err = errors.Join(err, outcomes[i].Err)
	}
	return err
}

// lend returns records as Append borrows them: copies, for the store sets some of their fields.
func lend(records ...store.Record) []*store.Record {
	lent := make([]*store.Record, len(records))
	for i, r := range records {
		lent[i] = &r
	}
	return lent
}

// try appends and returns the first error, of the whole or of one record.
func (h *handle) try(records ...store.Record) error {
	outcomes, err := h.Append(h.t.Context(), noon(), lend(records...), quiet)
	for _, o := range outcomes {
		err = errors.Join(err, o.Err)
	}
	return err
}

func (h *handle) add(records ...store.Record) {
	h.t.Helper()
	h.must("Append", h.try(records...))
}

func (h *handle) take(holds ...store.Hold) {
	h.t.Helper()
	h.must("Hold", refused(h.Hold(h.t.Context(), noon(), holds, admit)))
}

func (h *handle) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// prepare writes something of everything.
func (h *handle) prepare() {
	h.t.Helper()
	h.add(calls(acme, "before-", 20)...)
	h.take(holdOf(acme, "hold", noon(), 7))
	_, err := h.SetQuota(h.t.Context(), noon(), store.Quota{
		TenantID: acme, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: 1000}}, AlertPercents: []int{80},
	}, func(s *store.Standing, _ []*store.Record) store.Judgement {
		return store.Judgement{Alerts: []store.Alert{{AlertKey: store.AlertKey{
			Kind: store.CostWarning, Meter: "cost", Per: store.Month, Max: 1000, Percent: 80, PeriodStart: s.Month.Start,
		}, PeriodEnd: s.Month.End, Used: 800}}}
	})
	h.must("SetQuota", err)
}

// state is all that a database shows at noon.
type state struct {
	Tenants   []store.Tenant
	Records   []store.Record
	Totals    []store.Total
	Alerts    []store.Alert
	Standings []store.Standing
}

func (h *handle) state() (s state) {
	h.t.Helper()
	ctx := h.t.Context()
	var err error
	s.Tenants, err = h.Tenants(ctx, "", 100_000)
	h.must("Tenants", err)
	s.Alerts, err = h.Alerts(ctx, store.AlertQuery{Limit: 100_000})
	h.must("Alerts", err)
	for _, tenant := range s.Tenants {
		records, err := h.Records(ctx, store.RecordQuery{TenantID: tenant.ID, Limit: 100_000})
		h.must("Records", err)
		s.Records = append(s.Records, records...)
		for _, w := range []store.Window{store.Day, store.Month} {
			totals, err := h.Totals(ctx, store.TotalQuery{
				TenantID: tenant.ID, Window: w, From: noon().AddDate(-10, 0, 0), To: noon().AddDate(10, 0, 0),
			})
			h.must("Totals", err)
			s.Totals = append(s.Totals, totals...)
		}
		s.Standings = append(s.Standings, h.standing(tenant.ID, noon()))
	}
	return s
}

func (h *handle) standing(tenant string, at time.Time) store.Standing {
	h.t.Helper()
	s, err := h.Standing(h.t.Context(), tenant, at)
	h.must("Standing", err)
	return s
}

// healthy checks that all tenants' totals are the sum of their records.
func (h *handle) healthy() {
	h.t.Helper()
	tenants, err := h.Tenants(h.t.Context(), "", 100_000)
	h.must("Tenants", err)
	for _, tenant := range tenants {
		drift, err := h.Verify(h.t.Context(), tenant.ID)
		h.must("Verify", err)
		equal(h.t, "drift of "+tenant.ID, drift, nil)
	}
}

// is checks that an error is of a class, and of no other that would mislead.
func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// equal compares what there is with what there should be. An empty list is as good as none.
func equal[T any](t testing.TB, what string, got, want T, options ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, append(options, cmpopts.EquateEmpty())...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// golden compares a text with a file of testdata, or writes that file under -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s, refreshed by go test ./store_sqlite -update (-want +got):\n%s", path, diff)
	}
}
