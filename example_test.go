package usage_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
	"github.com/shopspring/decimal"
)

// exampleTracker returns a tracker on a ledger of its own in memory, whose clock stands at noon of 2026-05-20, and
// what closes the ledger.
func exampleTracker(cfg usage.Config) (tracker *usage.Tracker, done func()) {
	st, err := storesqlite.Open(context.Background(), ":memory:")
	check(err)
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC) }
	}
	tracker, err = usage.New(st, cfg)
	check(err)
	return tracker, func() { check(st.Close()) }
}

// exampleCall is a call that costs $0.0225.
func exampleCall(tenantID, id string) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: tenantID, ID: id, Model: "gpt-4", InputTokens: 150, OutputTokens: 300,
		Endpoint: "/v1/chat/completions", Status: 200, Latency: 820 * time.Millisecond,
	}
}

// costLimit is acme's quota of so many dollars a month, with alerts at 80 and 100 %.
func costLimit(dollars string) usage.Quota {
	return usage.Quota{
		TenantID:      "acme",
		Limits:        []usage.Limit{{Meter: usage.Cost, Max: usd(dollars)}},
		AlertPercents: []int{80, 100},
	}
}

func usd(amount string) decimal.Decimal { return decimal.RequireFromString(amount) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func ExampleNew() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:") // a path makes it last
	check(err)
	defer func() { check(st.Close()) }()

	tracker, err := usage.New(st, usage.Config{})
	check(err)
	rec, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	fmt.Println(rec.Cost)
	// Output: 0.0225
}

func ExampleTracker_LogOpenAI() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	// The numbers go in as the response has them: the cached tokens are inside the input.
	rec, err := tracker.LogOpenAI(ctx, usage.OpenAICall{
		TenantID: "acme", ID: "resp_1", Model: "gpt-4.1-2025-04-14", ServiceTier: "default",
		InputTokens: 2_006, CachedInputTokens: 1_920, OutputTokens: 300,
		Endpoint: "/v1/responses", Status: 200, Latency: 820 * time.Millisecond,
		User: "u-17", Tags: map[string]string{"feature": "search"},
	})
	check(err)
	for _, line := range rec.Lines {
		fmt.Println(line.Meter, line.Quantity, line.Cost)
	}
	fmt.Println("total", rec.Cost)
	// Output:
	// input_tokens 86 0.000172
	// input_cached_tokens 1920 0.00096
	// output_tokens 300 0.0024
	// total 0.003532
}

func ExampleTracker_LogOpenAI_again() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	call := exampleCall("acme", "chatcmpl-1")
	for range 2 {
		rec, err := tracker.LogOpenAI(ctx, call)
		check(err)
		fmt.Println(rec.Cost, rec.Duplicate)
	}
	call.OutputTokens++
	_, err := tracker.LogOpenAI(ctx, call)
	fmt.Println(err)
	// Output:
	// 0.0225 false
	// 0.0225 true
	// call "chatcmpl-1" of tenant "acme": id is taken by one with other content: Lines differs
}

func ExampleTracker_LogElevenLabs() {
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	rec, err := tracker.LogElevenLabs(context.Background(), usage.ElevenLabsCall{
		TenantID: "acme", ID: "el-1", Model: "eleven_multilingual_v2", Characters: 1_200, Audio: 80 * time.Second,
	})
	check(err)
	fmt.Println(rec.Cost, rec.Unbilled)
	// Output: 0.144 map[audio_time:80000]
}

func ExampleTracker_LogSmartflo() {
	// Smartflo publishes no price: the host adds its contract's.
	prices, err := usage.DefaultPrices().With(usage.Price{
		Provider: usage.Smartflo, Meter: usage.CallTime,
		Amount: usd("0.02"), Per: usage.PerMinute, RoundUpTo: usage.PerMinute,
	})
	check(err)
	tracker, done := exampleTracker(usage.Config{Prices: prices})
	defer done()

	rec, err := tracker.LogSmartflo(context.Background(), usage.SmartfloCall{
		TenantID: "acme", ID: "sf-1", Duration: 185 * time.Second, Direction: "outbound",
	})
	check(err)
	fmt.Println(rec.Cost) // four started minutes
	// Output: 0.08
}

func ExampleTracker_Log() {
	prices, err := usage.NewPriceBook(usage.Price{
		Provider: "deepgram", Model: "nova-3", Meter: usage.AudioTime, Amount: usd("0.0043"), Per: usage.PerMinute,
	})
	check(err)
	tracker, done := exampleTracker(usage.Config{Prices: prices})
	defer done()

	rec, err := tracker.Log(context.Background(), usage.Call{
		TenantID: "acme", ID: "dg-1", Provider: "deepgram", Model: "nova-3",
		Quantities: usage.Quantities{usage.AudioTime: 90_000}, // milliseconds
	})
	check(err)
	fmt.Println(rec.Cost)
	// Output: 0.00645
}

func ExampleTracker_SetPrices() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	// Prices may change at any time, by the notice of a provider for one. A call is charged what was in force when it
	// happened, whenever it is logged.
	june := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	prices, err := usage.DefaultPrices().With(
		usage.Price{Provider: usage.OpenAI, Model: "gpt-4", Meter: usage.InputTokens, Amount: usd("20"), Per: usage.PerMillion, From: june},
		usage.Price{Provider: usage.OpenAI, Model: "gpt-4", Meter: usage.OutputTokens, Amount: usd("40"), Per: usage.PerMillion, From: june},
	)
	check(err)
	check(tracker.SetPrices(prices))

	for _, at := range []time.Time{june.Add(-time.Second), june} {
		call := exampleCall("acme", "")
		call.At = at
		rec, err := tracker.LogOpenAI(ctx, call)
		check(err)
		fmt.Println(at.Format(time.DateTime), rec.Cost)
	}
	// Output:
	// 2026-05-31 23:59:59 0.0225
	// 2026-06-01 00:00:00 0.015
}

func ExampleTracker_SetTenantPrices() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	// Globex has a contract of its own for the input.
	prices, err := usage.DefaultPrices().With(usage.Price{
		Provider: usage.OpenAI, Model: "gpt-4", Meter: usage.InputTokens, Amount: usd("15"), Per: usage.PerMillion,
	})
	check(err)
	check(tracker.SetTenantPrices("globex", prices))

	for _, tenant := range []string{"acme", "globex"} {
		rec, err := tracker.LogOpenAI(ctx, exampleCall(tenant, "chatcmpl-1"))
		check(err)
		fmt.Println(tenant, rec.Cost)
	}
	// Output:
	// acme 0.0225
	// globex 0.02025
}

func ExampleTracker_SetTenant() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetTenant(ctx, usage.Tenant{ID: "acme", Name: "Acme Corp", TimeZone: "Asia/Kolkata", BillingDay: 15}))
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Println(month.Period.Start.Format(time.RFC3339), "to", month.Period.End.Format(time.RFC3339))
	// Output: 2026-05-14T18:30:00Z to 2026-06-14T18:30:00Z
}

func ExampleTracker_Suspend() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.Suspend(ctx, "acme", "invoice 17 is overdue"))
	err := tracker.CheckQuota(ctx, usage.Estimate{TenantID: "acme", Provider: usage.OpenAI})
	fmt.Println(errors.Is(err, usage.ErrSuspended), err)

	_, err = tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1")) // it was made, so it counts
	fmt.Println(err)
	// Output:
	// true tenant "acme": suspended: "invoice 17 is overdue"
	// <nil>
}

func ExampleTracker_Resume() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.Suspend(ctx, "acme", "invoice 17 is overdue"))
	check(tracker.Resume(ctx, "acme"))
	fmt.Println(tracker.CheckQuota(ctx, usage.Estimate{TenantID: "acme", Provider: usage.OpenAI}))
	// Output: <nil>
}

func ExampleTracker_SetQuota() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, usage.Quota{
		TenantID: "acme",
		Limits: []usage.Limit{
			{Meter: usage.Cost, Max: usd("500")},
			{Provider: usage.OpenAI, Model: "gpt-4", Meter: usage.Tokens, Per: usage.Day, Max: usd("1000")},
			{Provider: usage.Smartflo, Meter: usage.Minutes, Max: usd("3000"), Soft: true},
		},
		AlertPercents: []int{80, 100},
	}))
	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	for _, l := range month.Limits {
		fmt.Println(l.Limit.Meter, "a", l.Limit.Per, l.Used, "of", l.Limit.Max, "is", l.Percent, "%")
	}
	// Output:
	// cost a month 0.0225 of 500 is 0.0045 %
	// tokens a day 450 of 1000 is 45 %
	// minutes a month 0 of 3000 is 0 %
}

func ExampleTracker_Quota() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("500")))
	quota, err := tracker.Quota(ctx, "acme")
	check(err)
	fmt.Println(quota.Limits[0].Meter, quota.Limits[0].Per, quota.Limits[0].Max, quota.AlertPercents)

	quota, err = tracker.Quota(ctx, "globex") // unlimited
	check(err)
	fmt.Println(len(quota.Limits))
	// Output:
	// cost month 500 [80 100]
	// 0
}

func ExampleTracker_CheckQuota() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("0.03")))
	next := usage.Estimate{TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 150, OutputTokens: 300}
	fmt.Println(tracker.CheckQuota(ctx, next))

	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	err = tracker.CheckQuota(ctx, next)
	fmt.Println(err)
	var over *usage.QuotaError
	if errors.As(err, &over) {
		fmt.Println("left:", over.Limit.Max.Sub(over.Used).Sub(over.Held))
	}
	// Output:
	// <nil>
	// tenant "acme": quota exceeded: cost: used 0.0225, held 0, asked 0.0225, of 0.03 a month; resets at 2026-06-01T00:00:00Z
	// left: 0.0075
}

func ExampleLimit_rate() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, usage.Quota{TenantID: "acme", Limits: []usage.Limit{
		{Provider: usage.OpenAI, Meter: usage.Calls, Per: usage.Minute, Max: usd("60"), Burst: 2},
		{Provider: usage.OpenAI, Meter: usage.Tokens, Per: usage.Minute, Max: usd("90000")},
	}}))
	worst := usage.Estimate{TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 150, OutputTokens: 450}
	for range 3 {
		_, err := tracker.Reserve(ctx, worst)
		var refusal *usage.QuotaError
		if errors.As(err, &refusal) { // 429 Too Many Requests
			seconds := (refusal.RetryAfter + time.Second - 1) / time.Second // the header has whole ones
			fmt.Printf("Retry-After: %d, remaining: %s\n", seconds, refusal.Remaining)
			continue
		}
		fmt.Println("reserved", err == nil)
	}
	worst.OutputTokens = 100_000
	_, err := tracker.Reserve(ctx, worst)
	fmt.Println("never fits:", errors.Is(err, usage.ErrExceedsBurst))
	// Output:
	// reserved true
	// reserved true
	// Retry-After: 1, remaining: 0
	// never fits: true
}

func ExampleTracker_Reserve() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("1")))
	worst := usage.Estimate{TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 8_000, OutputTokens: 8_000}
	reservation, err := tracker.Reserve(ctx, worst)
	check(err)
	fmt.Println("held", reservation.Cost)

	_, err = tracker.Reserve(ctx, worst) // another call, at the same time
	fmt.Println("refused", errors.Is(err, usage.ErrQuotaExceeded))

	call := exampleCall("acme", "chatcmpl-1")
	call.ReservationID = reservation.ID // the record takes the reservation's place
	rec, err := tracker.LogOpenAI(ctx, call)
	check(err)
	fmt.Println(rec.Settlement, rec.Cost)

	_, err = tracker.Reserve(ctx, worst)
	fmt.Println(err)
	// Output:
	// held 0.72
	// refused true
	// settled 0.0225
	// <nil>
}

func ExampleTracker_Release() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	_, err := tracker.Reserve(ctx, usage.Estimate{TenantID: "acme", ID: "job-1", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 1_000})
	check(err)
	fmt.Println(tracker.Release(ctx, "acme", "job-1")) // by a process that knows the id alone
	fmt.Println(tracker.Release(ctx, "acme", "job-1"))
	fmt.Println(errors.Is(tracker.Release(ctx, "acme", "job-2"), usage.ErrNotFound))
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleReservation_Release() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	reservation, err := tracker.Reserve(ctx, usage.Estimate{
		TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 1_000, ExpiresIn: time.Minute,
	})
	check(err)
	fmt.Println(reservation.ExpiresAt.Format(time.TimeOnly))
	fmt.Println(reservation.Release(ctx)) // the call was not made
	// Output:
	// 12:01:00
	// <nil>
}

func ExampleTracker_GetCurrentUsage() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("0.10")))
	for _, id := range []string{"chatcmpl-1", "chatcmpl-2"} {
		_, err := tracker.LogOpenAI(ctx, exampleCall("acme", id))
		check(err)
	}
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Println(month.Calls, "calls", month.Tokens, "tokens", month.Cost, "dollars")
	openai := month.Provider(usage.OpenAI)
	fmt.Println(openai.Models[0].Name, openai.Models[0].Meters[usage.OutputTokens].Cost)
	fmt.Println(month.Limits[0].Percent, "% used")
	// Output:
	// 2 calls 900 tokens 0.045 dollars
	// gpt-4 0.036
	// 45 % used
}

func ExampleTracker_Usage() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	noon := time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)
	for hour := range 6 {
		call := exampleCall("acme", "")
		call.At = noon.Add(time.Duration(hour) * -time.Hour)
		_, err := tracker.LogOpenAI(ctx, call)
		check(err)
	}
	period, err := tracker.Usage(ctx, "acme", usage.Period{Start: noon.Add(-2 * time.Hour), End: noon})
	check(err)
	fmt.Println(period.Calls, period.Cost) // those of 10:00 and 11:00
	// Output: 2 0.045
}

func ExampleTracker_History() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	late := exampleCall("acme", "late")
	late.At = time.Date(2026, 4, 30, 23, 59, 59, 0, time.UTC)
	for _, call := range []usage.OpenAICall{late, exampleCall("acme", "chatcmpl-1"), exampleCall("acme", "chatcmpl-2")} {
		_, err := tracker.LogOpenAI(ctx, call)
		check(err)
	}
	months, err := tracker.History(ctx, "acme", 3)
	check(err)
	for _, m := range months {
		fmt.Println(m.Period.Start.Format("January"), m.Calls, m.Cost)
	}
	// Output:
	// May 2 0.045
	// April 1 0.0225
	// March 0 0
}

func ExampleTracker_Daily() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	for _, day := range []int{18, 20, 20} {
		call := exampleCall("acme", "")
		call.At = time.Date(2026, 5, day, 9, 0, 0, 0, time.UTC)
		_, err := tracker.LogOpenAI(ctx, call)
		check(err)
	}
	days, err := tracker.Daily(ctx, "acme", usage.Period{
		Start: time.Date(2026, 5, 18, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 5, 21, 0, 0, 0, 0, time.UTC),
	})
	check(err)
	for _, d := range days {
		fmt.Println(d.Period.Start.Format(time.DateOnly), d.Calls, d.Cost)
	}
	// Output:
	// 2026-05-18 1 0.0225
	// 2026-05-19 0 0
	// 2026-05-20 2 0.045
}

func ExampleTracker_Summaries() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	for tenant, calls := range map[string]int{"acme": 1, "globex": 3, "initech": 2} {
		for range calls {
			_, err := tracker.LogOpenAI(ctx, exampleCall(tenant, ""))
			check(err)
		}
	}
	summaries, err := tracker.Summaries(ctx, usage.SummaryFilter{Top: 2})
	check(err)
	for _, s := range summaries {
		fmt.Println(s.Tenant.Name, s.Calls, s.Cost)
	}
	// Output:
	// globex 3 0.0675
	// initech 2 0.045
}

func ExampleTracker_Record() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	rec, err := tracker.Record(ctx, "acme", "chatcmpl-1")
	check(err)
	fmt.Println(rec.Model, rec.Endpoint, rec.Status, rec.Latency, rec.Cost)

	_, err = tracker.Record(ctx, "globex", "chatcmpl-1")
	fmt.Println(errors.Is(err, usage.ErrNotFound))
	// Output:
	// gpt-4 /v1/chat/completions 200 820ms 0.0225
	// true
}

func ExampleTracker_Records() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	for _, id := range []string{"chatcmpl-1", "chatcmpl-2"} {
		_, err := tracker.LogOpenAI(ctx, exampleCall("acme", id))
		check(err)
	}
	for rec, err := range tracker.Records(ctx, usage.RecordFilter{TenantID: "acme", Provider: usage.OpenAI}) {
		check(err)
		fmt.Println(rec.ID, rec.Cost)
	}
	// Output:
	// chatcmpl-1 0.0225
	// chatcmpl-2 0.0225
}

func ExampleTracker_RecordsPage() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	for i := range 3 {
		_, err := tracker.LogOpenAI(ctx, exampleCall("acme", fmt.Sprint("chatcmpl-", i+1)))
		check(err)
	}
	newest := usage.RecordFilter{TenantID: "acme", NewestFirst: true}
	for cursor := ""; ; {
		page, err := tracker.RecordsPage(ctx, newest, cursor, 2)
		check(err)
		for _, rec := range page.Records {
			fmt.Print(rec.ID, " ")
		}
		fmt.Println("more:", page.Next != "")
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	// Output:
	// chatcmpl-3 chatcmpl-2 more: true
	// chatcmpl-1 more: false
}

func ExampleTracker_Alerts() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("0.05")))
	for range 3 {
		_, err := tracker.LogOpenAI(ctx, exampleCall("acme", ""))
		check(err)
	}
	alerts, err := tracker.Alerts(ctx, usage.AlertFilter{TenantID: "acme"})
	check(err)
	for _, a := range alerts {
		fmt.Println(a.Kind, a.Percent, "% of", a.Max, "reached with", a.Used)
	}
	// Output:
	// cost_warning 80 % of 0.05 reached with 0.045
	// quota_exceeded 100 % of 0.05 reached with 0.0675
}

func ExampleAlert_Cursor() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("0.02")))
	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	page := usage.AlertFilter{Limit: 1}
	for {
		alerts, err := tracker.Alerts(ctx, page)
		check(err)
		if len(alerts) == 0 {
			break
		}
		fmt.Println(alerts[0].Kind)
		page.After = alerts[0].Cursor()
	}
	// Output:
	// cost_warning
	// quota_exceeded
}

func ExampleTracker_ClaimAlerts() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	check(tracker.SetQuota(ctx, costLimit("0.02")))
	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)

	// Any number of processes may do this: while the lease lasts, an alert has one deliverer.
	alerts, err := tracker.ClaimAlerts(ctx, 10, time.Minute)
	check(err)
	for _, a := range alerts {
		fmt.Println("to the operator:", a.Kind, a.Percent, "%")
		_, err := tracker.MarkAlertSent(ctx, a.TenantID, a.ID)
		check(err)
	}
	alerts, err = tracker.ClaimAlerts(ctx, 10, time.Minute)
	check(err)
	fmt.Println(len(alerts))
	// Output:
	// to the operator: cost_warning 80 %
	// to the operator: quota_exceeded 100 %
	// 0
}

// firstAlert makes a tenant pass its budget and returns the first alert of it.
func firstAlert(ctx context.Context, tracker *usage.Tracker) usage.Alert {
	check(tracker.SetQuota(ctx, costLimit("0.02")))
	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	alerts, err := tracker.Alerts(ctx, usage.AlertFilter{TenantID: "acme"})
	check(err)
	return alerts[0]
}

func ExampleTracker_MarkAlertSent() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	alert := firstAlert(ctx, tracker)
	fmt.Println(alert.Status)
	alert, err := tracker.MarkAlertSent(ctx, alert.TenantID, alert.ID)
	fmt.Println(alert.Status, alert.SentAt.Format(time.TimeOnly), err)
	// Output:
	// pending
	// sent 12:00:00 <nil>
}

func ExampleTracker_AcknowledgeAlert() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	alert := firstAlert(ctx, tracker)
	alert, err := tracker.AcknowledgeAlert(ctx, alert.TenantID, alert.ID)
	fmt.Println(alert.Status, err)
	alert, err = tracker.MarkAlertSent(ctx, alert.TenantID, alert.ID) // a state never goes back
	fmt.Println(alert.Status, err)
	// Output:
	// acknowledged <nil>
	// acknowledged <nil>
}

func ExampleTracker_ResolveAlert() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	alert := firstAlert(ctx, tracker)
	_, err := tracker.ResolveAlert(ctx, alert.TenantID, alert.ID)
	check(err)
	open, err := tracker.Alerts(ctx, usage.AlertFilter{Status: usage.AlertPending})
	check(err)
	fmt.Println(len(open), "pending")
	// Output: 1 pending
}

func ExampleTracker_Verify() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	drift, err := tracker.Verify(ctx, "acme")
	fmt.Println(len(drift), err)
	// Output: 0 <nil>
}

func ExampleTracker_Rebuild() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	_, err := tracker.LogOpenAI(ctx, exampleCall("acme", "chatcmpl-1"))
	check(err)
	check(tracker.Rebuild(ctx, "acme"))
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	fmt.Println(month.Cost, err)
	// Output: 0.0225 <nil>
}

func ExampleTracker_Reprice() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	rec, err := tracker.LogOpenAI(ctx, usage.OpenAICall{
		TenantID: "acme", ID: "chatcmpl-1", Model: "gpt-unheard-of", InputTokens: 1_000_000,
	})
	check(err)
	fmt.Println(rec.Unpriced)

	prices, err := usage.DefaultPrices().With(usage.Price{
		Provider: usage.OpenAI, Model: "gpt-unheard-of", Meter: usage.InputTokens, Amount: usd("2"), Per: usage.PerMillion,
	})
	check(err)
	check(tracker.SetPrices(prices))
	repriced, err := tracker.Reprice(ctx, usage.RepriceFilter{TenantID: "acme"})
	check(err)
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Println(repriced.Priced, "priced,", month.Cost)
	// Output:
	// unknown model gpt-unheard-of
	// 1 priced, 2
}

func ExampleNewPriceBook() {
	_, err := usage.NewPriceBook(
		usage.Price{Provider: "deepgram", Meter: usage.AudioTime, Amount: usd("0.0043")},
		usage.Price{Provider: "acme", Model: "m", Meter: usage.InputTokens, Amount: usd("2"), Per: usage.PerUnit},
	)
	fmt.Println(err)
	// Output: invalid: prices[0].Per is not positive; prices[1].Amount is more than 1 USD for one
}

func ExampleDefaultPrices() {
	prices := usage.DefaultPrices()
	models := map[string]bool{}
	for p := range prices.Prices() {
		if p.Provider == usage.OpenAI {
			models[p.Model] = true
		}
	}
	fmt.Println(models["gpt-4"], models["gpt-unheard-of"])
	// Output: true false
}

func ExamplePriceBook_Prices() {
	june := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	price := usage.Price{Provider: "acme", Model: "m", Meter: usage.Requests, Amount: usd("0.02"), Per: usage.PerUnit}
	prices, err := usage.NewPriceBook(price)
	check(err)
	price.Amount, price.From = usd("0.03"), june
	prices, err = prices.With(price)
	check(err)
	for p := range prices.Prices() {
		fmt.Println(p.Amount, "from", p.From.Format(time.DateOnly), "until", p.Until.Format(time.DateOnly))
	}
	// Output:
	// 0.02 from 0001-01-01 until 2026-06-01
	// 0.03 from 2026-06-01 until 0001-01-01
}

func ExamplePriceBook_Version() {
	price := usage.Price{Provider: "acme", Model: "m", Meter: usage.Requests, Amount: usd("0.02"), Per: usage.PerUnit}
	a, err := usage.NewPriceBook(price)
	check(err)
	price.Amount = usd("0.020")
	b, err := usage.NewPriceBook(price)
	check(err)
	price.Amount = usd("0.03")
	c, err := usage.NewPriceBook(price)
	check(err)
	fmt.Println(a.Version() == b.Version(), a.Version() == c.Version())
	// Output: true false
}

func ExamplePriceBook_Model() {
	// A provider returns the name of a snapshot, which the book may know only without its date.
	fmt.Println(usage.DefaultPrices().Model(usage.OpenAI, "gpt-6.1-sol-2026-09-29"))
	fmt.Println(usage.DefaultPrices().Model(usage.OpenAI, "gpt-9-imaginary"))
	// Output:
	// gpt-6.1-sol true
	//  false
}

func ExamplePriceBook_WithAlias() {
	// The name of a deployment at Azure says nothing about its model.
	prices, err := usage.DefaultPrices().WithAlias(usage.OpenAI, "support-bot", "gpt-4")
	check(err)
	tracker, done := exampleTracker(usage.Config{Prices: prices})
	defer done()

	call := exampleCall("acme", "chatcmpl-1")
	call.Model = "support-bot"
	rec, err := tracker.LogOpenAI(context.Background(), call)
	check(err)
	fmt.Println(rec.Model, rec.Cost)
	// Output: support-bot 0.0225
}

func ExamplePriceBook_WithExchangeRates() {
	prices, err := usage.NewPriceBook(usage.Price{
		Provider: usage.Smartflo, Meter: usage.CallTime, Amount: usd("0.60"), Currency: "INR", Per: usage.PerMinute,
	})
	check(err)
	may := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	prices, err = prices.WithExchangeRates(usage.ExchangeRate{Currency: "INR", USD: usd("0.012"), From: may})
	check(err)

	minute := []usage.Line{{Meter: usage.CallTime, Quantity: usage.PerMinute}}
	for _, at := range []time.Time{may, may.Add(-time.Second)} {
		cost, err := prices.Price(usage.PriceQuery{Provider: usage.Smartflo, At: at}, minute)
		fmt.Println(cost, err)
	}
	// Output:
	// 0.0072 <nil>
	// 0 unpriced: no exchange rate for INR at 2026-04-30
}

// The verbs of these types have an example each.
func TestEveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	examples := exampleNames(t)
	for _, name := range verbs(t, "Tracker", "PriceBook", "Reservation") {
		if !slices.Contains(examples, name) {
			t.Errorf("no example with output: Example%s", name)
		}
	}
}

// exampleNames lists the examples of the package that are run: those with an Output comment.
func exampleNames(t *testing.T) (names []string) {
	for _, file := range parseFiles(t, "*_test.go") {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Example") {
				continue
			}
			for _, comment := range file.Comments {
				if comment.Pos() > fn.Pos() && comment.End() < fn.End() && strings.HasPrefix(comment.Text(), "Output:") {
					names = append(names, strings.TrimPrefix(fn.Name.Name, "Example"))
				}
			}
		}
	}
	return names
}

// verbs lists the exported methods of some types as examples are named after them, and the package's New functions.
func verbs(t *testing.T, types ...string) (names []string) {
	for _, file := range parseFiles(t, "*.go") {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() {
				continue
			}
			switch {
			case fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "New"):
				names = append(names, fn.Name.Name)
			case fn.Recv != nil && slices.Contains(types, receiver(fn)):
				names = append(names, receiver(fn)+"_"+fn.Name.Name)
			}
		}
	}
	return names
}

func receiver(fn *ast.FuncDecl) string {
	of := fn.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	name, _ := of.(*ast.Ident)
	if name == nil {
		return ""
	}
	return name.Name
}

// parseFiles parses the root package's files of a pattern; "*.go" leaves the tests out.
func parseFiles(t *testing.T, pattern string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	set := token.NewFileSet()
	for _, path := range paths {
		if pattern == "*.go" && strings.HasSuffix(path, "_test.go") {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(set, path, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

func ExampleTracker_Tenant() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()
	check(tracker.SetTenant(ctx, usage.Tenant{ID: "acme", Name: "Acme Corp", TimeZone: "Asia/Kolkata"}))

	tenant, err := tracker.Tenant(ctx, "acme")
	check(err)
	fmt.Println(tenant.Name, tenant.TimeZone, tenant.BillingDay)
	_, err = tracker.Tenant(ctx, "nobody")
	fmt.Println(errors.Is(err, usage.ErrNotFound))
	// Output:
	// Acme Corp Asia/Kolkata 1
	// true
}

func ExampleTracker_Tenants() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()
	check(tracker.SetTenant(ctx, usage.Tenant{ID: "globex"}))
	check(tracker.SetTenant(ctx, usage.Tenant{ID: "acme"}))

	for tenant, err := range tracker.Tenants(ctx) {
		check(err)
		fmt.Println(tenant.ID)
	}
	// Output:
	// acme
	// globex
}

func ExampleTracker_Prune() {
	ctx := context.Background()
	tracker, done := exampleTracker(usage.Config{})
	defer done()

	old := exampleCall("acme", "chatcmpl-1")
	old.At = time.Date(2025, 12, 24, 18, 0, 0, 0, time.UTC)
	_, err := tracker.LogOpenAI(ctx, old)
	check(err)
	dropped, err := tracker.Prune(ctx, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	check(err)
	fmt.Println(dropped, "dropped")

	_, err = tracker.LogOpenAI(ctx, old) // it was counted, and nobody can tell any more
	fmt.Println(errors.Is(err, usage.ErrPruned))
	december, err := tracker.Usage(ctx, "acme", usage.Period{Start: old.At.AddDate(0, 0, -23).Truncate(24 * time.Hour), End: old.At.AddDate(0, 0, 8).Truncate(24 * time.Hour)})
	check(err)
	fmt.Println(december.Calls, "call for", december.Cost)
	// Output:
	// 1 dropped
	// true
	// 1 call for 0.0225
}
