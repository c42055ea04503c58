package storepostgres_test

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
	storepostgres "github.com/acf68eca/usage/store_postgres"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// TestSameAnswersAsSQLite plays random histories on both stores and compares everything that they return, field by field.
func TestSameAnswersAsSQLite(t *testing.T) {
	t.Parallel()
	lite, err := storesqlite.Open(t.Context(), filepath.Join(t.TempDir(), "usage.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer lite.Close()
	dsn, schema := storepostgres.Schema(t)
	post, err := storepostgres.OpenConfig(t.Context(), dsn, storepostgres.Config{Schema: schema, BusyTimeout: proctest.Limit})
	if err != nil {
		t.Fatal(err)
	}
	defer post.Close()
	var histories atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		p := &pair{lite: lite, post: post, now: crashClock(), prefix: fmt.Sprintf("%06d-", histories.Add(1))}
		for range rapid.IntRange(3, 12).Draw(rt, "actions") {
			action := rapid.SampledFrom(pairActions).Draw(rt, "action")
			p.both(rt, action(p, rt))
		}
		for _, tenant := range []string{"a", "b"} {
			p.compare(rt, p.prefix+tenant)
		}
		p.both(rt, func(st store.Store) (any, error) { return st.Tenants(context.Background(), p.prefix, 2) })
	})
}

// pair is two stores with the same history.
type pair struct {
	lite, post store.Store
	now        time.Time
	prefix     string
	holds      int
}

// answer is a call of one of a store's methods.
type answer func(store.Store) (any, error)

var pairActions = []func(*pair, *rapid.T) answer{
	pairAppend, pairAppend, pairAppend, pairHold, pairHold, pairRelease, pairQuota, pairTenant, pairSuspend, pairReprice,
	pairRebuild, pairMark, pairClaim, pairWait, pairPrune, pairPruneHolds, pairQuota,
}

// both checks that both stores answer the same: lists whose order is left open are sorted first.
func (p *pair) both(t *rapid.T, call answer) {
	t.Helper()
	want, wantErr := call(p.lite)
	got, gotErr := call(p.post)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		t.Fatalf("error %v, and of SQLite %v", gotErr, wantErr)
	}
	if diff := gocmp.Diff(want, got, options...); diff != "" {
		t.Fatalf("answers differ (-SQLite +Postgres):\n%s", diff)
	}
}

var options = gocmp.Options{
	cmpopts.EquateEmpty(),
	gocmp.Transformer("text", func(err error) string { return fmt.Sprint(err) }),
	cmpopts.SortSlices(func(a, b *store.Hold) int { return cmp.Compare(a.ID, b.ID) }),
	cmpopts.SortSlices(func(a, b *store.Alert) int { return cmp.Compare(a.Number, b.Number) }),
	cmpopts.SortSlices(func(a, b *store.Total) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	}),
}

func (p *pair) tenant(t *rapid.T) string {
	return p.prefix + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")
}

func (p *pair) record(t *rapid.T) store.Record {
	at := p.now.Add(-time.Duration(rapid.IntRange(0, 60*24).Draw(t, "hours late")) * time.Hour)
	quantity := int64(rapid.IntRange(0, 9).Draw(t, "quantity"))
	r := store.Record{
		TenantID: p.tenant(t), ID: fmt.Sprint("r", rapid.IntRange(0, 30).Draw(t, "id")), At: at, RecordedAt: p.now,
		AtGiven: rapid.Bool().Draw(t, "at given"), Provider: rapid.SampledFrom([]string{"openai", "größe"}).Draw(t, "provider"),
		Model: rapid.SampledFrom([]string{"m", "", "模型"}).Draw(t, "model"), PriceVersion: rapid.SampledFrom([]string{"", "v1"}).Draw(t, "version"),
		Conditions: rapid.SampledFrom([]string{"", "batch=true"}).Draw(t, "conditions"), Endpoint: rapid.SampledFrom([]string{"", "/v1"}).Draw(t, "endpoint"),
		Status: rapid.SampledFrom([]int{0, 200, 500}).Draw(t, "status"), Latency: time.Duration(quantity) * time.Microsecond,
		Error: rapid.SampledFrom([]string{"", "cut"}).Draw(t, "error"), User: rapid.SampledFrom([]string{"", "u"}).Draw(t, "user"),
		Lines: []store.Line{{Meter: "input_tokens", Quantity: quantity, Rate: store.Rate{Amount: 3, Per: 1}, Cost: store.Money(3 * quantity)},
			{Meter: "reasoning_tokens", Quantity: 1, Unbilled: true}},
		Cost: store.Money(3 * quantity),
	}
	if rapid.Bool().Draw(t, "tagged") {
		r.Tags = map[string]string{"ключ": "значение", "": "x"}
	}
	if rapid.IntRange(0, 3).Draw(t, "unpriced") == 0 {
		r.Unpriced, r.Cost, r.Lines[0].Rate, r.Lines[0].Cost = "no price", 0, store.Rate{}, 0
	}
	if rapid.IntRange(0, 2).Draw(t, "reserved") == 0 {
		r.HoldID = fmt.Sprint("h", rapid.IntRange(0, p.holds).Draw(t, "hold"))
	}
	return r
}

// lend is how a store is given records: copies, which it may change.
func lend(records ...store.Record) []*store.Record {
	lent := make([]*store.Record, len(records))
	for i, r := range records {
		lent[i] = &r
	}
	return lent
}

// pairJudge raises an alert for each three picodollars that a month costs, and for each model without a price.
func pairJudge(s *store.Standing, added []*store.Record) (j store.Judgement) {
	var cost store.Money
	for _, total := range s.MonthTotals {
		cost += total.Cost
	}
	for percent := 1; percent <= int(cost/3) && percent < 6; percent++ {
		j.Alerts = append(j.Alerts, store.Alert{PeriodEnd: s.Month.End, Used: int64(cost), AlertKey: store.AlertKey{
			Kind: store.CostWarning, Meter: "cost", Per: store.Month, Max: 3, Percent: percent, PeriodStart: s.Month.Start,
		}})
	}
	for _, r := range added {
		if r.Unpriced != "" {
			j.Alerts = append(j.Alerts, store.Alert{PeriodEnd: s.Day.End, Reason: r.Unpriced, AlertKey: store.AlertKey{
				Kind: store.Unpriced, Provider: r.Provider, Model: r.Model, Per: store.Day, PeriodStart: s.Day.Start,
			}})
		}
	}
	j.Arrivals = pairArrivals(s, int64(len(added)))
	return j
}

// pairArrivals moves the arrival of each rate on by as many units as are taken, each a second and a bit.
func pairArrivals(s *store.Standing, units int64) (arrivals []store.Arrival) {
	for i := range s.Quota.Limits {
		limit := &s.Quota.Limits[i]
		if !limit.Per.IsRate() || units == 0 {
			continue
		}
		last := arrivalOf(s, limit.Key())
		last.At, last.Rest, last.Taken = last.At.Add(time.Duration(units)*time.Second), (last.Rest+units)%7, last.Taken+units
		arrivals = append(arrivals, last)
	}
	return arrivals
}

// arrivalOf is the tenant's arrival of a key, no earlier than now.
func arrivalOf(s *store.Standing, key store.RateKey) store.Arrival {
	for _, a := range s.Arrivals {
		if a.RateKey == key {
			if a.At.Before(s.At) {
				a.At = s.At
			}
			return a
		}
	}
	return store.Arrival{RateKey: key, At: s.At}
}

func pairAppend(p *pair, t *rapid.T) answer {
	batch := make([]store.Record, rapid.IntRange(1, 6).Draw(t, "records"))
	for i := range batch {
		batch[i] = p.record(t)
	}
	return func(st store.Store) (any, error) {
		return st.Append(context.Background(), p.now, lend(batch...), pairJudge)
	}
}

func pairReprice(p *pair, t *rapid.T) answer {
	batch := make([]store.Record, rapid.IntRange(1, 6).Draw(t, "records"))
	for i := range batch {
		batch[i] = p.record(t)
		batch[i].Unpriced, batch[i].PriceVersion = "", "v2"
	}
	return func(st store.Store) (any, error) {
		return st.Reprice(context.Background(), p.now, lend(batch...), pairJudge)
	}
}

func pairHold(p *pair, t *rapid.T) answer {
	batch := make([]store.Hold, rapid.IntRange(1, 3).Draw(t, "holds"))
	for i := range batch {
		p.holds++
		batch[i] = store.Hold{
			TenantID: p.tenant(t), ID: fmt.Sprint("h", rapid.IntRange(p.holds-1, p.holds).Draw(t, "hold")), Provider: "p", Model: "m",
			Lines: []store.Line{{Meter: "input_tokens", Quantity: 2}}, Cost: store.Money(rapid.IntRange(0, 9).Draw(t, "cost")), Owner: "o",
			CreatedAt: p.now, ExpiresAt: p.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute),
		}
	}
	return func(st store.Store) (any, error) {
		return st.Hold(context.Background(), p.now, slices.Clone(batch), pairDecide)
	}
}

// pairDecide refuses what costs too much with what is used and held, and what comes more than five seconds too early for a
// rate. Its errors tell all that it has seen.
func pairDecide(s *store.Standing, h *store.Hold) (v store.Verdict) {
	held := heldUp(s)
	sum := h.Cost + held.Cost
	for _, total := range s.MonthTotals {
		sum += total.Cost
	}
	v.Arrivals = pairArrivals(s, 1)
	early := slices.ContainsFunc(v.Arrivals, func(a store.Arrival) bool { return a.At.Sub(s.At) > 5*time.Second })
	if early || sum > 20 || s.Tenant.Suspended != "" {
		v.Refusal = fmt.Errorf("refused at %d with %d held until %s by %v", sum, held.Calls, s.HeldUntil, v.Arrivals)
		v.Alerts = []store.Alert{{PeriodEnd: s.Month.End, Used: int64(sum), AlertKey: store.AlertKey{
			Kind: store.QuotaWarning, Model: h.Model, Meter: "calls", Per: store.Month, PeriodStart: s.Month.Start,
		}}}
	}
	return v
}

// heldUp is what all holds add up to.
func heldUp(s *store.Standing) (sum store.Total) {
	for _, total := range s.Held {
		sum.Calls, sum.Cost = sum.Calls+total.Calls, sum.Cost+total.Cost
	}
	return sum
}

// pairRelease gives one unit back to each rate, if the hold had taken it, and tells what it was asked.
func pairRelease(p *pair, t *rapid.T) answer {
	tenant, id := p.tenant(t), fmt.Sprint("h", rapid.IntRange(0, p.holds).Draw(t, "hold"))
	return func(st store.Store) (any, error) {
		var asked []any
		err := st.Release(context.Background(), p.now, tenant, id, func(s *store.Standing, h *store.Hold) (back []store.Arrival) {
			asked = []any{*h, heldUp(s), s.HeldUntil}
			for _, taken := range h.Arrivals {
				last := arrivalOf(s, taken.RateKey)
				last.At, last.Taken = last.At.Add(-time.Second), last.Taken-1
				back = append(back, last)
			}
			return back
		})
		return asked, err
	}
}

func pairPrune(p *pair, t *rapid.T) answer {
	tenant, limit := p.tenant(t), rapid.IntRange(1, 5).Draw(t, "limit")
	before := p.now.Add(-time.Duration(rapid.IntRange(0, 60*24).Draw(t, "hours")) * time.Hour)
	return func(st store.Store) (any, error) { return st.Prune(context.Background(), tenant, before, limit) }
}

func pairPruneHolds(p *pair, t *rapid.T) answer {
	tenant, limit := p.tenant(t), rapid.IntRange(1, 5).Draw(t, "limit")
	after := fmt.Sprint("h", rapid.IntRange(0, p.holds).Draw(t, "hold"))
	return func(st store.Store) (any, error) { return st.PruneHolds(context.Background(), tenant, after, limit) }
}

func pairQuota(p *pair, t *rapid.T) answer {
	quota := store.Quota{TenantID: p.tenant(t), AlertPercents: []int{50}, Limits: []store.Limit{
		{Provider: "openai", Meter: "cost", Per: store.Day, Max: 1<<63 - 1, Soft: rapid.Bool().Draw(t, "soft")},
	}}
	for _, per := range rapid.SliceOfNDistinct(rapid.SampledFrom([]store.Window{store.Minute, store.Second}), 0, 2, rapid.ID).Draw(t, "rates") {
		quota.Limits = append(quota.Limits, store.Limit{Model: "模型", Meter: "calls", Per: per, Max: 60, Burst: 5})
	}
	return func(st store.Store) (any, error) {
		return st.SetQuota(context.Background(), p.now, quota, pairJudge)
	}
}

func pairTenant(p *pair, t *rapid.T) answer {
	row := store.Tenant{
		ID: p.tenant(t), Name: "Größe", Contacts: []string{"a@example.com"}, BillingDay: rapid.SampledFrom([]int{1, 10, 31}).Draw(t, "day"),
		TimeZone: rapid.SampledFrom([]string{"UTC", "Asia/Kolkata", "America/Havana", "Pacific/Chatham"}).Draw(t, "zone"),
	}
	return func(st store.Store) (any, error) { return nil, st.SetTenant(context.Background(), p.now, row) }
}

func pairSuspend(p *pair, t *rapid.T) answer {
	tenant, reason := p.tenant(t), rapid.SampledFrom([]string{"", "unpaid"}).Draw(t, "reason")
	return func(st store.Store) (any, error) {
		return nil, st.Suspend(context.Background(), p.now, tenant, reason)
	}
}

func pairRebuild(p *pair, t *rapid.T) answer {
	tenant := p.tenant(t)
	return func(st store.Store) (any, error) { return nil, st.Rebuild(context.Background(), tenant) }
}

func pairMark(p *pair, t *rapid.T) answer {
	tenant, status := p.tenant(t), rapid.SampledFrom([]store.AlertStatus{store.AlertSent, store.AlertResolved}).Draw(t, "status")
	return func(st store.Store) (any, error) {
		alerts, err := st.Alerts(context.Background(), store.AlertQuery{TenantID: tenant, Status: store.AlertPending, Limit: 1})
		if err != nil || len(alerts) == 0 {
			return nil, err
		}
		return st.MarkAlert(context.Background(), p.now, tenant, alerts[0].ID, status)
	}
}

// pairClaim claims all alerts, so that it is the same for both, and gives the lease no time.
func pairClaim(p *pair, _ *rapid.T) answer {
	return func(st store.Store) (any, error) {
		alerts, err := st.ClaimAlerts(context.Background(), p.now, time.Microsecond, 10_000)
		return len(alerts), err
	}
}

func pairWait(p *pair, t *rapid.T) answer {
	p.now = p.now.Add(time.Duration(rapid.SampledFrom([]int{1, 60, 60 * 24, 60 * 24 * 20}).Draw(t, "minutes")) * time.Minute)
	return func(store.Store) (any, error) { return nil, nil }
}

// compare compares all that the stores show of a tenant.
func (p *pair) compare(t *rapid.T, tenant string) {
	ctx := context.Background()
	from, to := p.now.AddDate(-1, 0, 0), p.now.AddDate(1, 0, 0)
	for _, call := range []answer{
		func(st store.Store) (any, error) { return st.Standing(ctx, tenant, p.now) },
		func(st store.Store) (any, error) { return st.Standing(ctx, tenant, p.now.AddDate(0, -1, 0)) },
		func(st store.Store) (any, error) {
			return st.Records(ctx, store.RecordQuery{TenantID: tenant, Limit: 100})
		},
		func(st store.Store) (any, error) {
			return st.Records(ctx, store.RecordQuery{TenantID: tenant, Limit: 3, NewestFirst: true, Status: 500, To: p.now})
		},
		func(st store.Store) (any, error) {
			return st.Totals(ctx, store.TotalQuery{TenantID: tenant, Window: store.Day, From: from, To: to})
		},
		func(st store.Store) (any, error) {
			return st.Totals(ctx, store.TotalQuery{TenantID: tenant, Window: store.Month, From: from, To: to})
		},
		func(st store.Store) (any, error) { return st.TenantTotals(ctx, store.Day, p.now, p.prefix, 3) },
		func(st store.Store) (any, error) { return st.TenantTotals(ctx, store.Month, p.now, p.prefix, 3) },
		func(st store.Store) (any, error) {
			return st.Alerts(ctx, store.AlertQuery{TenantID: tenant, Limit: 100})
		},
		func(st store.Store) (any, error) { return st.Verify(ctx, tenant) },
		func(st store.Store) (any, error) { return st.Record(ctx, tenant, "r1") },
	} {
		p.both(t, call)
	}
}
