package usage

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage/store"
)

// Sums are what some calls add up to.
type Sums struct {
	// Calls, Errors and Unpriced count calls: all, those that failed, and those without a price.
	Calls, Errors, Unpriced int64
	// Cost is in dollars. The unpriced calls are not in it.
	Cost decimal.Decimal
	// Tokens is the providers' total, all classes together; Characters, Credits and Images are meters as they are.
	Tokens, Characters, Credits, Images int64
	AudioTime, CallTime                 time.Duration
	// Meters has every meter that was used, billed or not, with its own cost.
	Meters map[Meter]MeterSum
}

// MeterSum is what one meter adds up to, in the meter's own unit and in dollars.
type MeterSum struct {
	Quantity int64
	Cost     decimal.Decimal
}

// Usage is what a tenant used in a period.
type Usage struct {
	TenantID string
	Period   Period
	Sums
	// Providers are sorted by name, and each one's Models too.
	Providers []ProviderUsage
	// Limits are where the tenant stands with each limit, in the order of its quota. Only GetCurrentUsage fills them in.
	Limits []LimitUsage
}

// ProviderUsage is what a tenant used of one provider.
type ProviderUsage struct {
	Name string
	Sums
	Models []ModelUsage
}

// ModelUsage is what a tenant used of one model.
type ModelUsage struct {
	Name string
	Sums
}

// LimitUsage is where a tenant stands with a limit, in the unit of the limit's Max.
type LimitUsage struct {
	Limit Limit
	// Period is the one that the limit counts in now. That of a rate is from now until all of its burst is there again.
	Period Period
	// Used is what calls have used, and Held what live reservations hold besides. Of a rate, Used is what of its burst is
	// taken now, a started unit whole, and Held is zero.
	Used, Held decimal.Decimal
	// Percent is Used in percent of the limit's Max, or of a rate's burst, rounded half-even at 4 digits; 100 when Max is
	// zero and something was used.
	Percent decimal.Decimal
}

// Provider returns what was used of a provider, nothing if it was not.
func (u *Usage) Provider(name string) ProviderUsage {
	for _, p := range u.Providers {
		if p.Name == name {
			return p
		}
	}
	return ProviderUsage{Name: name}
}

// GetCurrentUsage returns what a tenant has used in its current month, and where it stands with its limits. An unknown
// tenant has used nothing. However large the ledger is, it reads only totals.
func (t *Tracker) GetCurrentUsage(ctx context.Context, tenantID string) (*Usage, error) {
	if err := checkTenant(tenantID); err != nil {
		return nil, err
	}
	standing, err := t.store.Standing(ctx, tenantID, t.now())
	if err != nil {
		return nil, err
	}
	usage := usageOf(tenantID, standing.Month, standing.MonthTotals)
	stand := standOf(&standing)
	for i := range stand.limits {
		usage.Limits = append(usage.Limits, limitUsage(&stand.limits[i], stand.period(&stand.limits[i], standing.At)))
	}
	return usage, nil
}

func limitUsage(l *limitStand, period Period) LimitUsage {
	usage := LimitUsage{Limit: limitOf(l.Limit), Period: period, Held: unitsOf(l.Meter, l.held)}
	used, most := l.used, l.Max
	if l.isRate() {
		r := &l.rate
		used, most = r.burst-r.take(l.arrival, period.Start, 0).remaining, r.burst
	}
	usage.Used, usage.Percent = unitsOf(l.Meter, used), percentOf(used, most)
	return usage
}

// percentOf returns a in percent of b, with 4 fraction digits.
func percentOf(a, b int64) decimal.Decimal {
	const digits, hundred = 4, 1_000_000 // 100 with 4 fraction digits
	if a == 0 {
		return decimal.Decimal{}
	}
	if b == 0 {
		return decimal.New(hundred, -digits)
	}
	percent, ok := store.MulDiv(a, hundred, b)
	if !ok {
		percent = math.MaxInt64 // a billion times the limit
	}
	return decimal.New(percent, -digits)
}

// Usage returns what a tenant used in any period. It reads totals for the tenant's whole days in it, and records only
// for the parts of days at its two ends. The period must not be empty and at most 10 years long. Where the records of such
// a part of a day were pruned, the error is a *PrunedError: whole days can still be had.
func (t *Tracker) Usage(ctx context.Context, tenantID string, period Period) (*Usage, error) {
	period, err := checkPeriod(tenantID, period)
	if err != nil {
		return nil, err
	}
	var usage *Usage
	err = t.report(ctx, tenantID, func(standing *store.Standing, calendar store.Calendar) (err error) {
		usage, err = t.usage(ctx, &standing.Tenant, calendar, period)
		return err
	})
	if err != nil {
		return nil, err
	}
	return usage, nil
}

// report has a report made that reads more than one snapshot. It is made again when the tenant's calendar was changed
// meanwhile or its records were pruned, so that no report mixes what was before with what was after.
func (t *Tracker) report(
	ctx context.Context, tenantID string, report func(*store.Standing, store.Calendar) error,
) error {
	standing, err := t.store.Standing(ctx, tenantID, t.now())
	for err == nil {
		before := standing.Tenant
		var calendar store.Calendar
		if calendar, err = before.Calendar(); err != nil {
			return err
		}
		if err = report(&standing, calendar); err != nil {
			return err
		}
		standing, err = t.store.Standing(ctx, tenantID, t.now())
		if after := &standing.Tenant; err == nil && after.TimeZone == before.TimeZone &&
			after.BillingDay == before.BillingDay && after.Horizon.Equal(before.Horizon) {
			return nil
		}
	}
	return err
}

// usage adds up a period of a tenant by one calendar.
func (t *Tracker) usage(ctx context.Context, tenant *store.Tenant, calendar store.Calendar, period Period) (*Usage, error) {
	days := wholeDays(calendar, period)
	totals, err := t.store.Totals(ctx, store.TotalQuery{TenantID: tenant.ID, Window: Day, From: days.Start, To: days.End})
	if err != nil {
		return nil, err
	}
	sums := make([]*store.Total, 0, len(totals))
	for i := range totals {
		sums = append(sums, &totals[i])
	}
	for _, part := range []Period{{Start: period.Start, End: days.Start}, {Start: days.End, End: period.End}} {
		if !part.Start.Before(part.End) {
			continue
		}
		if part.Start.Before(tenant.Horizon) {
			return nil, &PrunedError{TenantID: tenant.ID, At: part.Start, Horizon: tenant.Horizon}
		}
		records, err := t.recordSums(ctx, tenant.ID, part)
		if err != nil {
			return nil, err
		}
		sums = append(sums, records...)
	}
	return usageOf(tenant.ID, period, sums), nil
}

const maxYears = 10

func checkPeriod(tenantID string, p Period) (Period, error) {
	var f faults
	f.id("tenantID", tenantID)
	start, end := f.time("period.Start", p.Start), f.time("period.End", p.End)
	switch {
	case start.IsZero() || end.IsZero():
		f.add("period", "has no start or no end")
	case !start.Before(end):
		f.add("period", "is empty")
	case end.After(start.AddDate(maxYears, 0, 1)):
		f.add("period", "is longer than 10 years")
	}
	return Period{Start: start, End: end}, f.err()
}

// wholeDays returns the stretch of whole days in a period; it is empty, and stands at the period's end, when there are
// none.
func wholeDays(c store.Calendar, p Period) Period {
	first, last := c.Day(p.Start), c.Day(p.End)
	days := Period{Start: first.Start, End: last.Start}
	if first.Start.Before(p.Start) {
		days.Start = first.End
	}
	if !days.Start.Before(days.End) {
		return Period{Start: p.End, End: p.End}
	}
	return days
}

// recordSums adds up the records of a part of a day by their models.
func (t *Tracker) recordSums(ctx context.Context, tenantID string, part Period) ([]*store.Total, error) {
	sums := make(map[modelKey]*store.Total)
	query := store.RecordQuery{TenantID: tenantID, From: part.Start, To: part.End, Limit: maxPage}
	for row, err := range t.rows(ctx, query) {
		if err != nil {
			return nil, err
		}
		key := modelKey{row.Provider, row.Model}
		if sums[key] == nil {
			sums[key] = &store.Total{Provider: row.Provider, Model: row.Model}
		}
		if !sums[key].Add(row) {
			return nil, ErrOverflow // the day's total would have refused it
		}
	}
	return slices.Collect(maps.Values(sums)), nil
}

// History returns a tenant's last months, 1 to 120 of them, the current one first, including those in which nothing was
// used.
func (t *Tracker) History(ctx context.Context, tenantID string, months int) ([]Usage, error) {
	const most = 12 * maxYears
	var f faults
	f.id("tenantID", tenantID)
	if months < 1 || months > most {
		f.add("months", "is not from 1 to 120")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	var usages []Usage
	err := t.report(ctx, tenantID, func(standing *store.Standing, calendar store.Calendar) (err error) {
		periods := []Period{standing.Month}
		for len(periods) < months {
			periods = append(periods, calendar.Before(Month, periods[len(periods)-1]))
		}
		usages, err = t.usages(ctx, tenantID, Month, periods)
		return err
	})
	if err != nil {
		return nil, err
	}
	return usages, nil
}

// Daily returns what a tenant used on each of its days that a period touches, in the order of time, including those on
// which it used nothing. The period has the bounds of Usage.
func (t *Tracker) Daily(ctx context.Context, tenantID string, period Period) ([]Usage, error) {
	period, err := checkPeriod(tenantID, period)
	if err != nil {
		return nil, err
	}
	var usages []Usage
	err = t.report(ctx, tenantID, func(_ *store.Standing, calendar store.Calendar) (err error) {
		var days []Period
		for at := period.Start; at.Before(period.End); at = days[len(days)-1].End {
			days = append(days, calendar.Day(at))
		}
		usages, err = t.usages(ctx, tenantID, Day, days)
		return err
	})
	if err != nil {
		return nil, err
	}
	return usages, nil
}

// usages returns the usage of each period, which are adjacent, in the order given.
func (t *Tracker) usages(ctx context.Context, tenantID string, w Window, periods []Period) ([]Usage, error) {
	from, to := periods[0], periods[len(periods)-1]
	if to.Start.Before(from.Start) {
		from, to = to, from
	}
	totals, err := t.store.Totals(ctx, store.TotalQuery{TenantID: tenantID, Window: w, From: from.Start, To: to.End})
	if err != nil {
		return nil, err
	}
	byStart := make(map[int64][]*store.Total)
	for i := range totals {
		start := totals[i].Start.UnixMicro()
		byStart[start] = append(byStart[start], &totals[i])
	}
	usages := make([]Usage, len(periods))
	for i, period := range periods {
		usages[i] = *usageOf(tenantID, period, byStart[period.Start.UnixMicro()])
	}
	return usages, nil
}

// usageOf adds totals up by provider and model, of which there may be several: what they cost together may be more than one
// total holds.
func usageOf(tenantID string, period Period, totals []*store.Total) *Usage {
	usage := &Usage{TenantID: tenantID, Period: period}
	slices.SortFunc(totals, func(a, b *store.Total) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	for _, total := range totals {
		usage.add(total)
		n := len(usage.Providers)
		if n == 0 || usage.Providers[n-1].Name != total.Provider {
			usage.Providers = append(usage.Providers, ProviderUsage{Name: total.Provider})
			n++
		}
		provider := &usage.Providers[n-1]
		provider.add(total)
		n = len(provider.Models)
		if n == 0 || provider.Models[n-1].Name != total.Model {
			provider.Models = append(provider.Models, ModelUsage{Name: total.Model})
			n++
		}
		provider.Models[n-1].add(total)
	}
	return usage
}

// add adds a total to the sums.
func (s *Sums) add(t *store.Total) {
	s.Calls = addUp(s.Calls, t.Calls)
	s.Errors = addUp(s.Errors, t.Errors)
	s.Unpriced = addUp(s.Unpriced, t.Unpriced)
	s.Cost = s.Cost.Add(t.Cost.Decimal())
	if s.Meters == nil {
		s.Meters = make(map[Meter]MeterSum, len(t.Meters))
	}
	for _, m := range t.Meters {
		sum := s.Meters[m.Meter]
		s.Meters[m.Meter] = MeterSum{Quantity: addUp(sum.Quantity, m.Quantity), Cost: sum.Cost.Add(m.Cost.Decimal())}
		s.addMeter(m.Meter, m.Quantity)
	}
}

func (s *Sums) addMeter(m Meter, quantity int64) {
	switch {
	case isTokens(m):
		s.Tokens = addUp(s.Tokens, quantity)
	case m == Characters:
		s.Characters = addUp(s.Characters, quantity)
	case m == Credits:
		s.Credits = addUp(s.Credits, quantity)
	case m == Images:
		s.Images = addUp(s.Images, quantity)
	case m == AudioTime:
		s.AudioTime = addTime(s.AudioTime, quantity)
	case m == CallTime:
		s.CallTime = addTime(s.CallTime, quantity)
	}
}

// addTime adds milliseconds; past 292 years, which a Duration cannot hold, it stays there.
func addTime(d time.Duration, milliseconds int64) time.Duration {
	if milliseconds > int64(math.MaxInt64/time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(addUp(int64(d), milliseconds*int64(time.Millisecond)))
}
