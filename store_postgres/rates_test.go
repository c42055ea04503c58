package storepostgres_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

const (
	hurried = "hurried" // the tenant
	// A rate gives so many calls a second, which a busy machine also tries, and so many at once.
	ratePerSecond, rateBurst = 5, 10
	// hurriedTries is how many reservations each process tries that is not killed.
	hurriedTries = 120
)

// playHurrier tries to reserve, says what it does before it does it and what became of it, and releases each tenth that it
// gets. Its clock is the machine's, which all processes share.
func playHurrier(ctx context.Context, tracker *usage.Tracker, number int) error {
	tries := hurriedTries
	if number <= killed {
		tries = 100_000
	}
	return byGoroutines(2, tries, func(i int) error {
		id := fmt.Sprintf("%d-%d", number, i)
		proctest.Say("begin reserve %s %d", id, time.Now().UnixNano())
		reservation, err := tracker.Reserve(ctx, usage.Estimate{
			TenantID: hurried, ID: id, Provider: "api", Model: "m", ExpiresIn: time.Hour,
		})
		if errors.Is(err, usage.ErrQuotaExceeded) {
			proctest.Say("end reserve %s %d full", id, time.Now().UnixNano())
			return nil
		}
		if err != nil {
			return err
		}
		proctest.Say("end reserve %s %d ok", id, time.Now().UnixNano())
		if i%10 != 0 {
			return nil
		}
		proctest.Say("begin release %s %d", id, time.Now().UnixNano())
		if err := reservation.Release(ctx); err != nil {
			return err
		}
		proctest.Say("end release %s %d ok", id, time.Now().UnixNano())
		return nil
	})
}

// Eight processes reserve under one rate, and half of them are killed in the middle of it.
func TestProcessesNeverPassARateTogether(t *testing.T) {
	t.Parallel()
	const processes = 8
	dsn, schema := storepostgres.Schema(t)
	tracker := newTracker(t, dsn, schema, time.Now)
	err := tracker.SetQuota(t.Context(), usage.Quota{TenantID: hurried, Limits: []usage.Limit{
		{Meter: usage.Calls, Per: usage.Second, Max: decimal.NewFromInt(ratePerSecond), Burst: rateBurst},
	}})
	if err != nil {
		t.Fatal(err)
	}
	running := make([]*proctest.Process, processes)
	for i := range running {
		running[i] = start(t, "hurrier", dsn, schema, i+1)
	}
	h := newHistory()
	var wg sync.WaitGroup
	for i, p := range running {
		p.Begin()
		lines := 0
		if i < killed {
			lines = 40 + 30*i + rand.IntN(20)
		}
		wg.Go(func() { h.follow(t, dsn, schema, p, i, lines) })
	}
	wg.Wait()
	h.withinRate(t)
	h.heldWithinRate(t, dsn, schema)
	noDeadlocks(t, dsn)
}

// given checks what is taken against the burst and what comes back in a stretch of time.
func given(t testing.TB, what string, taken int, stretch time.Duration) {
	t.Helper()
	if most := rateBurst*time.Second + ratePerSecond*stretch; time.Duration(taken)*time.Second > most {
		t.Errorf("%s: %d were taken within %s", what, taken, stretch)
	}
}

// done are the operations of a kind that had a result, "" being what a process did not live to tell.
func (h *history) done(kind string, results ...string) (done []operation) {
	for _, o := range h.operations {
		if o.kind == kind && slices.Contains(results, o.result) {
			done = append(done, *o)
		}
	}
	return done
}

// withinRate checks that between any two instants no more was taken than the rate gives, but for what was given back.
func (h *history) withinRate(t testing.TB) {
	t.Helper()
	taken, back := h.done("reserve", "ok"), h.done("release", "ok", "")
	slices.SortFunc(taken, func(a, b operation) int { return cmp.Compare(a.to, b.to) })
	for _, first := range taken {
		from, n := first.from/1000*1000, 0 // the tracker's clock has microseconds
		for _, o := range taken {
			if o.from < first.from {
				continue
			}
			n++
			returned := 0
			for _, r := range back {
				if r.from <= o.to && (r.result == "" || r.to >= from) {
					returned++
				}
			}
			given(t, "from "+first.id+" to "+o.id, n-returned, time.Duration(o.to-from))
		}
	}
	refused := len(h.done("reserve", "full"))
	if len(taken) <= rateBurst || refused == 0 {
		t.Errorf("%d reservations were taken and %d refused: the rate was hardly tried", len(taken), refused)
	}
	t.Logf("%d reservations were taken, %d given back, %d refused", len(taken), len(back), refused)
}

// heldWithinRate checks that all that is held is within the rate, what processes took that were killed among it, and that it
// is what they were told.
func (h *history) heldWithinRate(t testing.TB, dsn, schema string) {
	t.Helper()
	st, err := storepostgres.OpenConfig(t.Context(), dsn, storepostgres.Config{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	standing, err := st.Standing(t.Context(), hurried, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	first, last := int64(1<<62), int64(0)
	for _, o := range h.operations {
		first, last = min(first, o.from), max(last, o.to, h.died[o.number])
	}
	given(t, "all that is held", len(standing.Holds), time.Duration(last-first))
	held := make(map[string]bool)
	for _, hold := range standing.Holds {
		held[hold.ID] = true
		if o := h.operations["reserve "+hold.ID]; o == nil || o.result == "full" {
			t.Errorf("%s is held, and nobody was told so", hold.ID)
		}
	}
	for _, o := range h.done("reserve", "ok") {
		if h.operations["release "+o.id] == nil && !held[o.id] {
			t.Errorf("%s was reserved and is not held", o.id)
		}
	}
	for _, o := range h.done("release", "ok") {
		if held[o.id] {
			t.Errorf("%s was released and is held", o.id)
		}
	}
}
