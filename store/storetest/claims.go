package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func claimPromises() []promise {
	return []promise{
		{"a claim takes the oldest pending alerts and leases them", claimOldest},
		{"a leased alert is not claimed again before its lease ends", claimLease},
		{"an alert that was marked is not claimed", claimMarked},
		{"racing claimers never get the same alert", racingClaims},
	}
}

func (l *ledger) claim(now time.Time, limit int) []store.Alert {
	l.t.Helper()
	alerts, err := l.ClaimAlerts(l.t.Context(), now, time.Minute, limit)
	l.must("ClaimAlerts", err)
	return alerts
}

func claimOldest(t *testing.T, l *ledger) {
	now := noon().Add(time.Hour)
	equal(t, "claim of nothing", l.claim(now, 5), nil)
	all := l.someAlerts()
	for i := range all {
		all[i].ClaimedUntil = now.Add(time.Minute)
	}
	equal(t, "first claim", l.claim(now, 3), all[:3])
	equal(t, "second claim", l.another().claim(now, 3), all[3:6])
	equal(t, "third claim", l.claim(now, 100), all[6:])
	equal(t, "fourth claim", l.claim(now, 100), nil)
	equal(t, "alerts", l.alerts(""), all)
}

func claimLease(t *testing.T, l *ledger) {
	all := l.someAlerts()
	now := noon().Add(time.Hour)
	l.claim(now, 4)
	now = now.Add(time.Minute - time.Microsecond)
	equal(t, "claim within the lease", names(l.claim(now, 100)), names(all[4:]))
	now = now.Add(2 * time.Microsecond)
	equal(t, "claim after the lease", names(l.another().claim(now, 100)), names(all[:4]))
	equal(t, "claim within both leases", l.claim(now, 100), nil)
	equal(t, "claim after all leases", names(l.claim(now.Add(time.Hour), 100)), names(all))
}

func claimMarked(t *testing.T, l *ledger) {
	all := l.someAlerts()
	now := noon().Add(time.Hour)
	claimed := l.claim(now, 2)
	_, err := l.MarkAlert(t.Context(), now, claimed[0].TenantID, claimed[0].ID, store.AlertSent)
	l.must("MarkAlert", err)
	_, err = l.MarkAlert(t.Context(), now, all[4].TenantID, all[4].ID, store.AlertAcknowledged)
	l.must("MarkAlert", err)
	want := append(names(all[1:4]), names(all[5:])...)
	equal(t, "claim after the lease", names(l.claim(now.Add(time.Hour), 100)), want)
}

func racingClaims(t *testing.T, l *ledger) {
	all := l.someAlerts()
	handles := []*ledger{l, l.another()}
	var mu sync.Mutex
	claimed := map[string]int{}
	together(t, 6, func(i int) error {
		for range all {
			alerts, err := handles[i%2].ClaimAlerts(t.Context(), april(), time.Minute, 2)
			if err != nil || len(alerts) == 0 {
				return err
			}
			mu.Lock()
			for _, a := range alerts {
				claimed[fmt.Sprint(a.TenantID, " ", a.ID)]++
			}
			mu.Unlock()
		}
		return nil
	})
	equal(t, "alerts claimed", len(claimed), len(all))
	for alert, times := range claimed {
		equal(t, "claims of "+alert, times, 1)
	}
}
