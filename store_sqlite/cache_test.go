package storesqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acf68eca/usage/store"
)

// writersStanding is a tenant's standing as the writer has it in its cache, which nothing but a rule is shown.
func (h *handle) writersStanding(tenant string, at time.Time) (standing store.Standing) {
	h.t.Helper()
	err := refused(h.Hold(h.t.Context(), at, []store.Hold{holdOf(tenant, "never", at, 1)},
		func(s *store.Standing, _ *store.Hold) store.Verdict {
			standing = copied(s)
			return store.Verdict{Refusal: errRefused}
		}))
	is(h.t, "the hold", err, errRefused)
	return standing
}

// shown is a standing as rules are shown it: with the holds' sums and without the holds.
func shown(s store.Standing) store.Standing {
	s.Holds = nil
	return s
}

// copied is a standing of one's own: what a rule is shown is the store's.
func copied(s *store.Standing) store.Standing {
	c := *s
	c.MonthTotals, c.DayTotals = copies(s.MonthTotals), copies(s.DayTotals)
	c.Held, c.Alerts, c.Arrivals = copies(s.Held), copies(s.Alerts), slices.Clone(s.Arrivals)
	for _, t := range slices.Concat(c.MonthTotals, c.DayTotals, c.Held) {
		t.Meters = slices.Clone(t.Meters)
	}
	return c
}

func copies[T any](list []*T) []*T {
	out := make([]*T, len(list))
	for i, v := range list {
		c := *v
		out[i] = &c
	}
	return out
}

// unordered compares standings: their lists are in no fixed order.
func unordered() []cmp.Option {
	return []cmp.Option{
		cmpopts.SortSlices(func(a, b *store.Total) bool { return a.Provider+a.Model < b.Provider+b.Model }),
		cmpopts.SortSlices(func(a, b store.Arrival) bool { return a.Per < b.Per }),
		cmpopts.SortSlices(func(a, b *store.Alert) bool { return a.Number < b.Number }),
	}
}

// Two handles write the same tenants in random turns. After each write both writers, cache and all, stand where a
// handle that has cached nothing stands.
func TestTheWritersCacheFollowsOtherHandles(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			w := &walk{
				Rand: rand.New(rand.NewPCG(seed, 1)), now: noon(),
				handles: []*handle{open(t, path), openConfig(t, path, Config{SynchronousNormal: true})},
			}
			reader := open(t, path)
			for _, tenant := range []string{acme, "globex", "initech"} {
				reader.must("Suspend", reader.Suspend(t.Context(), noon(), tenant, ""))
			}
			for step := range 120 {
				what := w.step(t)
				tenant := w.tenant()
				want := shown(reader.standing(tenant, w.now))
				for i, h := range w.handles {
					equal(t, fmt.Sprintf("step %d (%s): handle %d's standing of %s", step, what, i, tenant),
						h.writersStanding(tenant, w.now), want, unordered()...)
				}
				if t.Failed() {
					return
				}
			}
			fresh := open(t, path)
			fresh.healthy()
			equal(t, "the ledger", reader.state(), fresh.state())
		})
	}
}

// walk is a random history of writes by several handles, under a clock that mostly goes forward.
type walk struct {
	*rand.Rand
	handles []*handle
	now     time.Time
	count   int
}

func (w *walk) tenant() string { return []string{acme, "globex", "initech"}[w.IntN(3)] }

// step has one handle write something, and says what.
func (w *walk) step(t *testing.T) string {
	h := w.handles[w.IntN(len(w.handles))]
	w.count++
	w.now = w.now.Add(time.Duration(w.IntN(200)-20) * time.Minute)
	writes := []struct {
		name  string
		write func(*handle, string) error
	}{
		{"append", w.append}, {"append", w.append}, {"hold", w.hold}, {"hold", w.hold}, {"settle", w.settle},
		{"release", w.release}, {"quota", w.quota}, {"tenant", w.setTenant}, {"suspend", w.suspend}, {"alerts", w.alerts},
		{"rebuild", func(h *handle, tenant string) error { return h.Rebuild(h.t.Context(), tenant) }},
		{"prune", w.prune}, {"prune holds", w.pruneHolds}, {"fail", w.fail},
	}
	chosen := writes[w.IntN(len(writes))]
	if err := chosen.write(h, w.tenant()); err != nil {
		t.Fatalf("step %d, %s: %v", w.count, chosen.name, err)
	}
	return chosen.name
}

// records are a few calls, some late, of a few models.
func (w *walk) records(tenant string) []store.Record {
	records := make([]store.Record, 1+w.IntN(5))
	for i := range records {
		at := w.now.Add(-time.Duration(w.IntN(3)*w.IntN(40*24)) * time.Hour)
		records[i] = call(tenant, fmt.Sprintf("%d-%d", w.count, i), at, int64(w.IntN(100)))
		records[i].Model = []string{"gpt-4", "gpt-5", "o3"}[w.IntN(3)]
	}
	return records
}

// batch are calls of two tenants in any order.
func (w *walk) batch(tenant string) []store.Record {
	records := slices.Concat(w.records(tenant), w.records("hooli"))
	w.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records
}

func (w *walk) append(h *handle, tenant string) error {
	_, err := h.Append(h.t.Context(), w.now, lend(w.batch(tenant)...), w.judge)
	return err
}

// judge raises an alert now and then.
func (w *walk) judge(s *store.Standing, _ []*store.Record) store.Judgement {
	if w.IntN(3) > 0 {
		return store.Judgement{Arrivals: w.arrivals()}
	}
	return store.Judgement{Alerts: []store.Alert{{AlertKey: store.AlertKey{
		Kind: store.CostWarning, Meter: "cost", Per: store.Day, Max: int64(w.IntN(5)), Percent: 80, PeriodStart: s.Day.Start,
	}, PeriodEnd: s.Day.End, Used: 1}}}
}

// arrivals are those of one of two rates, or none.
func (w *walk) arrivals() []store.Arrival {
	if w.IntN(2) == 0 {
		return nil
	}
	return []store.Arrival{{
		RateKey: store.RateKey{Meter: "calls", Per: []store.Window{store.Minute, store.Second}[w.IntN(2)]},
		At:      w.now.Add(time.Duration(w.IntN(100)) * time.Microsecond), Rest: int64(w.IntN(5)), Taken: int64(w.count),
	}}
}

func (w *walk) hold(h *handle, tenant string) error {
	hold := holdOf(tenant, fmt.Sprint("hold-", w.count), w.now, int64(w.IntN(50)))
	hold.ExpiresAt = w.now.Add(time.Duration(w.IntN(600)) * time.Minute)
	return refused(h.Hold(h.t.Context(), w.now, []store.Hold{hold}, func(*store.Standing, *store.Hold) store.Verdict {
		return store.Verdict{Arrivals: w.arrivals()}
	}))
}

func (w *walk) settle(h *handle, tenant string) error {
	r := call(tenant, fmt.Sprint("settling-", w.count), w.now, 10)
	r.HoldID = fmt.Sprint("hold-", w.IntN(w.count))
	_, err := h.Append(h.t.Context(), w.now, lend(r), w.judge)
	return err
}

func (w *walk) release(h *handle, tenant string) error {
	for _, hold := range h.standing(tenant, w.now).Holds {
		return h.Release(h.t.Context(), w.now, tenant, hold.ID,
			func(*store.Standing, *store.Hold) []store.Arrival { return w.arrivals() })
	}
	return nil
}

func (w *walk) quota(h *handle, tenant string) error {
	_, err := h.SetQuota(h.t.Context(), w.now, store.Quota{
		TenantID: tenant, Limits: []store.Limit{
			{Meter: "cost", Per: store.Month, Max: int64(w.IntN(1000))},
			{Meter: "calls", Per: []store.Window{store.Day, store.Minute}[w.IntN(2)], Max: 5},
		},
	}, w.judge)
	return err
}

func (w *walk) setTenant(h *handle, tenant string) error {
	return h.SetTenant(h.t.Context(), w.now, store.Tenant{
		ID: tenant, Name: fmt.Sprint(tenant, w.count), BillingDay: 1 + w.IntN(31),
		TimeZone: []string{"UTC", "Asia/Kolkata", "America/Santiago"}[w.IntN(3)],
	})
}

func (w *walk) suspend(h *handle, tenant string) error {
	return h.Suspend(h.t.Context(), w.now, tenant, []string{"", "unpaid"}[w.IntN(2)])
}

func (w *walk) alerts(h *handle, tenant string) error {
	if _, err := h.ClaimAlerts(h.t.Context(), w.now, time.Hour, 2); err != nil {
		return err
	}
	for _, alert := range h.standing(tenant, w.now).Alerts {
		if _, err := h.MarkAlert(h.t.Context(), w.now, tenant, alert.ID, store.AlertAcknowledged); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) prune(h *handle, tenant string) error {
	_, err := h.Prune(h.t.Context(), tenant, w.now.Add(-time.Duration(1+w.IntN(60*24))*time.Hour), 1+w.IntN(3))
	return err
}

func (w *walk) pruneHolds(h *handle, tenant string) error {
	_, err := h.PruneHolds(h.t.Context(), tenant, fmt.Sprint("hold-", w.IntN(w.count)), 1+w.IntN(100))
	return err
}

// fail appends what is rolled back.
func (w *walk) fail(h *handle, tenant string) error {
	err := recovered(func() error {
		judge := func(*store.Standing, []*store.Record) store.Judgement { panic(errRefused) }
		_, err := h.Append(h.t.Context(), w.now, lend(w.batch(tenant)...), judge)
		return err
	})
	if !errors.Is(err, errRefused) {
		return fmt.Errorf("a judge that panics: %w", err)
	}
	return nil
}

func TestRowsThatMoveKeepTheirTotals(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	for i := range 8 {
		h.add(calls(fmt.Sprint("tenant-", i), "a", 3)...)
	}
	// Another connection compacts the file, which may number rows anew, and then turns their numbers round, so that each
	// number that was known is now that of another row.
	db := foreign(t, path)
	run(t, db, "VACUUM")
	run(t, db, "UPDATE usage_days SET rowid = -rowid")
	run(t, db, "UPDATE usage_days SET rowid = rowid + 9")
	if number(t, db, "SELECT rowid FROM usage_days ORDER BY tenant DESC LIMIT 1") > 2 {
		t.Fatal("the rows are not turned round, so there is nothing to test")
	}
	for i := range 8 {
		h.add(calls(fmt.Sprint("tenant-", i), "c", 2)...)
	}
	h.healthy()
	equal(t, "records", len(h.state().Records), 8*5)
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("tenants past the bound keep their totals", func(t *testing.T) {
		t.Parallel()
		h := open(t, newFile(t))
		h.prepare()
		for i := range 4 {
			h.add(calls(fmt.Sprint("tenant-", i), "a", 2)...)
		}
		for i := range maxTenants - len(h.cache.tenants) - 1 {
			h.cache.tenants[fmt.Sprint("filler-", i)] = &tenant{}
		}
		var batch []store.Record
		for i := range 2 { // the bound is passed while totals of all these tenants are yet to be written
			for _, id := range []string{"tenant-0", "tenant-4", "tenant-5", "tenant-6"} {
				batch = append(batch, call(id, fmt.Sprint("b-", i), noon(), 1))
			}
		}
		h.add(batch...)
		h.add(calls("tenant-0", "c", 2)...)
		if n := len(h.cache.tenants); n > 1 {
			t.Errorf("%d tenants are cached past the bound", n)
		}
		h.healthy()
		equal(t, "records", len(h.state().Records), 20+4*2+8+2)
	})
	t.Run("as many tenants as the bound are kept", func(t *testing.T) {
		t.Parallel()
		h := open(t, newFile(t))
		h.add(calls(acme, "a", 1)...)
		for i := range maxTenants - 1 {
			h.cache.tenants[fmt.Sprint("filler-", i)] = &tenant{}
		}
		h.add(calls(acme, "b", 1)...)
		equal(t, "cached tenants", len(h.cache.tenants), maxTenants)
	})
	t.Run("little is kept of a tenant's past", func(t *testing.T) {
		t.Parallel()
		h := open(t, newFile(t))
		for i := range 20 { // 20 months, then 9 days of one
			h.add(call(acme, fmt.Sprint("m", i), noon().AddDate(0, -i, 0), 1))
			h.add(call(acme, fmt.Sprint("d", i), noon().AddDate(0, 0, -(i%9)), 1))
			n := h.cache.tenants[acme]
			if len(n.months) > 4 { // three, and the one that the judge is shown
				t.Fatalf("%d months are kept", len(n.months))
			}
			for _, month := range n.months {
				if len(month.days) > 5 {
					t.Fatalf("%d days of a month are kept", len(month.days))
				}
			}
		}
		h.healthy()
	})
	t.Run("texts and models past the bound keep their numbers", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		for i := range maxEntries - 2 {
			h.cache.texts[fmt.Sprint("filler-", i)] = -1
			h.cache.models[modelName{"filler", fmt.Sprint(i)}] = -1
			h.known.texts.put(int64(-1-i), "filler")
			h.known.models.put(int64(-1-i), modelName{"filler", "filler"})
		}
		records := calls(acme, "x", 12)
		for i := range records {
			records[i].Endpoint, records[i].Model = fmt.Sprint("/endpoint/", i%5), fmt.Sprint("model-", i%5)
			records[i].Lines[0].Meter = store.Meter(fmt.Sprint("meter_", i%5))
		}
		h.add(records...)
		for what, n := range map[string]int{
			"texts": len(h.cache.texts), "models": len(h.cache.models),
		} {
			if n > maxEntries {
				t.Errorf("%d %s are cached, more than %d", n, what, maxEntries)
			}
		}
		h.healthy()
		if n := len(h.known.texts.values); n > maxEntries {
			t.Errorf("%d texts are remembered, more than %d", n, maxEntries)
		}
		equal(t, "what another handle sees", open(t, path).state(), h.state())
	})
	t.Run("rates past the bound are forgotten", func(t *testing.T) {
		t.Parallel()
		h := open(t, newFile(t))
		h.prepare()
		for i := range int64(maxEntries) {
			h.cache.rates[store.Rate{Amount: -1, Per: i}] = -1
		}
		h.add(calls(acme, "x", 1)...)
		r := call(acme, "y", noon(), 1)
		r.Lines[0].Rate.Per = 77
		h.add(r)
		if n := len(h.cache.rates); n > maxEntries {
			t.Errorf("%d rates are cached, more than %d", n, maxEntries)
		}
		h.healthy()
	})
}

// A batch may have late calls of more periods than the cache keeps of a tenant; each call counts all the same.
func TestLateCallsOfManyPeriodsInOneBatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		days []int // before noon
	}{
		{"five days of one month and then another month", []int{0, 1, 2, 3, 40, 40, 0, 40}},
		{"a month for each call, there and back", []int{0, 40, 80, 120, 160, 200, 160, 120, 80, 40, 0, 0, 40, 80}},
		{"a day for each call", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, totals known %v", tt.name, known), func(t *testing.T) {
				t.Parallel()
				h := open(t, newFile(t))
				batch := func(prefix string) (records []store.Record) {
					for i, days := range tt.days {
						records = append(records, call(acme, fmt.Sprint(prefix, i), noon().AddDate(0, 0, -days), 1))
					}
					return records
				}
				want := len(tt.days)
				if known {
					for _, r := range batch("before-") {
						h.add(r)
					}
					want *= 2
				}
				h.add(batch("batch-")...)
				h.healthy()
				equal(t, "records", len(h.state().Records), want)
			})
		}
	}
}
