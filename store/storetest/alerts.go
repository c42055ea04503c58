package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func alertPromises() []promise {
	return []promise{
		{"an alert is stored as it was raised", alertAsRaised},
		{"alerts are numbered for each tenant in the order in which they were raised", alertsNumbered},
		{"an alert is raised once for its key", alertOnce},
		{"whatever differs in the key is another alert", alertKeys},
		{"alerts are given once, with the tenant's last added record", alertsWithLastRecord},
		{"racing appends raise an alert once", racingAlerts},
		{"an alert only moves forward, and keeps its times", alertMovesForward},
		{"an alert may skip a state, which then has no time", alertSkips},
		{"an alert that does not exist is not found", alertNotFound},
		{"alerts are listed by time, tenant and number, with filters", alertsListed},
		{"alerts are paged with nothing twice and nothing left out", alertsPaged},
	}
}

// raised is an alert as the store completes it, the n-th of its tenant.
func raised(a store.Alert, tenant string, at time.Time, n int64) store.Alert {
	a.TenantID, a.ID, a.Number, a.Status, a.RaisedAt = tenant, a.AlertID(tenant), n, store.AlertPending, at
	return a
}

func percents(alerts []*store.Alert) (list []int) {
	for _, a := range alerts {
		list = append(list, a.Percent)
	}
	slices.Sort(list)
	return list
}

func alertAsRaised(t *testing.T, l *ledger) {
	full := store.Alert{
		AlertKey: store.AlertKey{Kind: store.Unpriced, Provider: "größe", Model: "模型", Meter: "tokens", Per: store.Day,
			Max: 1 << 62, Percent: 120, PeriodStart: instant("2026-03-10T00:00:00Z")},
		PeriodEnd: instant("2026-03-11T00:00:00Z"), Used: 1<<62 + 1, Preexisting: true, Reason: "model has no price",
	}
	meddling := full
	meddling.TenantID, meddling.ID, meddling.Number, meddling.Status, meddling.RaisedAt = globex, "mine", 7, store.AlertResolved, april()
	meddling.SentAt, meddling.AcknowledgedAt, meddling.ResolvedAt = april(), april(), april()
	got := l.judged(noon(), raise(meddling), call(acme, "a", noon(), 1))[0].Alerts
	equal(t, "alert", got, []store.Alert{raised(full, acme, noon(), 1)})
	equal(t, "stored alerts", l.another().alerts(acme), got)
	equal(t, "standing's alerts", l.standing(acme, noon()).Alerts, pointers(got))
}

func alertsNumbered(t *testing.T, l *ledger) {
	for i, id := range []string{"a", "b"} {
		first, second := reached(90-i, 100), reached(10+i, 100)
		l.judged(noon(), raise(first, first, second), call(globex, id, noon(), 1), call(acme, id, noon(), 1))
	}
	l.judged(noon().Add(-time.Hour), raise(reached(50, 100)), call(acme, "c", noon(), 1))
	var got []string
	for _, a := range l.alerts("") {
		got = append(got, fmt.Sprint(a.TenantID, a.Number, ":", a.Percent))
	}
	equal(t, "alerts", got, []string{
		"acme5:50", "acme1:90", "acme2:10", "acme3:89", "acme4:11", "globex1:90", "globex2:10", "globex3:89", "globex4:11",
	})
}

func alertOnce(t *testing.T, l *ledger) {
	twice := raise(reached(80, 100), reached(80, 100))
	first := l.judged(noon(), twice, call(acme, "a", noon(), 1))[0].Alerts
	equal(t, "alerts", len(first), 1)
	_, err := l.MarkAlert(t.Context(), noon(), acme, first[0].ID, store.AlertResolved)
	l.must("MarkAlert", err)
	more := reached(80, 100)
	more.Used, more.PeriodEnd = 500, april().Add(time.Hour)
	equal(t, "alerts again", l.judged(noon(), raise(more), call(acme, "b", noon(), 1))[0].Alerts, nil)
	equal(t, "alerts again", l.another().judged(april(), raise(more), call(acme, "c", noon(), 1))[0].Alerts, nil)
	equal(t, "alerts of the quota", l.setQuota(noon(), store.Quota{TenantID: acme}, raise(more)), nil)
	equal(t, "stored alerts", len(l.alerts(acme)), 1)
	equal(t, "another tenant's", len(l.judged(noon(), twice, call(globex, "a", noon(), 1))[0].Alerts), 1)
}

func alertKeys(t *testing.T, l *ledger) {
	l.judged(noon(), raise(reached(80, 100)), call(acme, "first", noon(), 1))
	n := int64(1)
	for name, change := range map[string]func(*store.Alert){
		"kind":     func(a *store.Alert) { a.Kind = store.CostWarning },
		"provider": func(a *store.Alert) { a.Provider = "OpenAI" },
		"model":    func(a *store.Alert) { a.Model = "gpt-4" },
		"meter":    func(a *store.Alert) { a.Meter = "cost" },
		"window":   func(a *store.Alert) { a.Per = store.Day },
		"maximum":  func(a *store.Alert) { a.Max = 200 },
		"percent":  func(a *store.Alert) { a.Percent = 100 },
		"period":   func(a *store.Alert) { a.PeriodStart, a.PeriodEnd = april(), april().AddDate(0, 1, 0) },
	} {
		other := reached(80, 100)
		change(&other)
		n++
		got := l.judged(noon(), raise(reached(80, 100), other), call(acme, name, noon(), 1))[0].Alerts
		equal(t, "alerts of another "+name, got, []store.Alert{raised(other, acme, noon(), n)})
	}
	equal(t, "alerts", len(l.alerts(acme)), 9)
}

func alertsWithLastRecord(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "old", noon(), 1))
	outcomes := l.judged(noon(), raise(reached(80, 100), reached(100, 100)),
		call(acme, "a", noon(), 1), call(globex, "a", noon(), 1), call(acme, "b", noon(), 1), call(acme, "old", noon(), 1), call(acme, "a", noon(), 2))
	var counts []int
	for _, o := range outcomes {
		counts = append(counts, len(o.Alerts))
		for _, a := range o.Alerts {
			equal(t, "tenant of an alert", a.TenantID, o.Record.TenantID)
		}
	}
	equal(t, "alerts of each record", counts, []int{0, 2, 2, 0, 0})
}

func racingAlerts(t *testing.T, l *ledger) {
	const goroutines, each = 8, 4
	handles := []*ledger{l, l.another()}
	var given atomic.Int64
	together(t, goroutines, func(i int) error {
		for j := range each {
			outcomes, err := handles[i%2].Append(t.Context(), noon(), lend(call(acme, fmt.Sprint(i, "-", j), noon(), 1)), raise(reached(80, 100)))
			if err != nil {
				return err
			}
			given.Add(int64(len(outcomes[0].Alerts)))
		}
		return nil
	})
	equal(t, "alerts given", given.Load(), 1)
	equal(t, "alerts stored", len(l.alerts(acme)), 1)
}

func alertMovesForward(t *testing.T, l *ledger) {
	want := l.judged(noon(), raise(reached(80, 100)), call(acme, "a", noon(), 1))[0].Alerts[0]
	other := l.another()
	mark := func(minute int, status store.AlertStatus) {
		t.Helper()
		got, err := l.MarkAlert(t.Context(), noon().Add(time.Duration(minute)*time.Minute), acme, want.ID, status)
		l.must("MarkAlert", err)
		equal(t, "alert marked "+string(status), got, want)
		equal(t, "stored alert", other.alerts(acme), []store.Alert{want})
	}
	mark(1, store.AlertPending)
	want.Status, want.SentAt = store.AlertSent, noon().Add(2*time.Minute)
	mark(2, store.AlertSent)
	mark(3, store.AlertSent)
	mark(4, store.AlertPending)
	want.Status, want.AcknowledgedAt = store.AlertAcknowledged, noon().Add(5*time.Minute)
	mark(5, store.AlertAcknowledged)
	mark(6, store.AlertSent)
	want.Status, want.ResolvedAt = store.AlertResolved, noon().Add(7*time.Minute)
	mark(7, store.AlertResolved)
	mark(8, store.AlertAcknowledged)
	mark(9, store.AlertResolved)
}

func alertSkips(t *testing.T, l *ledger) {
	want := l.judged(noon(), raise(reached(80, 100)), call(acme, "a", noon(), 1))[0].Alerts[0]
	got, err := l.MarkAlert(t.Context(), april(), acme, want.ID, store.AlertResolved)
	l.must("MarkAlert", err)
	want.Status, want.ResolvedAt = store.AlertResolved, april()
	equal(t, "alert", got, want)
}

func alertNotFound(t *testing.T, l *ledger) {
	alert := l.judged(noon(), raise(reached(80, 100)), call(acme, "a", noon(), 1))[0].Alerts[0]
	l.add(noon(), call(globex, "a", noon(), 1))
	l.unchanged(noon(), func() {
		for _, key := range [][2]string{{acme, "none"}, {acme, ""}, {globex, alert.ID}, {"nobody", alert.ID}} {
			if _, err := l.MarkAlert(t.Context(), noon(), key[0], key[1], store.AlertSent); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("alert %q of %q: %v, want ErrNotFound", key[1], key[0], err)
			}
		}
	})
}

// someAlerts raises ten alerts at five times: at each, one of each of two tenants.
func (l *ledger) someAlerts() []store.Alert {
	l.t.Helper()
	l.add(noon(), call(globex, "first", noon(), 1)) // a store may number its tenants, and those numbers order nothing
	for i := range 5 {
		alert := reached(i, 100)
		if i%2 == 1 {
			alert.Kind, alert.Provider = store.CostWarning, "elevenlabs"
		}
		at := noon().Add(time.Duration(i) * time.Minute)
		l.judged(at, raise(alert), call(globex, fmt.Sprint(i), at, 1), call(acme, fmt.Sprint(i), at, 1))
	}
	return l.alerts("")
}

func names(alerts []store.Alert) (list []string) {
	for _, a := range alerts {
		list = append(list, fmt.Sprint(a.TenantID, a.Percent))
	}
	return list
}

func alertsListed(t *testing.T, l *ledger) {
	all := l.someAlerts()
	equal(t, "alerts", names(all), []string{"acme0", "globex0", "acme1", "globex1", "acme2", "globex2", "acme3", "globex3", "acme4", "globex4"})
	_, err := l.MarkAlert(t.Context(), april(), globex, all[3].ID, store.AlertSent)
	l.must("MarkAlert", err)
	minute := func(n int) time.Time { return noon().Add(time.Duration(n) * time.Minute) }
	for _, c := range []struct {
		query store.AlertQuery
		want  []string
	}{
		{store.AlertQuery{TenantID: acme}, []string{"acme0", "acme1", "acme2", "acme3", "acme4"}},
		{store.AlertQuery{TenantID: "nobody"}, nil},
		{store.AlertQuery{Kind: store.CostWarning}, []string{"acme1", "globex1", "acme3", "globex3"}},
		{store.AlertQuery{TenantID: globex, Provider: "openai"}, []string{"globex0", "globex2", "globex4"}},
		{store.AlertQuery{Status: store.AlertSent}, []string{"globex1"}},
		{store.AlertQuery{Status: store.AlertPending, Kind: store.CostWarning}, []string{"acme1", "acme3", "globex3"}},
		{store.AlertQuery{From: minute(3)}, []string{"acme3", "globex3", "acme4", "globex4"}},
		{store.AlertQuery{From: minute(1), To: minute(2)}, []string{"acme1", "globex1"}},
		{store.AlertQuery{To: minute(1), TenantID: acme}, []string{"acme0"}},
	} {
		c.query.Limit = everything
		got, err := l.Alerts(t.Context(), c.query)
		l.must("Alerts", err)
		equal(t, fmt.Sprintf("alerts of %+v", c.query), names(got), c.want)
	}
}

func alertsPaged(t *testing.T, l *ledger) {
	all := l.someAlerts()
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []store.Alert
		for query := (store.AlertQuery{Limit: limit}); ; {
			page, err := l.Alerts(t.Context(), query)
			l.must("Alerts", err)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			if len(page) > limit || len(got) > len(all) {
				t.Fatalf("page of %d alerts, %d in all, with a limit of %d", len(page), len(got), limit)
			}
			last := page[len(page)-1]
			query.After = &store.AlertPosition{RaisedAt: last.RaisedAt, TenantID: last.TenantID, Number: last.Number}
		}
		equal(t, fmt.Sprintf("alerts in pages of %d", limit), got, all)
	}
}
