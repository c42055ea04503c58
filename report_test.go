package usage_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

func TestAnUnknownTenantHasUsedNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	month := b.current(t, "nobody")
	equal(t, "usage", &usage.Usage{TenantID: "nobody", Period: period(t, "2026-05-01", "2026-06-01")}, month)
	equal(t, "a provider", usage.ProviderUsage{Name: "openai"}, month.Provider("openai"))
	_, err := b.Tenant(t.Context(), "nobody")
	wantError(t, err, usage.ErrNotFound) // asking does not make it one
}

func TestCurrentUsageSumsByProviderAndModel(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	log := func(provider, model string, quantities usage.Quantities, status int) {
		t.Helper()
		b.log(t, usage.Call{TenantID: "acme", Provider: provider, Model: model, Quantities: quantities, Status: status})
	}
	log("api", "other", usage.Quantities{usage.Requests: 2}, 200)
	log("api", model, usage.Quantities{usage.InputTokens: 5, usage.CallTime: 60_000}, 500)
	log("api", model, usage.Quantities{usage.OutputTokens: 1, usage.AudioTime: 1}, 200)
	log("speech", "", usage.Quantities{usage.Characters: 7, usage.Credits: 3, usage.Images: 2}, 0)
	month := b.current(t, "acme")
	equal(t, "calls, errors and unpriced", []int64{4, 1, 1}, []int64{month.Calls, month.Errors, month.Unpriced})
	equal(t, "tokens, characters, credits and images", []int64{6, 7, 3, 2},
		[]int64{month.Tokens, month.Characters, month.Credits, month.Images})
	equal(t, "times", []time.Duration{time.Minute, time.Millisecond}, []time.Duration{month.CallTime, month.AudioTime})
	wantDollars(t, "the month", "3.060016666667", month.Cost)
	wantDollars(t, "its minutes", "1", month.Meters[usage.CallTime].Cost)
	var names []string
	for _, provider := range month.Providers {
		for _, model := range provider.Models {
			names = append(names, fmt.Sprint(provider.Name, "/", model.Name, " ", model.Calls))
		}
	}
	equal(t, "models", []string{"api/m 2", "api/other 1", "speech/ 1"}, names)
	wantDollars(t, "one provider", "3.060016666667", month.Provider("api").Cost)
}

func TestUsageOfAnyPeriodIsTheSumOfItsRecords(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.clock.set(instant(t, "2024-12-31"))
	zones := []string{"", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham", "America/Havana", "Australia/Lord_Howe"}
	var histories atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		tenantID := fmt.Sprint("t", histories.Add(1))
		zone := rapid.SampledFrom(zones).Draw(rt, "zone")
		if err := b.SetTenant(t.Context(), usage.Tenant{ID: tenantID, TimeZone: zone}); err != nil {
			rt.Fatal(err)
		}
		// A few days around the change of the clocks in the autumn of most of these.
		start := instant(t, "2024-11-01")
		within := func(name string) time.Time {
			minutes := rapid.Int64Range(0, 5*24*4).Draw(rt, name)
			return start.Add(time.Duration(minutes) * 15 * time.Minute).
				Add(time.Duration(rapid.Int64Range(-1, 1).Draw(rt, "microseconds")) * time.Microsecond)
		}
		for i := range rapid.IntRange(1, 10).Draw(rt, "calls") {
			call := request(tenantID, fmt.Sprint(i), rapid.Int64Range(0, 9).Draw(rt, "requests"))
			if _, err := b.Log(t.Context(), happened(call, within("at"))); err != nil {
				rt.Fatal(err)
			}
		}
		asked := usage.Period{Start: within("start"), End: within("end")}
		if !asked.Start.Before(asked.End) {
			asked.End = asked.Start.Add(time.Microsecond)
		}
		got, err := b.Usage(t.Context(), tenantID, asked)
		if err != nil {
			rt.Fatal(err)
		}
		var calls int64
		var cost decimal.Decimal
		for record, err := range b.Records(t.Context(), usage.RecordFilter{TenantID: tenantID, From: asked.Start, To: asked.End}) {
			if err != nil {
				rt.Fatal(err)
			}
			calls++
			cost = cost.Add(record.Cost)
		}
		if got.Calls != calls || !got.Cost.Equal(cost) || got.Meters[usage.Requests].Quantity != cost.IntPart() || got.Period != asked {
			rt.Errorf("%s: %v has %d calls of $%s, want %d of $%s", zone, asked, got.Calls, got.Cost, calls, cost)
		}
		days, err := b.Daily(t.Context(), tenantID, asked)
		if err != nil {
			rt.Fatal(err)
		}
		for i := range days {
			if i > 0 && !days[i].Period.Start.Equal(days[i-1].Period.End) {
				rt.Errorf("%s: %v is followed by %v", zone, days[i-1].Period, days[i].Period)
			}
		}
		day := rapid.SampledFrom(days).Draw(rt, "day")
		same, err := b.Usage(t.Context(), tenantID, day.Period)
		if err != nil || same.Calls != day.Calls || !same.Cost.Equal(day.Cost) {
			rt.Errorf("%s: the day %v has %d calls, and the period %d (%v)", zone, day.Period, day.Calls, same.Calls, err)
		}
	})
}

func TestUsageAcrossPagesOfRecords(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	const calls = 1100 // more than a page, all in the part of a day
	together(8, func(worker int) {
		for i := worker; i < calls; i += 8 {
			if _, err := b.Log(t.Context(), happened(request("acme", fmt.Sprint(i), 1), instant(t, "2026-05-19T12"))); err != nil {
				t.Error(err)
			}
		}
	})
	got, err := b.Usage(t.Context(), "acme", period(t, "2026-05-19T11", "2026-05-19T13"))
	if err != nil || got.Calls != calls {
		t.Errorf("got %d calls, %v; want %d", got.Calls, err, calls)
	}
}

func TestPeriodsThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for name, bad := range map[string]usage.Period{
		"no period":       {},
		"no end":          {Start: instant(t, "2026-01-01")},
		"empty":           period(t, "2026-01-01", "2026-01-01"),
		"backwards":       period(t, "2026-01-02", "2026-01-01"),
		"too long":        period(t, "2016-01-01", "2026-01-03"),
		"before all time": period(t, "1999-01-01", "2000-01-01"),
	} {
		_, err := b.Usage(t.Context(), "acme", bad)
		_, dailyErr := b.Daily(t.Context(), "acme", bad)
		for _, err := range []error{err, dailyErr} {
			if wantError(t, err, usage.ErrInvalid); err == nil {
				t.Errorf("%s was answered", name)
			}
		}
	}
	if _, err := b.Usage(t.Context(), "acme", period(t, "2016-01-01", "2026-01-01")); err != nil {
		t.Errorf("ten years: %v", err)
	}
}

func TestDailyHasEveryDay(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: "America/New_York"}); err != nil {
		t.Fatal(err)
	}
	b.log(t, happened(request("acme", "1", 3), instant(t, "2026-03-08T04:59:59")))
	b.log(t, happened(request("acme", "2", 5), instant(t, "2026-03-09T03:59:59")))
	days, err := b.Daily(t.Context(), "acme", period(t, "2026-03-07T12", "2026-03-10T04"))
	if err != nil {
		t.Fatal(err)
	}
	var got []usage.Period
	var costs []string
	for _, day := range days {
		got, costs = append(got, day.Period), append(costs, day.Cost.String())
	}
	equal(t, "days, one of 23 hours", []usage.Period{
		period(t, "2026-03-07T05", "2026-03-08T05"), period(t, "2026-03-08T05", "2026-03-09T04"),
		period(t, "2026-03-09T04", "2026-03-10T04"),
	}, got)
	equal(t, "costs", []string{"3", "5", "0"}, costs)
	nobody, err := b.Daily(t.Context(), "nobody", period(t, "2026-03-01", "2026-03-31"))
	if err != nil || len(nobody) != 30 {
		t.Errorf("nobody has %d days, %v", len(nobody), err)
	}
}

func TestHistoryHasEveryMonthTheCurrentOneFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.log(t, request("acme", "1", 1))
	b.log(t, happened(request("acme", "2", 2), instant(t, "2026-05-14")))
	b.log(t, happened(request("acme", "3", 4), instant(t, "2026-03-31")))
	history := func(n int) (starts, costs []string) {
		t.Helper()
		months, err := b.History(t.Context(), "acme", n)
		if err != nil {
			t.Fatal(err)
		}
		for i, month := range months {
			if i > 0 && !month.Period.End.Equal(months[i-1].Period.Start) {
				t.Errorf("%v comes before %v", month.Period, months[i-1].Period)
			}
			starts, costs = append(starts, month.Period.Start.Format(time.DateOnly)), append(costs, month.Cost.String())
		}
		return starts, costs
	}
	starts, costs := history(4)
	equal(t, "starts", []string{"2026-05-01", "2026-04-01", "2026-03-01", "2026-02-01"}, starts)
	equal(t, "costs", []string{"3", "0", "4", "0"}, costs)

	if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", BillingDay: 31}); err != nil {
		t.Fatal(err)
	}
	starts, costs = history(4)
	equal(t, "starts on the 31st", []string{"2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31"}, starts)
	equal(t, "costs by the new calendar", []string{"3", "4", "0", "0"}, costs)

	if starts, _ = history(120); len(starts) != 120 {
		t.Errorf("got %d months", len(starts))
	}
	for _, months := range []int{-1, 0, 121} {
		_, err := b.History(t.Context(), "acme", months)
		wantError(t, err, usage.ErrInvalid)
	}
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for id, zone := range map[string]string{"east": "Pacific/Kiritimati", "west": "Pacific/Pago_Pago", "idle": ""} {
		if err := b.SetTenant(t.Context(), usage.Tenant{ID: id, TimeZone: zone}); err != nil {
			t.Fatal(err)
		}
	}
	b.clock.set(instant(t, "2026-05-31T11")) // June in the east already
	b.log(t, request("east", "1", 2))
	b.log(t, happened(request("east", "may", 50), instant(t, "2026-05-31T09:59:59")))
	b.log(t, request("west", "1", 5))
	b.log(t, request("b", "1", 5))
	list := func(filter usage.SummaryFilter) (texts []string) {
		t.Helper()
		summaries, err := b.Summaries(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range summaries {
			texts = append(texts, fmt.Sprint(s.Tenant.ID, " ", s.Cost, " ", s.Period.Start.Format("01-02T15")))
		}
		return texts
	}
	equal(t, "this month", []string{"b 5 05-01T00", "west 5 05-01T11", "east 2 05-31T10", "idle 0 05-01T00"},
		list(usage.SummaryFilter{}))
	equal(t, "the two that spent most", []string{"b 5 05-01T00", "west 5 05-01T11"}, list(usage.SummaryFilter{Top: 2}))
	equal(t, "at another time", []string{"east 50 04-30T10", "b 5 05-01T00", "west 5 05-01T11", "idle 0 05-01T00"},
		list(usage.SummaryFilter{At: instant(t, "2026-05-20"), Top: 100}))
	equal(t, "today", []string{"b 5 05-31T00", "west 5 05-31T11", "east 2 05-31T10", "idle 0 05-31T00"},
		list(usage.SummaryFilter{Per: usage.Day}))
	for _, filter := range []usage.SummaryFilter{{Top: -1}, {Per: "week"}, {At: instant(t, "1999-01-01")}} {
		_, err := b.Summaries(t.Context(), filter)
		wantError(t, err, usage.ErrInvalid)
	}
}

func TestSummariesOfMoreTenantsThanAPage(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	const tenants = 1001
	together(8, func(worker int) {
		for i := worker; i < tenants; i += 8 {
			if _, err := b.Log(t.Context(), request(fmt.Sprint("t", i), "1", int64(i))); err != nil {
				t.Error(err)
			}
		}
	})
	summaries, err := b.Summaries(t.Context(), usage.SummaryFilter{})
	if err != nil || len(summaries) != tenants {
		t.Fatalf("got %d, %v", len(summaries), err)
	}
	for i := range summaries {
		if want := int64(tenants - 1 - i); !summaries[i].Cost.Equal(decimal.NewFromInt(want)) {
			t.Fatalf("number %d spent %s, want %d", i, summaries[i].Cost, want)
		}
	}
	all := 0
	for _, err := range b.Tenants(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all++
	}
	equal(t, "tenants", tenants, all)
}

func TestSumsThatDoNotFitStayAtTheirMost(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{Prices: dollarBook(t, "9999")})
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Meter: usage.Cost, Max: usd("0.000000000001")}}})
	b.log(t, request("acme", "1", 900))
	b.log(t, usage.Call{TenantID: "acme", ID: "2", Provider: "unlisted", Quantities: usage.Quantities{usage.AudioTime: 1e15}})
	month := b.current(t, "acme")
	equal(t, "audio time", time.Duration(math.MaxInt64), month.AudioTime)
	equal(t, "the meter itself", int64(1e15), month.Meters[usage.AudioTime].Quantity)
	if percent := month.Limits[0].Percent; !percent.Equal(decimal.New(math.MaxInt64, -4)) {
		t.Errorf("percent %s", percent)
	}
}

// interrupted is a store in which something happens just before totals or records are read for the first time.
type interrupted struct {
	store.Store
	before func()
}

func (s *interrupted) interrupt() {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
}

func (s *interrupted) Totals(ctx context.Context, q store.TotalQuery) ([]store.Total, error) {
	s.interrupt()
	return s.Store.Totals(ctx, q)
}

func TestReportsHoldWhileTheirTenantIsPrunedOrMoved(t *testing.T) {
	t.Parallel()
	st := &interrupted{Store: openStore(t, filepath.Join(t.TempDir(), "usage.db"))}
	b := benchOn(t, st, usage.Config{})
	for hour := range 48 {
		b.log(t, happened(request("acme", fmt.Sprint(hour), 1), instant(t, "2026-05-10").Add(time.Duration(hour)*time.Hour)))
	}
	move := func(zone string) func() {
		return func() {
			if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: zone}); err != nil {
				t.Error(err)
			}
		}
	}
	ask := func(start, end string) (*usage.Usage, error) {
		return b.Usage(t.Context(), "acme", period(t, start, end))
	}
	st.before = move("Asia/Kolkata")
	got, err := ask("2026-05-10", "2026-05-12")
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "two days", "48", got.Cost)
	st.before = move("UTC")
	days, err := b.Daily(t.Context(), "acme", period(t, "2026-05-10", "2026-05-12"))
	if err != nil || len(days) != 2 {
		t.Fatalf("%d days, %v", len(days), err)
	}
	wantDollars(t, "the first day", "24", days[0].Cost)
	st.before = move("Asia/Kolkata")
	b.clock.set(instant(t, "2026-05-20"))
	months, err := b.History(t.Context(), "acme", 1)
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "the month", "48", months[0].Cost)
	st.before = func() { b.prune(t, instant(t, "2026-05-10T06"), 6) }
	_, err = ask("2026-05-10", "2026-05-12")
	wantError(t, err, usage.ErrPruned)
}

func TestAYearMayCostMoreThanATotalHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{Prices: dollarBook(t, "9999")})
	for month := range 3 {
		b.log(t, happened(request("acme", fmt.Sprint(month), 900), instant(t, "2026-01-15T12").AddDate(0, month, 0)))
	}
	year, err := b.Usage(t.Context(), "acme", period(t, "2026-01-15T12", "2027-01-01"))
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "the year", "26997300", year.Cost)
	equal(t, "models", 1, len(year.Providers[0].Models))
	wantDollars(t, "the model", "26997300", year.Providers[0].Models[0].Cost)
}
