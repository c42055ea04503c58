package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"pgregory.net/rapid"
)

func modelPromises() []promise {
	return []promise{{"any history leaves what a plain model of it has", randomHistories}}
}

// randomHistories plays random histories on one database, each with tenants of its own, so that each is also a
// bystander of the others.
func randomHistories(t *testing.T, l *ledger) {
	handles := []*ledger{l, l.another()}
	var histories atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{
			model:   model{now: noon(), tenants: map[string]*modelTenant{}},
			prefix:  fmt.Sprintf("%08d-", histories.Add(1)),
			handles: handles,
		}
		h.play(rt)
		h.compare(rt)
	})
}

// history plays the same actions on a store and on the model.
type history struct {
	model
	prefix  string
	handles []*ledger
	holds   int
}

// play does some actions. There are few, as many short histories find more in the same time than a few long ones.
func (h *history) play(t *rapid.T) {
	actions := map[string]func(*rapid.T){
		"append": h.append, "append again": h.append, "append once more": h.append,
		"hold": h.hold, "hold again": h.hold, "release": h.release, "wait": h.wait,
		"set quota": h.setQuota, "set tenant": h.setTenant, "suspend": h.suspend,
		"reprice": h.reprice, "rebuild": h.rebuild, "mark alert": h.markAlert, "prune": h.prune,
	}
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(3, 14).Draw(t, "actions") {
		actions[rapid.SampledFrom(names).Draw(t, "action")](t)
	}
}

// handle is one of the database's handles, reporting to a history.
func (h *history) handle(t *rapid.T) *ledger {
	l := *h.handles[rapid.IntRange(0, len(h.handles)-1).Draw(t, "handle")]
	l.t = reporter{l.t, t}
	return &l
}

// reporter is the test of the database, but that failures are the history's, for rapid to shrink.
type reporter struct {
	testing.TB
	history *rapid.T
}

func (r reporter) Helper()                           { r.history.Helper() }
func (r reporter) Errorf(format string, args ...any) { r.history.Errorf(format, args...) }
func (r reporter) Fatalf(format string, args ...any) { r.history.Fatalf(format, args...) }

func (h *history) tenantID(t *rapid.T) string {
	return h.prefix + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")
}

// holdID is mostly that of one of the tenant's holds, live or not.
func (h *history) holdID(t *rapid.T, tenant string) string {
	n := rapid.IntRange(0, h.holds).Draw(t, "hold")
	if known := h.tenants[tenant]; known != nil && len(known.holds) > 0 && n > 0 {
		return known.holds[n%len(known.holds)].ID
	}
	return fmt.Sprint("h", n)
}

// draw is a new record, or one that was there, as it was or with a change.
func (h *history) draw(t *rapid.T) store.Record {
	id := h.tenantID(t)
	if tenant := h.tenants[id]; tenant != nil && len(tenant.records) > 0 && rapid.IntRange(0, 3).Draw(t, "again") == 0 {
		r := rapid.SampledFrom(tenant.records).Draw(t, "record")
		r.Settlement, r.Overage = "", 0
		if rapid.Bool().Draw(t, "other time") {
			r.At, r.AtGiven = r.At.Add(40*24*time.Hour), rapid.Bool().Draw(t, "time given")
		}
		return r
	}
	r := call(id, fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "id")), h.now, int64(rapid.IntRange(0, 5).Draw(t, "cost")))
	if rapid.IntRange(0, 3).Draw(t, "unpriced") == 0 {
		r = unpriced(id, r.ID, h.now, int64(rapid.IntRange(0, 5).Draw(t, "quantity")))
	}
	r.Provider = rapid.SampledFrom([]string{"openai", "elevenlabs"}).Draw(t, "provider")
	r.Status = rapid.SampledFrom([]int{200, 429}).Draw(t, "status")
	if late := rapid.IntRange(-12, 40).Draw(t, "hours late"); late > 0 {
		r.At, r.AtGiven = r.At.Add(-time.Duration(late)*time.Hour), true
	}
	if rapid.IntRange(0, 2).Draw(t, "reserved") == 0 {
		r.HoldID = h.holdID(t, id)
	}
	return r
}

func (h *history) append(t *rapid.T) {
	var batch []store.Record
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		batch = append(batch, h.draw(t))
	}
	if rapid.Bool().Draw(t, "one twice") {
		batch = append(batch, batch[0])
	}
	got := h.handle(t).judged(h.now, thresholds, batch...)
	sameOutcomes(t, got, h.model.append(batch, thresholds))
}

func (h *history) reprice(t *rapid.T) {
	var batch []store.Record
	for _, tenant := range h.sorted() {
		for _, r := range tenant.listed() {
			if rapid.IntRange(0, 3).Draw(t, "reprice") == 0 {
				batch = append(batch, priced(r))
			}
		}
	}
	batch = append(batch, priced(unpriced(h.prefix+"nobody", "x", h.now, 1)))
	outcomes, err := h.handle(t).Reprice(h.handles[0].t.Context(), h.now, lend(batch...), thresholds)
	if err != nil {
		t.Fatalf("Reprice: %v", err)
	}
	want := h.model.reprice(batch, thresholds)
	delete(h.tenants, h.prefix+"nobody")
	sameOutcomes(t, outcomes, want)
}

func (h *history) hold(t *rapid.T) {
	var batch []store.Hold
	for range rapid.IntRange(1, 4).Draw(t, "holds") {
		lasts := time.Duration(rapid.IntRange(1, 100).Draw(t, "minutes")) * time.Minute
		h.holds++
		batch = append(batch, hold(h.tenantID(t), fmt.Sprint("h", h.holds), h.now, lasts, int64(rapid.IntRange(0, 5).Draw(t, "cost"))))
	}
	got := h.handle(t).ask(h.now, withinLimits, batch...)
	for i, want := range h.take(batch, withinLimits) {
		if !errors.Is(got[i], want) || (got[i] == nil) != (want == nil) {
			t.Errorf("hold %s: %v, want %v", batch[i].ID, got[i], want)
		}
	}
}

func (h *history) release(t *rapid.T) {
	tenant := h.tenantID(t)
	id := h.holdID(t, tenant)
	got := h.handle(t).Release(h.handles[0].t.Context(), h.now, tenant, id, keep)
	sameError(t, got, h.model.release(tenant, id))
}

// wait moves the clock: by minutes past holds, by hours past days, by weeks past months.
func (h *history) wait(t *rapid.T) {
	unit := rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 7 * 24 * time.Hour}).Draw(t, "unit")
	h.now = h.now.Add(unit * time.Duration(rapid.IntRange(1, 30).Draw(t, "wait")))
}

func (h *history) setQuota(t *rapid.T) {
	q := store.Quota{TenantID: h.tenantID(t)}
	for range rapid.IntRange(0, 2).Draw(t, "limits") {
		q.Limits = append(q.Limits, store.Limit{
			Provider: rapid.SampledFrom([]string{"", "openai"}).Draw(t, "provider"), Meter: "cost",
			Per: rapid.SampledFrom([]store.Window{store.Month, store.Day}).Draw(t, "window"),
			Max: int64(rapid.IntRange(1, 20).Draw(t, "max")), Soft: rapid.Bool().Draw(t, "soft"),
		})
		q.AlertPercents = []int{50, 100}
	}
	got := h.handle(t).setQuota(h.now, q, thresholds)
	equal(reporter{history: t}, "alerts of a quota", got, h.model.setQuota(q, thresholds))
}

func (h *history) setTenant(t *rapid.T) {
	id := h.tenantID(t)
	row := store.Tenant{
		ID: id, Name: rapid.SampledFrom([]string{id, "Acme"}).Draw(t, "name"),
		TimeZone:   rapid.SampledFrom([]string{"UTC", "Asia/Kolkata", "America/Havana", "Pacific/Chatham"}).Draw(t, "zone"),
		BillingDay: rapid.SampledFrom([]int{1, 10, 31}).Draw(t, "billing day"),
	}
	h.handle(t).setTenant(h.now, row)
	h.model.setTenant(row)
}

func (h *history) suspend(t *rapid.T) {
	id, reason := h.tenantID(t), rapid.SampledFrom([]string{"", "unpaid"}).Draw(t, "reason")
	l := h.handle(t)
	l.must("Suspend", l.Suspend(l.t.Context(), h.now, id, reason))
	h.tenant(id).row.Suspended = reason
}

func (h *history) rebuild(t *rapid.T) {
	for _, tenant := range h.sorted() {
		l := h.handle(t)
		l.must("Rebuild", l.Rebuild(l.t.Context(), tenant.row.ID))
	}
}

func (h *history) prune(t *rapid.T) {
	l, id := h.handle(t), h.tenantID(t)
	before := h.now.Add(-time.Duration(rapid.IntRange(0, 1000).Draw(t, "hours")) * time.Hour)
	equal(l.t, "dropped", l.prune(id, before, rapid.IntRange(1, 5).Draw(t, "at once")), h.model.prune(id, before))
}

// markAlert marks a tenant's oldest alert that is not resolved.
func (h *history) markAlert(t *rapid.T) {
	l, id := h.handle(t), h.tenantID(t)
	for _, a := range l.alerts(id) {
		if a.Status == store.AlertResolved {
			continue
		}
		_, err := l.MarkAlert(l.t.Context(), h.now, id, a.ID, store.AlertResolved)
		l.must("MarkAlert", err)
		marked := slices.IndexFunc(h.tenants[id].alerts, func(m store.Alert) bool { return sameKey(m, a) })
		h.tenants[id].alerts[marked].Status, h.tenants[id].alerts[marked].ResolvedAt = store.AlertResolved, h.now
		return
	}
}

// sorted are the tenants by id.
func (h *history) sorted() (tenants []*modelTenant) {
	for _, tenant := range h.tenants {
		tenants = append(tenants, tenant)
	}
	slices.SortFunc(tenants, func(a, b *modelTenant) int { return strings.Compare(a.row.ID, b.row.ID) })
	return tenants
}

// compare compares all that the store has of a history with the model.
func (h *history) compare(t *rapid.T) {
	l := h.handle(t)
	for _, tenant := range h.sorted() {
		id := tenant.row.ID
		got, want := l.standing(id, h.now), tenant.standing(h.now)
		if tenant.moved {
			got.Alerts, want.Alerts = nil, nil
		}
		equal(l.t, "standing of "+id, got, want)
		equal(l.t, "records of "+id, l.records(id), tenant.listed())
		equal(l.t, "alerts of "+id, l.alerts(id), tenant.alerts)
		l.healthyWith(id, tenant.gone)
	}
	tenants, err := l.Tenants(l.t.Context(), h.prefix, len(h.tenants)+1)
	l.must("Tenants", err)
	equal(l.t, "number of tenants", len(tenants), len(h.tenants))
}

func sameOutcomes(t *rapid.T, got, want []store.Outcome) {
	t.Helper()
	for i := range want {
		sameError(t, got[i].Err, want[i].Err)
		if want[i].Err != nil {
			continue
		}
		want[i].Err, got[i].Err = nil, nil
		equal(reporter{history: t}, fmt.Sprint("outcome ", i), got[i], want[i])
	}
}

// sameError compares sentinels, and typed errors by their text too.
func sameError(t *rapid.T, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) {
		t.Fatalf("error %v, want %v", got, want)
	}
	for _, sentinel := range []error{store.ErrConflict, store.ErrHoldSettled, store.ErrHoldReleased, store.ErrNotFound, store.ErrPruned} {
		if errors.Is(got, sentinel) != errors.Is(want, sentinel) {
			t.Errorf("error %v, want %v", got, want)
		}
	}
	var conflict *store.ConflictError
	var refused *store.HoldError
	if errors.As(got, &conflict) || errors.As(got, &refused) {
		if !strings.Contains(got.Error(), want.Error()) {
			t.Errorf("error %v, want %v", got, want)
		}
	}
}

// thresholds is the Judge of the histories: the shares of each limit on cost, and models without a price.
func thresholds(s *store.Standing, added []*store.Record) store.Judgement {
	var alerts []store.Alert
	for _, limit := range s.Quota.Limits {
		period, used := used(s, limit)
		for _, percent := range s.Quota.AlertPercents {
			if used*100 < limit.Max*int64(percent) {
				continue
			}
			alerts = append(alerts, store.Alert{Used: used, PeriodEnd: period.End, Preexisting: added == nil, AlertKey: store.AlertKey{
				Kind: store.CostWarning, Provider: limit.Provider, Meter: limit.Meter, Per: limit.Per, Max: limit.Max, Percent: percent, PeriodStart: period.Start,
			}})
		}
	}
	for _, r := range added {
		if r.Unpriced != "" {
			alerts = append(alerts, store.Alert{Reason: r.Unpriced, PeriodEnd: s.Month.End, AlertKey: store.AlertKey{
				Kind: store.Unpriced, Provider: r.Provider, Model: r.Model, Per: store.Month, PeriodStart: s.Month.Start,
			}})
		}
	}
	return store.Judgement{Alerts: alerts}
}

// used is what counts for a limit on cost, and the period in which it does.
func used(s *store.Standing, limit store.Limit) (store.Period, int64) {
	period, totals := s.Month, s.MonthTotals
	if limit.Per == store.Day {
		period, totals = s.Day, s.DayTotals
	}
	var sum store.Money
	for _, total := range totals {
		if limit.Provider == "" || limit.Provider == total.Provider {
			sum += total.Cost
		}
	}
	return period, int64(sum)
}

// withinLimits is the Decide of the histories: hard limits on cost with what is held, and no suspension.
func withinLimits(s *store.Standing, h *store.Hold) store.Verdict {
	if s.Tenant.Suspended != "" {
		return store.Verdict{Refusal: errRefused}
	}
	for _, limit := range s.Quota.Limits {
		if _, used := used(s, limit); !limit.Soft && used+int64(heldCost(s)+h.Cost) > limit.Max {
			return store.Verdict{Refusal: errRefused}
		}
	}
	return store.Verdict{}
}
