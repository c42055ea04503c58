package storepostgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/acf68eca/usage/store"
)

// cache is what this process remembers of tenants: their rows and standings as its last transaction left them. Each
// transaction that locks a tenant gives its row a new random version, so an entry is right if, and only if, the version
// that the next lock finds is the entry's own. A transaction takes the entries of its tenants out, changes them, and
// puts them back before it commits: if the commit fails, no lock will ever find their version.
//
// It is safe for concurrent use; an entry has one owner at a time.
type cache struct {
	mu      sync.Mutex
	tenants map[string]*tenant
}

// maxTenants bounds the tenants in the cache; a standing is a few kilobytes.
const maxTenants = 8192

func newCache() *cache { return &cache{tenants: make(map[string]*tenant)} }

// take takes a tenant out if its entry is of this version, and returns nil if not.
func (c *cache) take(id string, version int64) *tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.tenants[id]
	if n == nil || n.version != version {
		return nil
	}
	delete(c.tenants, id)
	return n
}

func (c *cache) put(tenants map[string]*tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, n := range tenants {
		if len(c.tenants) >= maxTenants {
			clear(c.tenants)
		}
		if !n.stale {
			c.tenants[id] = n
		}
	}
}

// newVersion returns a number that nobody else will draw. It is not 0, which no entry has.
func newVersion() int64 {
	var b [8]byte
	rand.Read(b[:]) //nolint:errcheck // it never fails
	return int64(binary.NativeEndian.Uint64(b[:])>>1) + 1
}

// tenant is a tenant under its lock.
type tenant struct {
	version int64
	// stale says that the row was changed by this transaction in other ways than the entry was.
	stale    bool
	row      store.Tenant
	quota    store.Quota
	calendar store.Calendar
	// The periods last asked for: most calls lie in the same ones as the call before.
	day, month store.Period
	totals     map[totalsKey]*periodTotals
	dirty      []*total
	// Holds that nobody settled or released and alerts whose period has not ended, as of the instants beside them; not
	// there before they are read.
	holds                 []*store.Hold
	alerts                []*store.Alert
	holdsFrom, alertsFrom time.Time
	read                  struct{ holds, alerts bool }
}

// totalsKey names one period of a tenant.
type totalsKey struct {
	window store.Window
	start  int64
}

// periodTotals are all totals of one period.
type periodTotals struct {
	byModel map[int32]*total
	list    []*store.Total
}

// total is a total and the number of its model.
type total struct {
	store.Total
	model int32
	dirty bool
}

func (p *periodTotals) add(row *total) {
	p.byModel[row.model] = row
	p.list = append(p.list, &row.Total)
}

// period is the period of the window that contains at.
func (n *tenant) period(w store.Window, at time.Time) store.Period {
	current := &n.month
	if w == store.Day {
		current = &n.day
	}
	if !current.Contains(at) {
		*current = n.calendar.Period(w, at)
	}
	return *current
}

// periodTotals returns the totals of the period that contains at, which load has read.
func (n *tenant) periodTotals(w store.Window, at time.Time) (*periodTotals, store.Period) {
	period := n.period(w, at)
	return n.totals[totalsKey{w, period.Start.UnixMicro()}], period
}

// total returns the total of a model in the period that contains at, an empty one when there is none.
func (n *tenant) total(w store.Window, at time.Time, model int32, r *store.Record) *total {
	p, period := n.periodTotals(w, at)
	row := p.byModel[model]
	if row == nil {
		row = &total{model: model, Total: store.Total{
			TenantID: n.row.ID, Window: w, Start: period.Start, Provider: r.Provider, Model: r.Model,
		}}
		p.add(row)
	}
	return row
}

// count changes the totals of both periods that a record lies in, or neither.
func (n *tenant) count(model int32, r *store.Record, add func(*store.Total, *store.Record) bool) error {
	day, month := n.total(store.Day, r.At, model, r), n.total(store.Month, r.At, model, r)
	// The month has all that the day has, so what fits into the month fits into the day.
	if !add(&month.Total, r) || !add(&day.Total, r) {
		return store.ErrOverflow
	}
	n.change(day)
	n.change(month)
	return nil
}

// change marks a total as one to write.
func (n *tenant) change(row *total) {
	if !row.dirty {
		row.dirty = true
		n.dirty = append(n.dirty, row)
	}
}

// load reads what is not remembered of the tenants that are locked: the totals of the periods of now and of the given
// instants of each, the live holds and the current alerts. It reads each kind for all tenants at once.
func (t *tx) load(ctx context.Context, instants map[string][]time.Time) error {
	var periods []periodKey
	for id, n := range t.tenants {
		n.forgetTotals(t.now)
		for _, at := range append(instants[id], t.now) {
			for _, w := range []store.Window{store.Day, store.Month} {
				start := n.period(w, at).Start
				if key := (totalsKey{w, start.UnixMicro()}); n.totals[key] == nil {
					n.totals[key] = &periodTotals{byModel: make(map[int32]*total)}
					periods = append(periods, periodKey{id, w, start})
				}
			}
		}
	}
	rows, err := t.store.selectPeriods(ctx, t, periods)
	if err != nil {
		return err
	}
	for _, row := range rows {
		t.tenants[row.TenantID].totals[totalsKey{row.Window, row.Start.UnixMicro()}].add(row)
	}
	if err := t.loadHolds(ctx); err != nil {
		return err
	}
	return t.loadAlerts(ctx)
}

// forgetTotals drops the totals of periods other than those of now when there are many, after late calls.
func (n *tenant) forgetTotals(now time.Time) {
	const periods = 6
	if len(n.totals) < periods {
		return
	}
	day, month := n.period(store.Day, now), n.period(store.Month, now)
	for key := range n.totals {
		if key != (totalsKey{store.Day, day.Start.UnixMicro()}) && key != (totalsKey{store.Month, month.Start.UnixMicro()}) {
			delete(n.totals, key)
		}
	}
}

// standing returns the tenant as it stands at the transaction's instant. What it points to is the cache's.
func (t *tx) standing(n *tenant) *store.Standing {
	month, monthPeriod := n.periodTotals(store.Month, t.now)
	day, dayPeriod := n.periodTotals(store.Day, t.now)
	return &store.Standing{
		Tenant: n.row, Quota: n.quota, At: t.now, Month: monthPeriod, Day: dayPeriod,
		MonthTotals: month.list, DayTotals: day.list, Holds: n.liveHolds(t.now), Alerts: n.currentAlerts(t.now),
	}
}

// liveHolds returns the holds that are live at an instant that load has read them for. The cache keeps all that were
// live then or came later.
func (n *tenant) liveHolds(at time.Time) []*store.Hold {
	n.holds = slices.DeleteFunc(n.holds, func(h *store.Hold) bool { return !h.Live(at) })
	n.holdsFrom = at
	return n.holds
}

// currentAlerts returns the alerts of the periods that contain an instant that load has read them for. The cache keeps
// all whose period ends after that.
func (n *tenant) currentAlerts(at time.Time) []*store.Alert {
	n.alerts = slices.DeleteFunc(n.alerts, func(a *store.Alert) bool { return !at.Before(a.PeriodEnd) })
	n.alertsFrom = at
	current := make([]*store.Alert, 0, len(n.alerts))
	for _, a := range n.alerts {
		if !at.Before(a.PeriodStart) {
			current = append(current, a)
		}
	}
	return current
}
