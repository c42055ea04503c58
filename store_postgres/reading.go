package storepostgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/acf68eca/usage/store"
)

// load reads what is not remembered of the tenants that are locked, as reading does, and what is queued already.
func (t *tx) load(ctx context.Context, instants map[string][]time.Time) error {
	t.changing = true
	for {
		r := t.queueMissing(t.tenants, instants)
		if t.quick {
			if r.any {
				return errAsk
			}
			return nil
		}
		if err := t.send(ctx); err != nil {
			return err
		}
		if err := t.put(ctx, r); err != nil || !r.unfinished {
			return err
		}
	}
}

// reading is what is being read of tenants: the totals of the periods of now and of some instants of each, the live holds,
// the arrivals and the current alerts.
type reading struct {
	tenants      map[string]*tenant
	any          bool // whether something is
	unfinished   bool // whether something has to be read in another way
	days         []periodKey
	monthRows    []monthRow
	dayRows      []dayRow
	holdRows     []holdRow
	changed      []string // of whose holds only those are read that were changed
	changedHolds []holdRow
	arrivalRows  []arrivalRow
	alertRows    []alertRow
}

// queueMissing asks for what is not remembered of tenants. From then on it counts as remembered: put has to follow.
func (t *tx) queueMissing(of map[string]*tenant, instants map[string][]time.Time) *reading {
	r := &reading{tenants: of}
	months, revisions, days := t.missingPeriods(of, instants)
	holders, changed, since := t.missingHolds(of)
	limited, alerted := missingArrivals(of), t.missingAlerts(of)
	r.any = len(months)+len(days)+len(holders)+len(changed)+len(limited)+len(alerted) > 0
	r.days, r.changed = days, changed
	if t.quick {
		return r
	}
	for _, n := range of {
		n.outdated = false
	}
	if len(months) > 0 {
		tenants, starts := lists(months)
		t.queue(&r.monthRows, selectMonthsOf, tenants, starts, revisions)
	}
	if len(days) > 0 {
		tenants, starts := lists(days)
		t.queue(&r.dayRows, selectDaysOf, tenants, starts)
	}
	if len(holders) > 0 {
		t.queue(&r.holdRows, selectOpenHolds, holders, t.now)
	}
	if len(changed) > 0 {
		t.queue(&r.changedHolds, selectHoldsSince, changed, since, t.now, mostChanged)
	}
	if len(limited) > 0 {
		t.queue(&r.arrivalRows, selectTenantArrivals, limited)
	}
	if len(alerted) > 0 {
		t.queue(&r.alertRows, selectTenantAlerts, alerted, t.now, sql.NullTime{})
	}
	return r
}

// put takes what was read.
func (t *tx) put(ctx context.Context, r *reading) error {
	if err := t.putMonths(ctx, r); err != nil {
		return err
	}
	if err := t.putDays(ctx, r); err != nil {
		return err
	}
	for i := range r.arrivalRows {
		n := r.tenants[r.arrivalRows[i].Tenant]
		n.arrivals = append(n.arrivals, r.arrivalRows[i].arrival())
	}
	for i := range r.alertRows {
		n := r.tenants[r.alertRows[i].Tenant]
		n.alerts = append(n.alerts, r.alertRows[i].alert())
	}
	return t.putHolds(ctx, r)
}

// missingPeriods are the months and days, of now and of the instants, that are not remembered, or not as others have left
// them since, and the revisions after which months are to be read. What an outdated tenant has of other months is forgotten.
func (t *tx) missingPeriods(
	of map[string]*tenant, instants map[string][]time.Time,
) (months []periodKey, revisions []int64, days []periodKey) {
	for id, n := range of {
		n.trim()
		var old map[int64]*period
		if n.outdated {
			old, n.months = n.months, make(map[int64]*period)
		}
		for _, at := range append(instants[id], t.now) {
			month, known := n.monthAt(at)
			if !known {
				revision := int64(0)
				if before := old[month.Start.UnixMicro()]; before != nil {
					*month, revision = *before, n.readAt
				}
				months, revisions = append(months, periodKey{id, month.Start}), append(revisions, revision)
			}
			if day, _, known := n.dayAt(at); !known {
				days = append(days, periodKey{id, day.Start})
			}
		}
	}
	return months, revisions, days
}

// missingAlerts are the tenants whose alerts are not remembered, or only from a later instant on.
func (t *tx) missingAlerts(of map[string]*tenant) (tenants []string) {
	for id, n := range of {
		if !n.read.alerts || t.now.Before(n.alertsFrom) {
			n.alerts, n.alertsFrom, n.read.alerts = nil, t.now, true
			tenants = append(tenants, id)
		}
	}
	return tenants
}

func (t *tx) putMonths(ctx context.Context, r *reading) error {
	months, err := t.store.months(ctx, t, r.monthRows)
	for _, month := range months {
		r.tenants[month.TenantID].months[month.Start.UnixMicro()].add(month)
	}
	return err
}

// putDays takes days that have rows of their own, and those that are the last of their month from there.
func (t *tx) putDays(ctx context.Context, r *reading) error {
	days, err := t.store.totals(ctx, t, store.Day, r.dayRows)
	if err != nil {
		return err
	}
	for _, row := range days {
		day, _, _ := r.tenants[row.TenantID].dayAt(row.Start)
		day.add(row)
	}
	for _, key := range r.days {
		day, month, _ := r.tenants[key.tenant].dayAt(key.start)
		for _, of := range month.byModel {
			if of.lastDay.Start.Equal(key.start) {
				day.add(of.lastDay)
			}
		}
	}
	return nil
}
