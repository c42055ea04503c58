package storetest

import (
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// model is a ledger in plain Go: slow, without transactions, and short enough to be seen to be right. It keeps rows
// and adds them up whenever it is asked.
type model struct {
	now     time.Time
	tenants map[string]*modelTenant
}

type modelTenant struct {
	row     store.Tenant
	quota   store.Quota
	records []store.Record
	gone    []store.Record // that were pruned, as they count
	holds   []*modelHold
	alerts  []store.Alert
	// moved says that the calendar has changed, after which older alerts need not lie in a period of the new one.
	moved bool
}

type modelHold struct {
	store.Hold
	released  bool
	settledBy string
}

// tenant returns a tenant, made with the defaults when there is none.
func (m *model) tenant(id string) *modelTenant {
	if m.tenants[id] == nil {
		m.tenants[id] = &modelTenant{row: defaults(id, m.now)}
	}
	return m.tenants[id]
}

// append is Store.Append.
func (m *model) append(records []store.Record, judge store.Judge) []store.Outcome {
	outcomes := make([]store.Outcome, len(records))
	for i, r := range records {
		outcomes[i] = m.tenant(r.TenantID).add(m.now, r)
	}
	m.judge(outcomes, judge)
	return outcomes
}

// reprice is Store.Reprice.
func (m *model) reprice(records []store.Record, judge store.Judge) []store.Outcome {
	outcomes := make([]store.Outcome, len(records))
	for i, r := range records {
		outcomes[i] = m.tenant(r.TenantID).price(r)
	}
	m.judge(outcomes, judge)
	return outcomes
}

// judge asks about each tenant that got a record, and gives the alerts to its last one.
func (m *model) judge(outcomes []store.Outcome, judge store.Judge) {
	added, last := map[string][]*store.Record{}, map[string]int{}
	for i := range outcomes {
		if o := &outcomes[i]; o.Err == nil && !o.Duplicate {
			added[o.Record.TenantID] = append(added[o.Record.TenantID], o.Record)
			last[o.Record.TenantID] = i
		}
	}
	for id, i := range last {
		t := m.tenant(id)
		s := t.standing(m.now)
		outcomes[i].Alerts = t.raise(m.now, judge(&s, added[id]).Alerts)
	}
}

func (t *modelTenant) add(now time.Time, r store.Record) store.Outcome {
	if r.At.Before(t.row.Horizon) {
		return store.Outcome{Err: &store.PrunedError{TenantID: r.TenantID, ID: r.ID, At: r.At, Horizon: t.row.Horizon}}
	}
	for _, old := range t.records {
		if old.ID != r.ID {
			continue
		}
		if field := old.Differs(&r); field != "" {
			return store.Outcome{Err: &store.ConflictError{TenantID: r.TenantID, ID: r.ID, Field: field}}
		}
		return store.Outcome{Record: &old, Duplicate: true}
	}
	if err := t.settle(now, &r); err != nil {
		return store.Outcome{Err: err}
	}
	t.records = append(t.records, r)
	return store.Outcome{Record: &r}
}

// settle settles the hold that a record names, if it can.
func (t *modelTenant) settle(now time.Time, r *store.Record) error {
	if r.HoldID == "" {
		return nil
	}
	h := t.hold(r.HoldID)
	switch {
	case h == nil:
		r.Settlement = store.HoldUnknown
	case h.released || h.settledBy != "":
		return &store.HoldError{TenantID: r.TenantID, HoldID: r.HoldID, RecordID: h.settledBy}
	case !now.Before(h.ExpiresAt):
		r.Settlement = store.HoldExpired
	default:
		r.Settlement, r.Overage, h.settledBy = store.Settled, max(0, r.Cost-h.Cost), r.ID
	}
	return nil
}

func (t *modelTenant) hold(id string) *modelHold {
	for _, h := range t.holds {
		if h.ID == id {
			return h
		}
	}
	return nil
}

func (t *modelTenant) price(r store.Record) store.Outcome {
	for i := range t.records {
		old := &t.records[i]
		if old.ID != r.ID {
			continue
		}
		if old.Unpriced == "" {
			first := *old
			return store.Outcome{Record: &first, Duplicate: true}
		}
		old.Lines, old.Cost, old.PriceVersion, old.Unpriced = r.Lines, r.Cost, r.PriceVersion, r.Unpriced
		if old.Settlement == store.Settled {
			old.Overage = max(0, r.Cost-t.hold(old.HoldID).Cost)
		}
		priced := *old
		return store.Outcome{Record: &priced}
	}
	return store.Outcome{Err: store.ErrNotFound}
}

// raise keeps the alerts whose key is new and returns them.
func (t *modelTenant) raise(now time.Time, alerts []store.Alert) (news []store.Alert) {
	for _, a := range alerts {
		if !slices.ContainsFunc(t.alerts, func(old store.Alert) bool { return sameKey(old, a) }) {
			a = raised(a, t.row.ID, now, int64(len(t.alerts)+1))
			t.alerts, news = append(t.alerts, a), append(news, a)
		}
	}
	return news
}

// sameKey compares the keys of two alerts, whatever their times' locations.
func sameKey(a, b store.Alert) bool {
	at, bt := a.PeriodStart, b.PeriodStart
	a.PeriodStart, b.PeriodStart = time.Time{}, time.Time{}
	return a.AlertKey == b.AlertKey && at.Equal(bt)
}

// take is Store.Hold.
func (m *model) take(holds []store.Hold, decide store.Decide) []error {
	results := make([]error, len(holds))
	for i, h := range holds {
		t := m.tenant(h.TenantID)
		s := t.standing(m.now)
		if results[i] = decide(&s, &h).Refusal; results[i] == nil {
			t.holds = append(t.holds, &modelHold{Hold: h})
		}
	}
	return results
}

// release is Store.Release.
func (m *model) release(tenant, id string) error {
	var h *modelHold
	if t := m.tenants[tenant]; t != nil {
		h = t.hold(id)
	}
	switch {
	case h == nil:
		return store.ErrNotFound
	case h.settledBy != "":
		return &store.HoldError{TenantID: tenant, HoldID: id, RecordID: h.settledBy}
	case m.now.Before(h.ExpiresAt):
		h.released = true
	}
	return nil
}

// prune is Store.Prune, until nothing is left to drop.
func (m *model) prune(id string, before time.Time) (dropped int) {
	t := m.tenants[id]
	if t == nil {
		return 0
	}
	if before.After(t.row.Horizon) {
		t.row.Horizon = before
	}
	var kept []store.Record
	for _, r := range t.records {
		if r.At.Before(t.row.Horizon) {
			t.gone = append(t.gone, inMiddle(t.calendar(), r)...)
			dropped++
		} else {
			kept = append(kept, r)
		}
	}
	t.records = kept
	return dropped
}

// setTenant is Store.SetTenant.
func (m *model) setTenant(row store.Tenant) {
	t := m.tenant(row.ID)
	t.moved = t.moved || t.row.TimeZone != row.TimeZone || t.row.BillingDay != row.BillingDay
	row.Suspended, row.Horizon, row.CreatedAt = t.row.Suspended, t.row.Horizon, t.row.CreatedAt
	t.row = row
}

// setQuota is Store.SetQuota.
func (m *model) setQuota(q store.Quota, judge store.Judge) []store.Alert {
	t := m.tenant(q.TenantID)
	t.quota = q
	s := t.standing(m.now)
	return t.raise(m.now, judge(&s, nil).Alerts)
}

func (t *modelTenant) calendar() store.Calendar {
	calendar, err := t.row.Calendar()
	if err != nil {
		panic(err)
	}
	return calendar
}

// standing is Store.Standing.
func (t *modelTenant) standing(at time.Time) store.Standing {
	c := t.calendar()
	s := store.Standing{Tenant: t.row, Quota: t.quota, At: at, Month: c.Month(at), Day: c.Day(at)}
	counted := slices.Concat(t.records, t.gone)
	s.MonthTotals = pointers(totalled(c, store.Month, during(s.Month, counted)))
	s.DayTotals = pointers(totalled(c, store.Day, during(s.Day, counted)))
	for _, h := range t.holds {
		if !h.released && h.settledBy == "" && at.Before(h.ExpiresAt) {
			s.Holds = append(s.Holds, &h.Hold)
		}
	}
	s.Held, s.HeldUntil = heldUp(s.Holds)
	for _, a := range t.alerts {
		if a.PeriodStart.Equal(c.Period(a.Per, at).Start) {
			s.Alerts = append(s.Alerts, &a)
		}
	}
	return ordered(s)
}

func during(p store.Period, records []store.Record) (in []store.Record) {
	for _, r := range records {
		if p.Contains(r.At) {
			in = append(in, r)
		}
	}
	return in
}

// listed are the records in the order in which a store lists them.
func (t *modelTenant) listed() []store.Record {
	records := slices.Clone(t.records)
	slices.SortFunc(records, func(a, b store.Record) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return records
}
