package storetest

import (
	"testing"

	"github.com/acf68eca/usage/store"
)

func periodPromises() []promise {
	return []promise{
		{"a record counts in the month and the day of its tenant", recordInPeriods},
		{"two instants around a month's start are in two months", monthEdges},
		{"a new time zone or billing day moves the totals", newCalendarMovesTotals},
		{"a new name moves nothing", newNameMovesNothing},
		{"each tenant is in its own period", tenantTotalsPeriods},
	}
}

// periodCase is an instant of a tenant, and the month and the day that it lies in: starts and ends.
type periodCase struct {
	zone            string
	billingDay      int
	at              string
	month, monthEnd string
	day, dayEnd     string
	why             string
}

func periodCases() []periodCase {
	return []periodCase{
		{"Asia/Kolkata", 1, "2024-03-31T12:00:00Z", "2024-02-29T18:30:00Z", "2024-03-31T18:30:00Z", "2024-03-30T18:30:00Z", "2024-03-31T18:30:00Z", "still March"},
		{"Asia/Kolkata", 1, "2024-03-31T18:30:00Z", "2024-03-31T18:30:00Z", "2024-04-30T18:30:00Z", "2024-03-31T18:30:00Z", "2024-04-01T18:30:00Z", "April"},
		{"America/New_York", 1, "2024-03-10T12:00:00Z", "2024-03-01T05:00:00Z", "2024-04-01T04:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z", "a day of 23 hours"},
		{"America/New_York", 1, "2024-04-01T03:59:59.999999Z", "2024-03-01T05:00:00Z", "2024-04-01T04:00:00Z", "2024-03-31T04:00:00Z", "2024-04-01T04:00:00Z", "the last moment"},
		{"Asia/Kathmandu", 1, "2026-01-31T18:14:59.999999Z", "2025-12-31T18:15:00Z", "2026-01-31T18:15:00Z", "2026-01-30T18:15:00Z", "2026-01-31T18:15:00Z", "a quarter of an hour"},
		{"Asia/Kathmandu", 1, "2026-01-31T18:15:00Z", "2026-01-31T18:15:00Z", "2026-02-28T18:15:00Z", "2026-01-31T18:15:00Z", "2026-02-01T18:15:00Z", "the first moment"},
		{"Pacific/Chatham", 1, "2026-04-10T00:00:00Z", "2026-03-31T10:15:00Z", "2026-04-30T11:15:00Z", "2026-04-09T11:15:00Z", "2026-04-10T11:15:00Z", "summer time ends inside"},
		{"America/Havana", 1, "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", "midnight comes twice"},
		{"America/Havana", 8, "2026-03-08T05:00:00Z", "2026-03-08T05:00:00Z", "2026-04-08T04:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "midnight is skipped"},
		{"UTC", 5, "2025-03-04T23:59:59.999999Z", "2025-02-05T00:00:00Z", "2025-03-05T00:00:00Z", "2025-03-04T00:00:00Z", "2025-03-05T00:00:00Z", "the last moment"},
		{"UTC", 5, "2025-02-05T00:00:00Z", "2025-02-05T00:00:00Z", "2025-03-05T00:00:00Z", "2025-02-05T00:00:00Z", "2025-02-06T00:00:00Z", "the first moment"},
		{"UTC", 30, "2025-02-13T00:00:00Z", "2025-01-30T00:00:00Z", "2025-02-28T00:00:00Z", "2025-02-13T00:00:00Z", "2025-02-14T00:00:00Z", "no 30th"},
		{"UTC", 31, "2025-02-28T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-31T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-01T00:00:00Z", "the 31st comes back"},
		{"UTC", 31, "2024-02-29T12:00:00Z", "2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z", "leap year"},
		{"UTC", 31, "2025-12-31T00:00:00Z", "2025-12-31T00:00:00Z", "2026-01-31T00:00:00Z", "2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "over the year"},
		{"Asia/Kolkata", 31, "2025-09-29T18:30:00Z", "2025-09-29T18:30:00Z", "2025-10-30T18:30:00Z", "2025-09-29T18:30:00Z", "2025-09-30T18:30:00Z", "both"},
	}
}

func recordInPeriods(t *testing.T, l *ledger) {
	for _, c := range periodCases() {
		tenant := c.zone + " " + c.at + " " + c.why
		t.Run(tenant, func(t *testing.T) {
			l := l.in(t)
			l.setTenant(noon(), store.Tenant{ID: tenant, Name: tenant, TimeZone: c.zone, BillingDay: c.billingDay})
			l.add(noon(), call(tenant, "a", instant(c.at), 3))
			s := l.standing(tenant, instant(c.at))
			equal(t, "month", s.Month, store.Period{Start: instant(c.month), End: instant(c.monthEnd)})
			equal(t, "day", s.Day, store.Period{Start: instant(c.day), End: instant(c.dayEnd)})
			equal(t, "month's totals", len(s.MonthTotals), 1)
			equal(t, "day's totals", len(s.DayTotals), 1)
			equal(t, "month's start", l.totals(tenant, store.Month)[0].Start, instant(c.month))
			equal(t, "day's start", l.totals(tenant, store.Day)[0].Start, instant(c.day))
			l.healthy(tenant)
		})
	}
}

func monthEdges(t *testing.T, l *ledger) {
	for _, c := range periodCases() {
		tenant := c.zone + " " + c.at
		l.setTenant(noon(), store.Tenant{ID: tenant, Name: tenant, TimeZone: c.zone, BillingDay: c.billingDay})
		l.add(noon(),
			call(tenant, "last before", instant(c.month).Add(-1000), 1), call(tenant, "first", instant(c.month), 2),
			call(tenant, "last", instant(c.monthEnd).Add(-1000), 4), call(tenant, "first after", instant(c.monthEnd), 8))
		s := l.standing(tenant, instant(c.at))
		equal(t, "spent in the month of "+tenant, spent(&s), 6)
		equal(t, "months of "+tenant, len(l.totals(tenant, store.Month)), 3)
		l.healthy(tenant)
	}
}

func newCalendarMovesTotals(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", instant("2026-03-31T18:29:59Z"), 1), call(acme, "b", instant("2026-03-31T18:30:00Z"), 2),
		unpriced(acme, "c", instant("2026-02-28T12:00:00Z"), 4), call(globex, "a", instant("2026-03-31T18:30:00Z"), 8))
	for _, c := range []struct {
		zone       string
		billingDay int
		spent      store.Money
	}{
		{"Asia/Kolkata", 1, 1}, {"Asia/Kolkata", 31, 3}, {"UTC", 31, 3}, {"America/New_York", 5, 3}, {"Asia/Kolkata", 1, 1}, {"UTC", 1, 3},
	} {
		l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: c.zone, BillingDay: c.billingDay})
		l.healthy(acme)
		s := l.another().standing(acme, instant("2026-03-31T12:00:00Z"))
		equal(t, "spent in "+c.zone, spent(&s), c.spent)
	}
	l.add(noon(), call(acme, "d", noon(), 16))
	l.healthy(acme)
	l.healthy(globex)
}

func newNameMovesNothing(t *testing.T, l *ledger) {
	l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 5})
	l.add(noon(), call(acme, "a", noon(), 1), call(acme, "b", instant("2026-03-04T18:30:00Z"), 2))
	month, day := l.totals(acme, store.Month), l.totals(acme, store.Day)
	l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme Corp", TimeZone: "Asia/Kolkata", BillingDay: 5, Contacts: []string{"a@acme.example"}})
	equal(t, "month", l.totals(acme, store.Month), month)
	equal(t, "day", l.totals(acme, store.Day), day)
	l.healthy(acme)
}

func tenantTotalsPeriods(t *testing.T, l *ledger) {
	at := instant("2026-03-31T19:00:00Z")
	var want []store.TenantTotals
	for _, c := range []struct{ id, zone, month, monthEnd string }{
		{"a", "Asia/Kolkata", "2026-03-31T18:30:00Z", "2026-04-30T18:30:00Z"},
		{"b", "America/New_York", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"},
		{"c", "UTC", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"},
	} {
		tenant := store.Tenant{ID: c.id, Name: c.id, TimeZone: c.zone, BillingDay: 1}
		l.setTenant(noon(), tenant)
		l.add(noon(), call(c.id, "1", noon(), 1), call(c.id, "2", at, 2))
		calendar, err := tenant.Calendar()
		l.must("calendar", err)
		records := []store.Record{call(c.id, "1", noon(), 1), call(c.id, "2", at, 2)}
		if c.id == "a" {
			records = records[1:]
		}
		tenant.CreatedAt = noon()
		want = append(want, store.TenantTotals{
			Tenant: tenant, Period: store.Period{Start: instant(c.month), End: instant(c.monthEnd)}, Totals: totalled(calendar, store.Month, records),
		})
	}
	idle := store.Tenant{ID: "d", Name: "Idle", TimeZone: "UTC", BillingDay: 31, Contacts: []string{"d@example.com"}}
	l.setTenant(noon(), idle)
	idle.CreatedAt = noon()
	want = append(want, store.TenantTotals{Tenant: idle, Period: store.Period{Start: instant("2026-03-31T00:00:00Z"), End: instant("2026-04-30T00:00:00Z")}})
	for limit := 1; limit <= 5; limit++ {
		equal(t, "tenants' totals in pages", l.tenantTotals(store.Month, at, limit), want)
	}
	equal(t, "spent today in Kolkata", l.tenantTotals(store.Day, at, 5)[0].Totals[0].Cost, 2)
}
