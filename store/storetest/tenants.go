package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func tenantPromises() []promise {
	return []promise{
		{"a tenant is stored as it was given, but for its suspension and creation", tenantAsGiven},
		{"setting a tenant keeps its suspension and creation", tenantKeeps},
		{"a suspension is set and lifted, and changes nothing else", tenantSuspended},
		{"a suspended tenant's calls are still logged", suspendedStillLogged},
		{"suspending a tenant that does not exist creates it", suspendCreates},
		{"an unknown time zone is refused", unknownZone},
		{"tenants are listed by id in pages", tenantsPaged},
		{"identical rows of two tenants are never mixed up", tenantsApart},
	}
}

func tenantAsGiven(t *testing.T, l *ledger) {
	want := store.Tenant{ID: "größe", Name: "Größe & Söhne", TimeZone: "Pacific/Chatham", BillingDay: 31, Contacts: []string{"b@example.com", "a@example.com", ""}}
	given := want
	given.Suspended, given.CreatedAt = "given", april()
	l.setTenant(noon(), given)
	want.CreatedAt = noon()
	equal(t, "tenants", l.another().tenants(), []store.Tenant{want})
	equal(t, "standing's tenant", l.standing(want.ID, noon()).Tenant, want)
}

func tenantKeeps(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	l.must("Suspend", l.Suspend(t.Context(), noon(), acme, "unpaid"))
	l.setQuota(noon(), someQuota(acme), quiet)
	l.setTenant(april(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 3, Contacts: []string{"a@acme.example"}})
	l.setTenant(april(), store.Tenant{ID: acme, Name: "Acme Corp", TimeZone: "Asia/Kolkata", BillingDay: 4})
	equal(t, "tenants", l.tenants(), []store.Tenant{
		{ID: acme, Name: "Acme Corp", TimeZone: "Asia/Kolkata", BillingDay: 4, Suspended: "unpaid", CreatedAt: noon()},
	})
	equal(t, "quota", l.standing(acme, noon()).Quota, someQuota(acme))
}

func tenantSuspended(t *testing.T, l *ledger) {
	tenant := store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 3, Contacts: []string{"a@acme.example"}}
	l.setTenant(noon(), tenant)
	l.setTenant(noon(), store.Tenant{ID: globex, Name: "Globex", TimeZone: "UTC", BillingDay: 1})
	tenant.CreatedAt = noon()
	for _, reason := range []string{"unpaid", "misuse, см. тикет", "misuse, см. тикет", ""} {
		l.must("Suspend", l.Suspend(t.Context(), april(), acme, reason))
		tenant.Suspended = reason
		equal(t, "tenant", l.another().tenant(acme), tenant)
		equal(t, "standing's tenant", l.standing(acme, noon()).Tenant, tenant)
		equal(t, "another tenant's suspension", l.tenant(globex).Suspended, "")
	}
}

func suspendedStillLogged(t *testing.T, l *ledger) {
	l.must("Suspend", l.Suspend(t.Context(), noon(), acme, "unpaid"))
	l.add(noon(), call(acme, "a", noon(), 1))
	suspended := refusing(func(s *store.Standing, _ *store.Hold) error {
		if s.Tenant.Suspended == "unpaid" {
			return errRefused
		}
		return nil
	})
	if err := l.ask(noon(), suspended, hold(acme, "h", noon(), time.Hour, 1))[0]; !errors.Is(err, errRefused) {
		t.Errorf("hold of a suspended tenant: %v, want the refusal by decide", err)
	}
	l.healthy(acme)
}

func suspendCreates(t *testing.T, l *ledger) {
	l.must("Suspend", l.Suspend(t.Context(), noon(), acme, "unpaid"))
	want := defaults(acme, noon())
	want.Suspended = "unpaid"
	equal(t, "tenants", l.tenants(), []store.Tenant{want})
}

func unknownZone(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	l.unchanged(noon(), func() {
		for _, tenant := range []store.Tenant{
			{ID: acme, Name: "Acme", TimeZone: "Mars/Olympus", BillingDay: 1},
			{ID: globex, Name: "Globex", TimeZone: "Local", BillingDay: 1},
			{ID: globex, Name: "Globex", TimeZone: "UTC", BillingDay: 32},
		} {
			if err := l.SetTenant(t.Context(), noon(), tenant); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("zone %q, day %d: %v, want ErrInvalid", tenant.TimeZone, tenant.BillingDay, err)
			}
		}
	})
}

// ids are tenants' in the order of their bytes.
func ids() []string { return []string{" ", "A", "B", "a", "a b", "aa", "b", "ä", "日本"} }

func tenantsPaged(t *testing.T, l *ledger) {
	for i := range ids() {
		id := ids()[(i*4)%len(ids())]
		l.add(noon(), call(id, "a", noon(), int64(i)))
	}
	for limit := 1; limit <= len(ids())+1; limit++ {
		var got []string
		for after, more := "", true; more; {
			page, err := l.Tenants(t.Context(), after, limit)
			l.must("Tenants", err)
			if len(page) > limit || len(got) > len(ids()) {
				t.Fatalf("page of %d tenants, %d in all, with a limit of %d", len(page), len(got), limit)
			}
			for _, tenant := range page {
				got, after = append(got, tenant.ID), tenant.ID
			}
			more = len(page) == limit
		}
		equal(t, fmt.Sprintf("tenants in pages of %d", limit), got, ids())
		totals := l.tenantTotals(store.Month, noon(), limit)
		got = nil
		for _, tenant := range totals {
			got = append(got, tenant.Tenant.ID)
			equal(t, "models of "+tenant.Tenant.ID, len(tenant.Totals), 1)
		}
		equal(t, fmt.Sprintf("tenants' totals in pages of %d", limit), got, ids())
	}
}

// tenantTotals lists the totals of all tenants in pages.
func (l *ledger) tenantTotals(w store.Window, at time.Time, limit int) (all []store.TenantTotals) {
	l.t.Helper()
	for after := ""; ; after = all[len(all)-1].Tenant.ID {
		page, err := l.TenantTotals(l.t.Context(), w, at, after, limit)
		l.must("TenantTotals", err)
		if len(page) > limit || len(all) > everything {
			l.t.Fatalf("page of %d tenants, %d in all, with a limit of %d", len(page), len(all), limit)
		}
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
	}
}

// tenantsApart gives two tenants rows that differ in nothing but the tenant and an amount.
func tenantsApart(t *testing.T, l *ledger) {
	tenants := []string{acme, globex}
	for i, tenant := range tenants {
		at := noon().Add(time.Duration(i) * time.Minute)
		l.setQuota(noon(), store.Quota{TenantID: tenant, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: int64(i)}}}, quiet)
		l.take(noon(), hold(tenant, "h", noon(), time.Hour, 1), hold(tenant, "live", noon(), time.Hour, int64(10+i)))
		l.judged(at, raise(reached(80, int64(i))), settling("h", call(tenant, "a", noon(), int64(1+i))), call(tenant, "b", noon(), int64(3+i)), unpriced(tenant, "c", noon(), 1))
	}
	for i, tenant := range tenants {
		s := l.standing(tenant, noon())
		equal(t, "spent", spent(&s), store.Money(4+2*i))
		equal(t, "held", heldCost(&s), store.Money(10+i))
		equal(t, "limit", s.Quota.Limits[0].Max, int64(i))
		equal(t, "alert", s.Alerts[0].Max, int64(i))
		equal(t, "alerts listed", len(l.alerts(tenant)), 1)
		for _, r := range l.records(tenant) {
			equal(t, "tenant of a record", r.TenantID, tenant)
		}
		equal(t, "records", recordIDs(l.records(tenant)), []string{"a", "b", "c"})
		equal(t, "cost", l.record(tenant, "a").Cost, store.Money(1+i))
		l.healthy(tenant)
	}
	l.must("Release", l.Release(t.Context(), noon(), acme, "live", keep))
	l.repriced(priced(unpriced(acme, "c", noon(), 1)))
	equal(t, "globex's holds", heldIDs(l.standing(globex, noon())), []string{"live"})
	equal(t, "globex's unpriced", l.record(globex, "c").Unpriced, "model has no price")
	l.healthy(globex)
}
