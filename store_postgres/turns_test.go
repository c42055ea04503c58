package storepostgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// Three stores write for two tenants in random turns, or at once, with few reservations and with many, by clocks that differ and
// go back; one of them loses connections as it commits. After each turn they decide on what one reads that remembers nothing.
func TestTurnsAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			dsn, schema := Schema(t)
			p, through := behindProxy(t, dsn)
			w := &walk{
				Rand: rand.New(rand.NewPCG(seed, 1)), now: noon(), proxy: p, reader: openStore(t, dsn, Config{Schema: schema}),
				handles: []*handle{
					openStore(t, through, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema}),
				},
			}
			for _, tenant := range turning {
				if err := w.reader.Suspend(t.Context(), noon(), tenant, ""); err != nil {
					t.Fatal(err)
				}
			}
			for step := range 100 {
				w.check(fmt.Sprintf("step %d, %v", step, w.turn(t)))
				if t.Failed() {
					return
				}
			}
			for _, tenant := range turning {
				if drift, err := w.reader.Verify(t.Context(), tenant); len(drift) > 0 || err != nil {
					t.Errorf("drift of %s: %+v, %v", tenant, drift, err)
				}
			}
		})
	}
}

var turning = []string{acme, "globex"}

// walk is a random history of several stores.
type walk struct {
	*rand.Rand
	proxy   *proxy // before the first of the stores
	handles []*handle
	reader  *handle
	now     time.Time
	count   int
	holds   []holdKey
	records []store.Record
}

// action is what a store does. It draws nothing, so that several can be done at once.
type action func(h *handle, now time.Time) error

// kind is a kind of actions, of which one is drawn.
type kind struct {
	name string
	draw func(tenant string) action
}

// turn has some stores do something, mostly one, and says what.
func (w *walk) turn(t *testing.T) (done []string) {
	if w.now = w.now.Add(time.Duration(w.IntN(40)-15) * time.Minute); w.IntN(30) == 0 {
		w.now = w.now.AddDate(0, 0, w.IntN(40)-5)
	}
	often := []kind{
		{"append", w.append}, {"append again", w.again}, {"hold", w.hold}, {"settle", w.settle}, {"release", w.release},
	}
	seldom := []kind{ // most of them have stores forget all that they know
		{"reprice", w.reprice}, {"quota", w.quota}, {"tenant", w.setTenant}, {"suspend", w.suspend}, {"rebuild", w.rebuild},
		{"prune", w.prune}, {"prune holds", w.pruneHolds}, {"claim", w.claim}, {"mark", w.mark}, {"forget", w.forget},
	}
	var all sync.WaitGroup
	for range 1 + max(0, w.IntN(6)-3) {
		kinds := often
		if w.IntN(8) == 0 {
			kinds = seldom
		}
		chosen, i, tenant := kinds[w.IntN(len(kinds))], w.IntN(len(w.handles)), turning[w.IntN(2)]
		h, do, now := w.handles[i], chosen.draw(tenant), w.now.Add(time.Duration(w.IntN(3)*w.IntN(20)-20)*time.Minute)
		w.told(h)
		if w.IntN(8) == 0 {
			w.proxy.cut.Store(loseCommit + w.Int32N(2))
		}
		done = append(done, fmt.Sprintf("%s of %s by %d at %s", chosen.name, tenant, i, now.Format("01-02 15:04")))
		all.Go(func() {
			if err := do(h, now); err != nil && !errors.Is(err, store.ErrUnknownOutcome) {
				t.Errorf("%s: %v", chosen.name, err)
			}
		})
	}
	all.Wait()
	w.proxy.cut.Store(pass)
	return done
}

// told tells a store that it is alone, or mostly that it is not, or leaves it what it believes.
func (w *walk) told(h *handle) {
	if told := w.IntN(20); told < 14 {
		h.alone.Store(told == 0)
	}
}

// check compares what some of the stores decide on, by a clock that may differ, with what one reads.
func (w *walk) check(what string) {
	for i, h := range w.handles {
		for _, tenant := range turning {
			if w.IntN(3) > 0 {
				continue
			}
			w.told(h)
			at := w.now.Add(time.Duration(w.IntN(2)*(w.IntN(40)-20)) * time.Minute)
			h.decidesAt(w.reader, fmt.Sprintf("%s: store %d, %s", what, i, tenant), tenant, at)
		}
	}
}

func (w *walk) id() string {
	w.count++
	return fmt.Sprint(w.count)
}

// draw draws some new calls, a few of them late or early, and of one of a few models.
func (w *walk) draw(tenant string, n int) []store.Record {
	records := make([]store.Record, n)
	for i := range records {
		at := w.now.Add(time.Duration((w.IntN(3)-1)*w.IntN(2)*w.IntN(40*24)) * time.Hour)
		records[i] = call(tenant, w.id(), at, int64(w.IntN(100)))
		records[i].Model = []string{"gpt-4", "gpt-5", "o3"}[w.IntN(3)]
		if w.IntN(8) == 0 {
			records[i].Unpriced, records[i].Cost, records[i].Lines[0].Rate, records[i].Lines[0].Cost = "no price", 0, store.Rate{}, 0
		}
	}
	w.records = append(w.records, records...)
	return records
}

func (w *walk) append(tenant string) action {
	records, judge := slices.Concat(w.draw(tenant, 1+w.IntN(5)), w.draw(turning[w.IntN(2)], w.IntN(2))), w.judge()
	return func(h *handle, now time.Time) error {
		_, err := h.Append(h.t.Context(), now, lend(records...), judge)
		return err
	}
}

// again sends calls that are there already, for the most part.
func (w *walk) again(string) action {
	records := w.some()
	return func(h *handle, now time.Time) error {
		_, err := h.Append(h.t.Context(), now, lend(records...), quiet)
		return err
	}
}

func (w *walk) some() (records []store.Record) {
	for range min(3, len(w.records)) {
		records = append(records, w.records[w.IntN(len(w.records))])
	}
	return records
}

// judge raises an alert now and then, and sets arrivals.
func (w *walk) judge() store.Judge {
	raise, most, arrivals := w.IntN(3) == 0, w.Int64N(5), w.arrivals()
	return func(s *store.Standing, _ []*store.Record) store.Judgement {
		j := store.Judgement{Arrivals: arrivals}
		if raise {
			j.Alerts = []store.Alert{{PeriodEnd: s.Day.End, AlertKey: store.AlertKey{
				Kind: store.CostWarning, Meter: "cost", Per: store.Day, Max: most, Percent: 80, PeriodStart: s.Day.Start,
			}}}
		}
		return j
	}
}

// arrivals are those of one of two rates, or none.
func (w *walk) arrivals() []store.Arrival {
	if w.IntN(2) == 0 {
		return nil
	}
	return []store.Arrival{{
		RateKey: store.RateKey{Meter: "calls", Per: []store.Window{store.Minute, store.Second}[w.IntN(2)]},
		At:      w.now.Add(time.Duration(w.IntN(100)) * time.Microsecond), Rest: w.Int64N(5), Taken: int64(w.count),
	}}
}

func (w *walk) hold(tenant string) action {
	sizes := []int{1, 2, 3, manyHolds, 2 * manyHolds, mostChanged - 1, mostChanged, mostChanged + 1}
	if w.IntN(3) > 0 {
		sizes = sizes[:5]
	}
	holds := make([]store.Hold, sizes[w.IntN(len(sizes))])
	for i := range holds {
		holds[i] = reservation(w.id())
		holds[i].TenantID, holds[i].CreatedAt, holds[i].Cost = tenant, w.now, store.Money(w.IntN(50))
		holds[i].ExpiresAt = w.now.Add(time.Duration(w.IntN(10+w.IntN(300))-5) * time.Minute)
		holds[i].Model = []string{"gpt-4", "gpt-5"}[w.IntN(2)]
		w.holds = append(w.holds, holdKey{tenant, holds[i].ID})
	}
	arrivals := w.arrivals()
	return func(h *handle, now time.Time) error {
		_, err := h.Hold(h.t.Context(), now, holds, func(*store.Standing, *store.Hold) store.Verdict {
			return store.Verdict{Arrivals: arrivals}
		})
		return err
	}
}

// held is one of the last reservations of a tenant, or one that there is not.
func (w *walk) held(tenant string) string {
	last := w.holds[max(0, len(w.holds)-3*manyHolds):]
	if len(last) > 0 && w.IntN(10) > 0 {
		if key := last[w.IntN(len(last))]; key.tenantID == tenant {
			return key.id
		}
	}
	return "none"
}

func (w *walk) settle(tenant string) action {
	records, judge := w.draw(tenant, []int{1, 1, 10, manyHolds}[w.IntN(4)]), w.judge()
	for i := range records {
		records[i].HoldID = w.held(tenant)
	}
	return func(h *handle, now time.Time) error {
		_, err := h.Append(h.t.Context(), now, lend(records...), judge)
		return err
	}
}

func (w *walk) release(tenant string) action {
	id, arrivals := w.held(tenant), w.arrivals()
	return func(h *handle, now time.Time) error {
		err := h.Release(h.t.Context(), now, tenant, id, func(*store.Standing, *store.Hold) []store.Arrival { return arrivals })
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrHoldSettled) {
			return nil
		}
		return err
	}
}

func (w *walk) reprice(string) action {
	records, judge := w.some(), w.judge()
	for i := range records {
		line := records[i].Lines[0]
		line.Rate, line.Cost = store.Rate{Amount: 1, Per: 1}, store.Money(line.Quantity)
		records[i].Unpriced, records[i].PriceVersion, records[i].Cost, records[i].Lines = "", "v2", line.Cost, []store.Line{line}
	}
	return func(h *handle, now time.Time) error {
		_, err := h.Reprice(h.t.Context(), now, lend(records...), judge)
		return err
	}
}

func (w *walk) quota(tenant string) action {
	quota, judge := store.Quota{TenantID: tenant, Limits: []store.Limit{
		{Meter: "cost", Per: store.Month, Max: w.Int64N(1000)},
		{Meter: "calls", Per: []store.Window{store.Day, store.Minute}[w.IntN(2)], Max: 5},
	}}, w.judge()
	return func(h *handle, now time.Time) error {
		_, err := h.SetQuota(h.t.Context(), now, quota, judge)
		return err
	}
}

func (w *walk) setTenant(tenant string) action {
	row := store.Tenant{
		ID: tenant, Name: w.id(), BillingDay: 1 + 30*w.IntN(2), TimeZone: []string{"UTC", "Asia/Kolkata", "America/Santiago"}[w.IntN(3)],
	}
	return func(h *handle, now time.Time) error { return h.SetTenant(h.t.Context(), now, row) }
}

func (w *walk) suspend(tenant string) action {
	reason := []string{"", "unpaid"}[w.IntN(2)]
	return func(h *handle, now time.Time) error { return h.Suspend(h.t.Context(), now, tenant, reason) }
}

func (w *walk) rebuild(tenant string) action {
	return func(h *handle, _ time.Time) error { return h.Rebuild(h.t.Context(), tenant) }
}

func (w *walk) prune(tenant string) action {
	before, limit := w.now.Add(-time.Duration(1+w.IntN(60*24))*time.Hour), 1+w.IntN(3)
	return func(h *handle, _ time.Time) error {
		_, err := h.Prune(h.t.Context(), tenant, before, limit)
		return err
	}
}

func (w *walk) pruneHolds(tenant string) action {
	after, limit := []string{"", w.held(tenant)}[w.IntN(2)], 1+w.IntN(3*manyHolds)
	return func(h *handle, _ time.Time) error {
		_, err := h.PruneHolds(h.t.Context(), tenant, after, limit)
		return err
	}
}

func (w *walk) claim(string) action {
	return func(h *handle, now time.Time) error {
		_, err := h.ClaimAlerts(h.t.Context(), now, time.Hour, 2)
		return err
	}
}

func (w *walk) mark(tenant string) action {
	return func(h *handle, now time.Time) error {
		alerts, err := h.Alerts(h.t.Context(), store.AlertQuery{TenantID: tenant, Status: store.AlertPending, Limit: 1})
		if err != nil || len(alerts) == 0 {
			return err
		}
		_, err = h.MarkAlert(h.t.Context(), now, tenant, alerts[0].ID, store.AlertSent)
		return err
	}
}

// forget makes a store a new one.
func (w *walk) forget(string) action {
	return func(h *handle, _ time.Time) error {
		h.cache.forget()
		return nil
	}
}
