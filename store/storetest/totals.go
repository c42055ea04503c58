package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func totalPromises() []promise {
	return []promise{
		{"totals are the sums of the records by model and meter", totalsByModel},
		{"errors and unpriced records are counted", totalsCountErrors},
		{"a late record counts in its own periods", totalsOfLateRecord},
		{"totals are listed from From up to To, by start, provider and model", totalsListed},
		{"a rebuilt total is the same total", rebuiltTotals},
		{"tenants with the same models have their own totals", totalsApart},
	}
}

func totalsByModel(t *testing.T, l *ledger) {
	other := with(call(acme, "c", noon(), 7), func(r *store.Record) {
		r.Provider, r.Model = "elevenlabs", "eleven_v3"
		r.Lines = append(r.Lines, store.Line{Meter: "audio_ms", Quantity: 900, Unbilled: true}, store.Line{Meter: "input_tokens", Quantity: 2, Unbilled: true})
	})
	l.add(noon(), call(acme, "a", noon(), 3), call(acme, "b", noon(), 4), other)
	want := []store.Total{
		{TenantID: acme, Provider: "elevenlabs", Model: "eleven_v3", Calls: 1, Cost: 7, Meters: []store.MeterTotal{
			{Meter: "audio_ms", Quantity: 900}, {Meter: "input_tokens", Quantity: 9, Cost: 7},
		}},
		{TenantID: acme, Provider: "openai", Model: "gpt-4", Calls: 2, Cost: 7, Meters: []store.MeterTotal{{Meter: "input_tokens", Quantity: 7, Cost: 7}}},
	}
	equal(t, "month", l.totals(acme, store.Month), inPeriod(want, store.Month, march()))
	equal(t, "day", l.totals(acme, store.Day), inPeriod(want, store.Day, instant("2026-03-10T00:00:00Z")))
	l.healthy(acme)
}

// inPeriod is the totals as those of one period.
func inPeriod(totals []store.Total, w store.Window, start time.Time) []store.Total {
	placed := make([]store.Total, len(totals))
	for i, total := range totals {
		total.Window, total.Start = w, start
		placed[i] = total
	}
	return placed
}

func totalsCountErrors(t *testing.T, l *ledger) {
	status := func(id string, status int, text string) store.Record {
		return with(call(acme, id, noon(), 1), func(r *store.Record) { r.Status, r.Error = status, text })
	}
	l.add(noon(), status("a", 200, ""), status("b", 399, ""), status("c", 400, ""), status("d", 200, "cut off"), status("e", 0, ""), status("f", 503, "no"))
	l.add(noon(), unpriced(acme, "g", noon(), 5), with(unpriced(acme, "h", noon(), 6), func(r *store.Record) { r.Status = 500 }))
	equal(t, "month", l.totals(acme, store.Month), []store.Total{
		{TenantID: acme, Window: store.Month, Start: march(), Provider: "openai", Model: "gpt-4", Calls: 6, Errors: 3, Cost: 6,
			Meters: []store.MeterTotal{{Meter: "input_tokens", Quantity: 6, Cost: 6}}},
		{TenantID: acme, Window: store.Month, Start: march(), Provider: "openai", Model: "unheard-of", Calls: 2, Errors: 1, Unpriced: 2,
			Meters: []store.MeterTotal{{Meter: "input_tokens", Quantity: 11}}},
	})
	l.healthy(acme)
}

func totalsOfLateRecord(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "now", noon(), 1))
	now := l.standing(acme, noon())
	l.add(noon(), call(acme, "late", instant("2026-02-28T23:59:59.999999Z"), 5))
	equal(t, "standing", l.standing(acme, noon()), now)
	starts := []time.Time{}
	for _, total := range l.totals(acme, store.Month) {
		starts = append(starts, total.Start)
	}
	equal(t, "months", starts, []time.Time{instant("2026-02-01T00:00:00Z"), march()})
	l.healthy(acme)
}

func totalsListed(t *testing.T, l *ledger) {
	for i := range 4 {
		day := instant("2026-03-01T00:00:00Z").AddDate(0, 0, i)
		for j, model := range []string{"b", "B", "a", "Z"} {
			r := call(acme, fmt.Sprint(i, model), day, int64(i+j))
			r.Provider, r.Model = []string{"p", "P"}[j%2], model
			l.add(noon(), r)
		}
	}
	totals, err := l.Totals(t.Context(), store.TotalQuery{
		TenantID: acme, Window: store.Day, From: instant("2026-03-02T00:00:00Z"), To: instant("2026-03-04T00:00:00Z"),
	})
	l.must("Totals", err)
	var got []string
	for _, total := range totals {
		got = append(got, fmt.Sprint(total.Start.Day(), total.Provider, total.Model))
	}
	equal(t, "totals", got, []string{"2PB", "2PZ", "2pa", "2pb", "3PB", "3PZ", "3pa", "3pb"})
}

func rebuiltTotals(t *testing.T, l *ledger) {
	l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 31})
	l.add(noon(), call(acme, "a", noon(), 3), unpriced(acme, "b", noon(), 4), call(acme, "c", noon().AddDate(0, -1, 0), 5), call(globex, "d", noon(), 6))
	l.unchanged(noon(), func() {
		l.must("Rebuild", l.Rebuild(t.Context(), acme))
		l.must("Rebuild", l.another().Rebuild(t.Context(), acme))
	})
	l.add(noon(), call(acme, "e", noon(), 7))
	l.healthy(acme)
	l.healthy(globex)
}

func totalsApart(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 3), call(globex, "a", noon(), 4), call(acme, "b", noon(), 5))
	for tenant, want := range map[string]store.Money{acme: 8, globex: 4, "acm": 0, "acmee": 0} {
		s := l.standing(tenant, noon())
		equal(t, "spent by "+tenant, spent(&s), want)
		for _, total := range l.totals(tenant, store.Day) {
			equal(t, "tenant of a total", total.TenantID, tenant)
		}
	}
	l.healthy(acme)
	l.healthy(globex)
}
