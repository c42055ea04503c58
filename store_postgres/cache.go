package storepostgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/acf68eca/usage/internal/held"
	"github.com/acf68eca/usage/store"
)

// cache is what this process remembers of tenants: their rows and standings as its last transaction left them. An entry is
// right if, and only if, the tenant's row has the version that it was given then, at the same server: see tx. Another
// server, after a failover, may lack the last commits under a version that it has.
//
// A transaction claims its tenants, so that it has their entries to itself until it has ended, and changes them. Only one
// that has committed puts them back. It is safe for concurrent use.
type cache struct {
	mu      sync.Mutex
	tenants map[string]*tenant
	claims  map[string]*claim
}

// claim is what a transaction works on.
type claim struct {
	ids     []string
	tenants map[string]*tenant // those that are remembered
	ended   chan struct{}
}

// maxTenants bounds the tenants in the cache; a standing is a few kilobytes.
const maxTenants = 8192

func newCache() *cache {
	return &cache{tenants: make(map[string]*tenant), claims: make(map[string]*claim)}
}

// claim waits until no other transaction works on any of the tenants. It claims them in order, so that two never wait for
// each other. What is remembered of them as of another server is forgotten.
func (c *cache) claim(ctx context.Context, ids []string, server *string) (*claim, error) {
	own := &claim{ids: ids, tenants: make(map[string]*tenant, len(ids)), ended: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		for other := c.claims[id]; other != nil; other = c.claims[id] {
			c.mu.Unlock()
			var err error
			select {
			case <-other.ended:
			case <-ctx.Done():
				err = ctx.Err()
			}
			c.mu.Lock()
			if err != nil {
				own.ids = ids[:i]
				c.end(own)
				return nil, err
			}
		}
		c.claims[id] = own
	}
	for _, id := range ids {
		if n := c.tenants[id]; n != nil && n.server == server {
			own.tenants[id] = n
		}
		delete(c.tenants, id)
	}
	return own, nil
}

// release ends a claim and remembers the tenants, unless their rows were changed in other ways than they were.
func (c *cache) release(own *claim, tenants map[string]*tenant) {
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
	c.end(own)
}

func (c *cache) end(own *claim) {
	for _, id := range own.ids {
		delete(c.claims, id)
	}
	close(own.ended)
}

// forget forgets all tenants that no transaction works on.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tenants)
}

// newVersion returns a number that nobody else will draw. It is not 0, which no entry has.
func newVersion() int64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return int64(binary.NativeEndian.Uint64(b[:])>>1) + 1
}

// tenant is a tenant under its lock.
type tenant struct {
	version int64
	server  *string // of the version
	// settings is the version under which row and quota were last changed: they are right as long as the row says the same.
	settings int64
	// revision and untraced are the row's. outdated says that others may have written since readAt: what of the months and the
	// holds has a later revision is yet to be read.
	revision, untraced, readAt int64
	outdated                   bool
	// stale says that the row was changed by this transaction in other ways than the entry was.
	stale    bool
	row      store.Tenant
	quota    store.Quota
	calendar store.Calendar
	months   map[int64]*period // by start
	// The periods last asked for: most calls lie in the same ones as the call before.
	month, day *period
	dirty      []*total
	// What else a standing has, as of the instants beside it; not there before it is read.
	holds      held.Holds
	arrivals   []store.Arrival
	alerts     []*store.Alert // those whose period has not ended
	alertsFrom time.Time
	read       struct{ arrivals, alerts bool }
}

// period is a month or a day of a tenant, with the totals of all models in it.
type period struct {
	store.Period
	byModel map[int32]*total
	list    []*store.Total
	days    map[int64]*period // of a month: those that were read, by start
}

// total is a total and the number of its model. That of a month has the last day in it, which is stored in its row.
type total struct {
	store.Total
	model   int32
	dirty   bool
	stored  bool // whether a month has a row
	lastDay *total
}

func newPeriod(span store.Period) *period {
	return &period{Period: span, byModel: make(map[int32]*total)}
}

// add adds a total, in the place of the one that it has of that model.
func (p *period) add(row *total) {
	if old := p.byModel[row.model]; old != nil {
		*old = *row
		return
	}
	p.byModel[row.model] = row
	p.list = append(p.list, &row.Total)
}

// monthAt returns the month that contains at, and whether it was there already or has yet to be read.
func (n *tenant) monthAt(at time.Time) (month *period, known bool) {
	if n.month != nil && n.month.Contains(at) {
		return n.month, true
	}
	span := n.calendar.Month(at)
	month, known = n.months[span.Start.UnixMicro()]
	if !known {
		month = newPeriod(span)
		month.days = make(map[int64]*period)
		n.months[span.Start.UnixMicro()] = month
	}
	n.month, n.day = month, nil
	return month, known
}

// dayAt returns the day that contains at, its month, and whether the day was there already or has yet to be read.
func (n *tenant) dayAt(at time.Time) (day, month *period, known bool) {
	month, _ = n.monthAt(at)
	if n.day != nil && n.day.Contains(at) {
		return n.day, month, true
	}
	span := n.calendar.Day(at)
	day, known = month.days[span.Start.UnixMicro()]
	if !known {
		day = newPeriod(span)
		month.days[span.Start.UnixMicro()] = day
	}
	n.day = day
	return day, month, known
}

// count changes the totals of both periods that a record lies in, which load has read, or returns ErrOverflow and
// changes neither.
func (n *tenant) count(model int32, r *store.Record, add func(*store.Total, *store.Record) bool) error {
	day, month, _ := n.dayAt(r.At)
	ofMonth, ofDay := month.byModel[model], day.byModel[model]
	if ofMonth == nil && ofDay != nil {
		return fmt.Errorf("a day without its month: %w", store.ErrCorrupt)
	}
	if ofMonth == nil {
		ofMonth = &total{model: model, Total: store.Total{
			TenantID: n.row.ID, Window: store.Month, Start: month.Start, Provider: r.Provider, Model: r.Model,
		}}
	}
	// The month has all that the day has, so what fits into the month fits into the day.
	if !add(&ofMonth.Total, r) {
		return store.ErrOverflow
	}
	if ofDay == nil {
		ofDay = &total{model: model, Total: store.Total{
			TenantID: n.row.ID, Window: store.Day, Start: day.Start, Provider: r.Provider, Model: r.Model,
		}}
		day.add(ofDay)
		n.begin(month, ofMonth, ofDay)
	}
	if !add(&ofDay.Total, r) {
		return fmt.Errorf("a day has more than its month: %w", store.ErrCorrupt)
	}
	n.change(ofMonth)
	if ofMonth.lastDay != ofDay {
		n.change(ofDay)
	}
	return nil
}

// begin puts a model's new day into its month: as its last one, if it is.
func (n *tenant) begin(month *period, ofMonth, ofDay *total) {
	last := ofMonth.lastDay
	if last == nil {
		month.add(ofMonth)
	}
	if last == nil || last.Start.Before(ofDay.Start) {
		ofMonth.lastDay = ofDay
		if last != nil {
			n.change(last)
		}
	}
}

// outdate notes that others have written for the tenant. Of its months and holds only what they changed is read again; the
// rest of its standing is small and forgotten.
func (n *tenant) outdate() {
	if !n.outdated {
		n.outdated, n.readAt = true, n.revision
	}
	for _, month := range n.months {
		clear(month.days)
	}
	n.month, n.day = nil, nil
	n.arrivals, n.alerts, n.read.arrivals, n.read.alerts = nil, nil, false, false
}

// change marks a total as one to write.
func (n *tenant) change(row *total) {
	if !row.dirty {
		row.dirty = true
		n.dirty = append(n.dirty, row)
	}
}

// trim bounds what is kept of a tenant's past.
func (n *tenant) trim() {
	const months, days = 3, 4 // this one, and a few for late calls
	if len(n.months) > months {
		clear(n.months)
		n.month, n.day = nil, nil
	}
	if n.month != nil && len(n.month.days) > days {
		clear(n.month.days)
		n.day = nil
	}
}

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

// standing returns the tenant as it stands at the transaction's instant. What it points to is the cache's.
func (t *tx) standing(n *tenant) *store.Standing {
	day, month, _ := n.dayAt(t.now)
	n.holds.Expire(t.now) // load has read them for it
	return &store.Standing{
		Tenant: n.row, Quota: n.quota, At: t.now, Month: month.Period, Day: day.Period,
		MonthTotals: month.list, DayTotals: day.list, Held: n.holds.Totals(), HeldUntil: n.holds.Until(),
		Arrivals: n.rateArrivals(), Alerts: n.currentAlerts(t.now),
	}
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
