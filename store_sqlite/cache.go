package storesqlite

import (
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// cache is what the writer knows without asking: the tenants it has written for, with their standing, and the numbers
// of texts and models. It is used only inside write transactions and is right there, because a transaction begins by
// asking SQLite whether another connection has committed since (data_version) and forgets everything if so, or
// if a transaction of ours was rolled back. Without it each tenant of a batch would cost five reads.
type cache struct {
	version int64
	tenants map[string]*tenant
	texts   map[string]int64
	models  map[modelName]int64
	rates   map[store.Rate]int64
	textOf  *dictionary[string]
	modelOf *dictionary[modelName]
}

// maxTenants bounds the tenants in the cache; a standing is a few kilobytes.
const maxTenants = 8192

func newCache() *cache {
	c := &cache{}
	c.reset()
	return c
}

func (c *cache) reset() {
	*c = cache{
		version: c.version,
		tenants: make(map[string]*tenant),
		texts:   make(map[string]int64),
		models:  make(map[modelName]int64),
		rates:   make(map[store.Rate]int64),
		textOf:  &dictionary[string]{},
		modelOf: &dictionary[modelName]{},
	}
}

func (c *cache) putText(text string, number int64) {
	if len(c.texts) >= maxEntries {
		clear(c.texts)
	}
	c.texts[text] = number
}

func (c *cache) putRate(r store.Rate, number int64) {
	if len(c.rates) >= maxEntries {
		clear(c.rates)
	}
	c.rates[r] = number
}

func (c *cache) putModel(m modelName, number int64) {
	if len(c.models) >= maxEntries {
		clear(c.models)
	}
	c.models[m] = number
}

// tenant is a tenant under the write lock.
type tenant struct {
	number   int64
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
	byModel map[int64]*total
	list    []*store.Total
}

// total is a total and where it is stored.
type total struct {
	store.Total
	rowid int64 // 0 when it is not stored yet; another connection that changed it has reset the cache
	model int64
	dirty bool
}

// tenant returns a tenant and makes it when it does not exist.
func (t *tx) tenant(ctx context.Context, id string) (*tenant, error) {
	n, err := t.knownTenant(ctx, id)
	if n != nil || err != nil {
		return n, err
	}
	row, err := t.createTenant(ctx, id)
	if err != nil {
		return nil, err
	}
	return t.remember(row)
}

// knownTenant returns nil when there is no such tenant.
func (t *tx) knownTenant(ctx context.Context, id string) (*tenant, error) {
	if cached, ok := t.store.cache.tenants[id]; ok {
		return cached, nil
	}
	row, err := getTenant(ctx, t, id)
	if row == nil || err != nil {
		return nil, err
	}
	return t.remember(row)
}

func (t *tx) remember(row *tenantRow) (*tenant, error) {
	loaded, err := row.tenant()
	if err != nil {
		return nil, err
	}
	tenants := t.store.cache.tenants
	if len(tenants) >= maxTenants {
		clear(tenants)
	}
	tenants[loaded.row.ID] = loaded
	return loaded, nil
}

// period returns the totals of the period of the window that contains at, all of its models'.
func (t *tx) period(ctx context.Context, n *tenant, w store.Window, at time.Time) (*periodTotals, store.Period, error) {
	current := &n.month
	if w == store.Day {
		current = &n.day
	}
	if !current.Contains(at) {
		*current = n.calendar.Period(w, at)
	}
	key := totalsKey{w, current.Start.UnixMicro()}
	if p, ok := n.totals[key]; ok {
		return p, *current, nil
	}
	rows, err := t.store.selectTotals(ctx, t, n, w, current.Start, current.End)
	if err != nil {
		return nil, *current, err
	}
	const periods = 6 // this month's and day's, and a few for late calls
	if len(n.totals) >= periods {
		n.forgetTotals()
	}
	p := &periodTotals{byModel: make(map[int64]*total, len(rows))}
	for _, row := range rows {
		p.add(row)
	}
	n.totals[key] = p
	return p, *current, nil
}

func (p *periodTotals) add(row *total) {
	p.byModel[row.model] = row
	p.list = append(p.list, &row.Total)
}

// forgetTotals drops all periods but those that are in use: the two last asked for, which a record may be about to
// count in, and those with rows that are yet to be written.
func (n *tenant) forgetTotals() {
	for key, p := range n.totals {
		keep := key.start == n.day.Start.UnixMicro() || key.start == n.month.Start.UnixMicro()
		for _, row := range p.byModel {
			keep = keep || row.dirty
		}
		if !keep {
			delete(n.totals, key)
		}
	}
}

// total returns the total of a model in the period that contains at, an empty one when there is none.
func (t *tx) total(ctx context.Context, n *tenant, w store.Window, at time.Time, model int64, name modelName) (*total, error) {
	p, period, err := t.period(ctx, n, w, at)
	if err != nil {
		return nil, err
	}
	row := p.byModel[model]
	if row == nil {
		row = &total{model: model, Total: store.Total{
			TenantID: n.row.ID, Window: w, Start: period.Start, Provider: name.Provider, Model: name.Name,
		}}
		p.add(row)
	}
	return row, nil
}

// change marks a total as one to write.
func (n *tenant) change(row *total) {
	if !row.dirty {
		row.dirty = true
		n.dirty = append(n.dirty, row)
	}
}

// standing returns the tenant as it stands at an instant. What it points to is the cache's.
func (t *tx) standing(ctx context.Context, n *tenant, at time.Time) (*store.Standing, error) {
	month, monthPeriod, err := t.period(ctx, n, store.Month, at)
	if err != nil {
		return nil, err
	}
	day, dayPeriod, err := t.period(ctx, n, store.Day, at)
	if err != nil {
		return nil, err
	}
	holds, err := t.liveHolds(ctx, n, at)
	if err != nil {
		return nil, err
	}
	alerts, err := t.currentAlerts(ctx, n, at)
	if err != nil {
		return nil, err
	}
	return &store.Standing{
		Tenant: n.row, Quota: n.quota, At: at, Month: monthPeriod, Day: dayPeriod,
		MonthTotals: month.list, DayTotals: day.list, Holds: holds, Alerts: alerts,
	}, nil
}
