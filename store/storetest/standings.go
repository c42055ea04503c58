package storetest

import (
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func standingPromises() []promise {
	return []promise{
		{"an unknown tenant has the defaults and has used nothing", standingOfUnknown},
		{"a standing has the totals of its month and of its day", standingTotals},
		{"a standing at another instant is of the periods there", standingElsewhere},
		{"a standing has the alerts of its periods, whatever their status", standingAlerts},
		{"a standing shows nothing of another tenant", standingApart},
	}
}

func standingOfUnknown(t *testing.T, l *ledger) {
	l.add(noon(), call(globex, "a", noon(), 1))
	equal(t, "standing", l.standing(acme, noon()), store.Standing{
		Tenant: defaults(acme, time.Time{}), At: noon(),
		Month: store.Period{Start: march(), End: april()},
		Day:   store.Period{Start: instant("2026-03-10T00:00:00Z"), End: instant("2026-03-11T00:00:00Z")},
	})
	equal(t, "tenants", l.tenants(), []store.Tenant{defaults(globex, noon())})
}

func standingTotals(t *testing.T, l *ledger) {
	tenant := store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 5, Contacts: []string{"a@acme.example"}}
	quota := store.Quota{TenantID: acme, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: 9}}, AlertPercents: []int{80}}
	l.setTenant(noon(), tenant)
	l.setQuota(noon(), quota, quiet)
	h := hold(acme, "h", noon(), time.Hour, 3)
	l.take(noon(), h)
	other := with(call(acme, "b", noon(), 2), func(r *store.Record) { r.Model = "gpt-5" })
	today, earlier := []store.Record{call(acme, "a", noon(), 1), other}, call(acme, "c", noon().Add(-24*time.Hour), 4)
	l.add(noon(), append(today, earlier, call(acme, "d", march(), 8))...)

	tenant.CreatedAt = noon()
	calendar, err := tenant.Calendar()
	l.must("calendar", err)
	held, _ := heldUp([]*store.Hold{&h})
	equal(t, "standing", l.another().standing(acme, noon()), store.Standing{
		Tenant: tenant, Quota: quota, At: noon(),
		Month:       store.Period{Start: instant("2026-03-04T18:30:00Z"), End: instant("2026-04-04T18:30:00Z")},
		Day:         store.Period{Start: instant("2026-03-09T18:30:00Z"), End: instant("2026-03-10T18:30:00Z")},
		MonthTotals: pointers(totalled(calendar, store.Month, append(today, earlier))),
		DayTotals:   pointers(totalled(calendar, store.Day, today)),
		Held:        held,
		HeldUntil:   noon().Add(time.Hour),
		Holds:       []*store.Hold{&h},
	})
}

func pointers[T any](values []T) []*T {
	list := make([]*T, len(values))
	for i := range values {
		list[i] = &values[i]
	}
	return list
}

func standingElsewhere(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", march(), 1), call(acme, "b", march().Add(-time.Microsecond), 2), call(acme, "c", april(), 4), call(acme, "d", noon(), 8))
	for at, want := range map[time.Time]store.Money{
		march(): 9, march().Add(-time.Microsecond): 2, april().Add(-time.Microsecond): 9, april(): 4, april().AddDate(0, 1, 0): 0,
	} {
		s := l.standing(acme, at)
		equal(t, "spent in the month of "+at.String(), spent(&s), want)
	}
	equal(t, "models of a day without calls", len(l.standing(acme, noon().Add(24*time.Hour)).DayTotals), 0)
	equal(t, "models of a day with a call", len(l.standing(acme, noon()).DayTotals), 1)
}

// standingAlerts raises alerts of two months and two days.
func standingAlerts(t *testing.T, l *ledger) {
	today := reached(50, 100)
	today.Per, today.PeriodStart, today.PeriodEnd = store.Day, instant("2026-03-10T00:00:00Z"), instant("2026-03-11T00:00:00Z")
	yesterday := today
	yesterday.PeriodStart, yesterday.PeriodEnd = instant("2026-03-09T00:00:00Z"), instant("2026-03-10T00:00:00Z")
	february := reached(90, 100)
	february.PeriodStart, february.PeriodEnd = instant("2026-02-01T00:00:00Z"), march()
	l.judged(noon(), raise(reached(80, 100), today, yesterday, february), call(acme, "a", noon(), 1))
	for _, alert := range l.alerts(acme) {
		if alert.Percent == 80 {
			_, err := l.MarkAlert(t.Context(), noon(), acme, alert.ID, store.AlertResolved)
			l.must("MarkAlert", err)
		}
	}
	for at, want := range map[string][]int{
		"2026-03-10T12:00:00Z": {50, 80}, "2026-03-10T00:00:00Z": {50, 80}, "2026-03-09T12:00:00Z": {50, 80},
		"2026-03-11T00:00:00Z": {80}, "2026-02-28T12:00:00Z": {90}, "2026-04-01T00:00:00Z": nil,
	} {
		equal(t, "alerts at "+at, percents(l.standing(acme, instant(at)).Alerts), want)
	}
}

func standingApart(t *testing.T, l *ledger) {
	for _, tenant := range []string{globex, "acme ", "ACME", "acm"} {
		l.judged(noon(), raise(reached(80, 100)), call(tenant, "a", noon(), 1))
		l.take(noon(), hold(tenant, "h", noon(), time.Hour, 1))
		l.setQuota(noon(), store.Quota{TenantID: tenant, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: 1}}}, quiet)
	}
	s := l.standing(acme, noon())
	equal(t, "rows", len(s.MonthTotals)+len(s.DayTotals)+len(s.Holds)+len(s.Held)+len(s.Alerts)+len(s.Quota.Limits), 0)
	equal(t, "alerts", l.alerts(acme), nil)
	equal(t, "records", l.records(acme), nil)
}
