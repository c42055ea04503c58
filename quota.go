package usage

import (
	"context"
	"math/bits"

	"github.com/acf68eca/usage/store"
)

// SetQuota replaces a tenant's limits and thresholds. An unknown tenant is created. A threshold that this period's usage
// has passed already raises its alert at once, marked Preexisting. The error is an *InvalidError or the store's.
func (t *Tracker) SetQuota(ctx context.Context, quota Quota) error {
	row, err := quota.row()
	if err != nil {
		return err
	}
	w := t.standings.witness()
	raised, err := t.store.SetQuota(ctx, t.now(), row, w.judgeQuota)
	w.done(err)
	t.alerts.add(raised)
	return err
}

// Quota returns a tenant's quota: one without limits when none was set.
func (t *Tracker) Quota(ctx context.Context, tenantID string) (Quota, error) {
	if err := checkTenant(tenantID); err != nil {
		return Quota{}, err
	}
	standing, err := t.store.Standing(ctx, tenantID, t.now())
	if err != nil {
		return Quota{}, err
	}
	quota := Quota{TenantID: tenantID, AlertPercents: standing.Quota.AlertPercents}
	for _, limit := range standing.Quota.Limits {
		quota.Limits = append(quota.Limits, limitOf(limit))
	}
	return quota, nil
}

// applies reports whether a limit counts a call of a model. A limit on a model counts its dated snapshots too, which is
// the name that providers return for it.
func applies(l *store.Limit, provider, model string) bool {
	return (l.Provider == "" || l.Provider == provider) && (l.Model == "" || isOf(l.Model, model))
}

// isOf reports whether a model is the one that is limited, or a dated snapshot of it.
func isOf(limited, model string) bool {
	return limited == model || len(limited)+len(snapshot) == len(model) && limited == withoutSnapshot(model)
}

func used(s *store.Standing, l *store.Limit) int64 {
	if l.Per == Day {
		return addUpTotals(s.DayTotals, l)
	}
	return addUpTotals(s.MonthTotals, l)
}

// addUpTotals is what some totals make up of what a limit counts.
func addUpTotals(totals []*store.Total, l *store.Limit) (sum int64) {
	all := l.Provider == "" && l.Model == ""
	for _, total := range totals {
		if all || applies(l, total.Provider, total.Model) {
			sum = addUp(sum, usedOf(l.Meter, total))
		}
	}
	return sum
}

func periodOf(s *store.Standing, w Window) Period {
	if w == Day {
		return s.Day
	}
	return s.Month
}

// unpricedAlerts are those of the models without a price that were added: one for each model in a month. A late call is
// told in the month in which it came, for that it has no price can still be mended.
func unpricedAlerts(s *store.Standing, added []*store.Record) (alerts []store.Alert) {
	for _, record := range added {
		if record.Unpriced == "" {
			continue
		}
		key := store.AlertKey{
			Kind: AlertUnpriced, Provider: record.Provider, Model: record.Model, Per: Month, PeriodStart: s.Month.Start,
		}
		if !raised(s, key) {
			alerts = append(alerts, store.Alert{AlertKey: key, PeriodEnd: s.Month.End, Reason: record.Unpriced})
		}
	}
	return alerts
}

// reached is the rule of thresholds: an alert for each one of a limit that the current period's usage has reached. A late
// call changes the totals of its own period, which are not the ones looked at here. Rates have no thresholds.
func reached(s *store.Standing, preexisting bool) (alerts []store.Alert) {
	if len(s.Quota.AlertPercents) == 0 {
		return nil
	}
	isRaised := raisedIn(s)
	for i := range s.Quota.Limits {
		limit := &s.Quota.Limits[i]
		if limit.Per.IsRate() {
			continue
		}
		used, period := used(s, limit), periodOf(s, limit.Per)
		for _, percent := range s.Quota.AlertPercents {
			if !passes(used, limit.Max, percent) {
				break // they are sorted
			}
			key := store.AlertKey{
				Kind: kindOf(limit, percent), Provider: limit.Provider, Model: limit.Model, Meter: limit.Meter,
				Per: limit.Per, Max: limit.Max, Percent: percent, PeriodStart: period.Start,
			}
			if !isRaised(key) {
				alerts = append(alerts, store.Alert{AlertKey: key, PeriodEnd: period.End, Used: used, Preexisting: preexisting})
			}
		}
	}
	return alerts
}

// raisedIn is raised for all thresholds of all limits. To look through many alerts for each of them would take the longest of
// all that is done for a call.
func raisedIn(s *store.Standing) func(store.AlertKey) bool {
	const few = 16
	if len(s.Alerts) <= few {
		return func(key store.AlertKey) bool { return raised(s, key) }
	}
	keys := make(map[store.AlertKey]bool)
	for _, alert := range s.Alerts {
		if alert.Kind != AlertUnpriced && alert.Kind != AlertRateLimit {
			keys[alert.AlertKey] = true
		}
	}
	return func(key store.AlertKey) bool { return keys[key] }
}

// passes reports whether used is at least percent of limit. Of a limit of nothing, the first use is.
func passes(used, limit int64, percent int) bool {
	usedHigh, usedLow := bits.Mul64(uint64(used), 100)
	limitHigh, limitLow := bits.Mul64(uint64(limit), uint64(percent))
	return used > 0 && (usedHigh > limitHigh || usedHigh == limitHigh && usedLow >= limitLow)
}

func kindOf(l *store.Limit, percent int) AlertKind {
	switch {
	case percent >= 100:
		return AlertQuotaExceeded
	case l.Meter == Cost:
		return AlertCostWarning
	}
	return AlertQuotaWarning
}

func raised(s *store.Standing, key store.AlertKey) bool {
	for _, alert := range s.Alerts {
		if alert.AlertKey == key {
			return true
		}
	}
	return false
}
