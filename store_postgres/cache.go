package storepostgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/acf68eca/usage/internal/held"
	"github.com/acf68eca/usage/store"
)

// cache is what this process remembers of tenants: their rows and standings as its last transaction left them. An entry is
// right if, and only if, the tenant's row has the version that it was given then, at the same server: see tx. Where it has
// another, the entry lacks what was written after its revision, which reading reads. Another server, after a failover, may lack
// the last commits under a version that it has.
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
