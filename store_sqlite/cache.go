package storesqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/acf68eca/usage/internal/held"
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
	known   *dictionaries
	// The last record that is filed by time, if that is known.
	filed      int64
	filedKnown bool
}

// maxTenants bounds the tenants that a transaction begins with; a standing is a few kilobytes.
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
		known:   &dictionaries{},
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
	// The totals by month; month and day are the periods last asked for, in which most calls lie.
	months     map[int64]*period
	month, day *period
	dirty      []*total
	counted    []int // the records of the batch at hand that changed them, by index
	// What else a standing has, as of the instants beside it; not there before it is read.
	holds      held.Holds
	arrivals   []store.Arrival
	alerts     []*store.Alert // those whose period has not ended
	alertsFrom time.Time
	read       struct{ arrivals, alerts bool }
}

// period has all totals of one month, or of one day of it.
type period struct {
	store.Period
	byModel map[int64]*total
	list    []*store.Total
	days    map[int64]*period // of a month, those that were asked for, by their start
}

// total is a total and where it is stored.
type total struct {
	store.Total
	rowid int64 // of a day; 0 when it has no row. Another connection that changed it has reset the cache
	model int64
	dirty bool
	// lastDay is, of a month, the last day on which the model was used. The month's row has what came before it.
	lastDay *total
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
	t.store.cache.tenants[loaded.row.ID] = loaded
	return loaded, nil
}

// monthAt returns the totals of the month that contains at, of all models.
func (t *tx) monthAt(ctx context.Context, n *tenant, at time.Time) (*period, error) {
	if n.month != nil && n.month.Contains(at) {
		return n.month, nil
	}
	span := n.calendar.Month(at)
	month := n.months[span.Start.UnixMicro()]
	if month == nil {
		rows, err := t.store.selectMonths(ctx, t, n, span.Start.UnixMicro(), span.End.UnixMicro())
		if err != nil {
			return nil, err
		}
		month = newPeriod(span, rows)
		month.days = make(map[int64]*period)
		n.months[span.Start.UnixMicro()] = month
	}
	n.month, n.day = month, nil
	return month, nil
}

// dayAt returns the totals of the day that contains at, of all models, and those of its month.
func (t *tx) dayAt(ctx context.Context, n *tenant, at time.Time) (day, month *period, err error) {
	if month, err = t.monthAt(ctx, n, at); err != nil {
		return nil, nil, err
	}
	if n.day != nil && n.day.Contains(at) {
		return n.day, month, nil
	}
	span := n.calendar.Day(at)
	day = month.days[span.Start.UnixMicro()]
	if day == nil {
		rows, err := t.store.selectDays(ctx, t, n, span.Start.UnixMicro(), span.End.UnixMicro())
		if err != nil {
			return nil, nil, err
		}
		for i, row := range rows {
			if of := month.byModel[row.model]; of != nil && of.lastDay.Start.Equal(span.Start) {
				rows[i] = of.lastDay
			}
		}
		day = newPeriod(span, rows)
		month.days[span.Start.UnixMicro()] = day
	}
	n.day = day
	return day, month, nil
}

func newPeriod(span store.Period, rows []*total) *period {
	p := &period{Period: span, byModel: make(map[int64]*total, len(rows))}
	for _, row := range rows {
		p.add(row)
	}
	return p
}

func (p *period) add(row *total) {
	p.byModel[row.model] = row
	p.list = append(p.list, &row.Total)
}

// count changes the totals of both periods that a record lies in, or returns ErrOverflow and changes neither.
func (t *tx) count(ctx context.Context, n *tenant, model int64, r *store.Record, add func(*store.Total, *store.Record) bool) error {
	day, month, err := t.dayAt(ctx, n, r.At)
	if err != nil {
		return err
	}
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
	n.change(ofDay)
	if ofMonth.lastDay != ofDay {
		n.change(ofMonth)
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
		n.change(ofMonth)
	}
}

// change marks a total as one to write.
func (n *tenant) change(row *total) {
	if !row.dirty {
		row.dirty = true
		n.dirty = append(n.dirty, row)
	}
}

// trim bounds what is kept of a tenant's past, when all of it is written.
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

// standing returns the tenant as it stands at an instant, until it is called again. What it points to is the cache's.
func (t *tx) standing(ctx context.Context, n *tenant, at time.Time) (*store.Standing, error) {
	day, month, err := t.dayAt(ctx, n, at)
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
	arrivals, err := t.arrivals(ctx, n)
	if err != nil {
		return nil, err
	}
	t.shown = store.Standing{
		Tenant: n.row, Quota: n.quota, At: at, Month: month.Period, Day: day.Period,
		MonthTotals: month.list, DayTotals: day.list, Held: holds.Totals(), HeldUntil: holds.Until(),
		Arrivals: arrivals, Alerts: alerts,
	}
	return &t.shown, nil
}
