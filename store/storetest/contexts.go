package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func contextPromises() []promise {
	return []promise{
		{"a context that has ended stops every method with nothing written", endedContext},
		{"a deadline that has passed stops an append", passedDeadline},
	}
}

// method is a call of one of a store's methods.
type method struct {
	name string
	call func(context.Context, store.Store) error
}

// methods are all of them but Close. They act on what prepare has made, and would change it.
func methods(alertID string) []method {
	return append(writes(alertID), reads()...)
}

func writes(alertID string) []method {
	return []method{
		{"Append", func(ctx context.Context, s store.Store) error {
			_, err := s.Append(ctx, noon(), lend(settling("g", call(acme, "b", noon(), 1)), call("new 1", "a", noon(), 1)), raise(reached(99, 100)))
			return err
		}},
		{"Reprice", func(ctx context.Context, s store.Store) error {
			_, err := s.Reprice(ctx, noon(), lend(priced(unpriced(acme, "u", noon(), 7))), quiet)
			return err
		}},
		{"Hold", func(ctx context.Context, s store.Store) error {
			_, err := s.Hold(ctx, noon(), []store.Hold{hold(acme, "i", noon(), time.Hour, 1), hold("new 2", "i", noon(), time.Hour, 1)}, admit)
			return err
		}},
		{"Release", func(ctx context.Context, s store.Store) error { return s.Release(ctx, noon(), acme, "h", keep) }},
		{"SetTenant", func(ctx context.Context, s store.Store) error {
			return s.SetTenant(ctx, noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 31})
		}},
		{"Suspend", func(ctx context.Context, s store.Store) error { return s.Suspend(ctx, noon(), acme, "unpaid") }},
		{"SetQuota", func(ctx context.Context, s store.Store) error {
			_, err := s.SetQuota(ctx, noon(), store.Quota{TenantID: acme, AlertPercents: []int{1}}, raise(reached(98, 100)))
			return err
		}},
		{"ClaimAlerts", func(ctx context.Context, s store.Store) error {
			_, err := s.ClaimAlerts(ctx, noon(), time.Hour, 10)
			return err
		}},
		{"MarkAlert", func(ctx context.Context, s store.Store) error {
			_, err := s.MarkAlert(ctx, noon(), acme, alertID, store.AlertResolved)
			return err
		}},
		{"Prune", func(ctx context.Context, s store.Store) error {
			_, err := s.Prune(ctx, acme, noon().AddDate(-1, 0, 0), 10)
			return err
		}},
		{"PruneHolds", func(ctx context.Context, s store.Store) error { _, err := s.PruneHolds(ctx, acme, "", 10); return err }},
		{"Rebuild", func(ctx context.Context, s store.Store) error { return s.Rebuild(ctx, acme) }},
	}
}

func reads() []method {
	return []method{
		{"Standing", func(ctx context.Context, s store.Store) error { _, err := s.Standing(ctx, acme, noon()); return err }},
		{"Tenants", func(ctx context.Context, s store.Store) error { _, err := s.Tenants(ctx, "", 1); return err }},
		{"Record", func(ctx context.Context, s store.Store) error { _, err := s.Record(ctx, acme, "a"); return err }},
		{"Records", func(ctx context.Context, s store.Store) error {
			_, err := s.Records(ctx, store.RecordQuery{TenantID: acme, Limit: 1})
			return err
		}},
		{"Totals", func(ctx context.Context, s store.Store) error {
			_, err := s.Totals(ctx, store.TotalQuery{TenantID: acme, Window: store.Month, From: march(), To: april()})
			return err
		}},
		{"TenantTotals", func(ctx context.Context, s store.Store) error {
			_, err := s.TenantTotals(ctx, store.Month, noon(), "", 1)
			return err
		}},
		{"Alerts", func(ctx context.Context, s store.Store) error {
			_, err := s.Alerts(ctx, store.AlertQuery{Limit: 1})
			return err
		}},
		{"Verify", func(ctx context.Context, s store.Store) error { _, err := s.Verify(ctx, acme); return err }},
	}
}

// prepare fills a ledger with one row of each kind, and returns the alert's id.
func (l *ledger) prepare() string {
	l.t.Helper()
	l.take(noon(), hold(acme, "g", noon(), time.Hour, 1), hold(acme, "h", noon(), time.Hour, 1))
	outcomes := l.judged(noon(), raise(reached(80, 100)), call(acme, "a", noon(), 1), unpriced(acme, "u", noon(), 7))
	return outcomes[1].Alerts[0].ID
}

func endedContext(t *testing.T, l *ledger) {
	alertID := l.prepare()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, m := range methods(alertID) {
		t.Run(m.name, func(t *testing.T) {
			l := l.in(t)
			l.unchanged(noon(), func() {
				if err := m.call(ctx, l.Store); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want context.Canceled", err)
				}
			})
		})
	}
	for _, m := range methods(alertID) {
		l.must(m.name+" afterwards", m.call(t.Context(), l.Store))
	}
	l.healthy(acme)
}

func passedDeadline(t *testing.T, l *ledger) {
	ctx, cancel := context.WithDeadline(t.Context(), instant("2001-01-01T00:00:00Z"))
	defer cancel()
	if _, err := l.Append(ctx, noon(), lend(call(acme, "a", noon(), 1)), quiet); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want context.DeadlineExceeded", err)
	}
	equal(t, "tenants", l.tenants(), nil)
	l.add(noon(), call(acme, "a", noon(), 1))
}
