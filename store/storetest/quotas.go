package storetest

import (
	"math"
	"testing"

	"github.com/acf68eca/usage/store"
)

func quotaPromises() []promise {
	return []promise{
		{"a quota is stored as it was given", quotaAsGiven},
		{"a new quota replaces the one before", quotaReplaced},
		{"a quota of a tenant that does not exist creates it", quotaCreatesTenant},
		{"setting a quota asks judge about the standing it leads to", quotaJudged},
		{"alerts of a quota are returned and raised once", quotaAlertsOnce},
	}
}

func someQuota(tenant string) store.Quota {
	return store.Quota{TenantID: tenant, AlertPercents: []int{80, 50, 100}, Limits: []store.Limit{
		{Provider: "openai", Model: "模型", Meter: "tokens", Per: store.Day, Max: math.MaxInt64, Soft: true},
		{Meter: "cost", Per: store.Month, Max: 1},
		{Provider: "openai", Meter: "requests", Per: store.Month},
		{Meter: "calls", Per: store.Minute, Max: 60, Burst: 5},
	}}
}

func quotaAsGiven(t *testing.T, l *ledger) {
	l.setQuota(noon(), someQuota(acme), quiet)
	equal(t, "quota", l.another().standing(acme, noon()).Quota, someQuota(acme))
	equal(t, "another tenant's quota", l.standing(globex, noon()).Quota, store.Quota{})
}

func quotaReplaced(t *testing.T, l *ledger) {
	l.setQuota(noon(), someQuota(acme), quiet)
	l.setQuota(noon(), someQuota(globex), quiet)
	smaller := store.Quota{TenantID: acme, AlertPercents: []int{90}, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: 2}}}
	l.setQuota(noon(), smaller, quiet)
	equal(t, "quota", l.standing(acme, noon()).Quota, smaller)
	l.setQuota(noon(), store.Quota{TenantID: acme}, quiet)
	equal(t, "no quota", l.standing(acme, noon()).Quota, store.Quota{})
	equal(t, "another tenant's quota", l.standing(globex, noon()).Quota, someQuota(globex))
}

func quotaCreatesTenant(t *testing.T, l *ledger) {
	l.setQuota(noon(), someQuota(acme), quiet)
	equal(t, "tenants", l.tenants(), []store.Tenant{defaults(acme, noon())})
}

func quotaJudged(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 7), call(acme, "b", march().Add(-1), 1))
	var asked int
	l.setQuota(noon(), someQuota(acme), func(s *store.Standing, added []*store.Record) store.Judgement {
		asked++
		equal(t, "quota", s.Quota, someQuota(acme))
		equal(t, "tenant", s.Tenant, defaults(acme, noon()))
		equal(t, "spent", spent(s), 7)
		equal(t, "added", len(added), 0)
		return store.Judgement{}
	})
	equal(t, "times judge was asked", asked, 1)
}

func quotaAlertsOnce(t *testing.T, l *ledger) {
	now, later := reached(80, 100), reached(100, 100)
	now.Preexisting = true
	got := l.setQuota(noon(), someQuota(acme), raise(now))
	equal(t, "alerts", got, []store.Alert{raised(now, acme, noon(), 1)})
	equal(t, "stored alerts", l.another().alerts(acme), got)
	got = l.setQuota(noon(), someQuota(acme), raise(now, later))
	equal(t, "new alerts", got, []store.Alert{raised(later, acme, noon(), 2)})
	equal(t, "stored alerts", len(l.alerts(acme)), 2)
}
