package usage_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

// counting counts how often a store is asked for a standing, and can fail.
type counting struct {
	store.Store
	standings atomic.Int64
	before    atomic.Pointer[func()] // called before a standing is handed over, after it was read
}

func (s *counting) Standing(ctx context.Context, tenantID string, at time.Time) (store.Standing, error) {
	s.standings.Add(1)
	standing, err := s.Store.Standing(ctx, tenantID, at)
	if f := s.before.Load(); f != nil {
		(*f)()
	}
	return standing, err
}

// checked is a bench whose store counts.
func checked(t testing.TB, cfg usage.Config) (*bench, *counting) {
	t.Helper()
	st := &counting{Store: openStore(t, filepath.Join(t.TempDir(), "usage.db"))}
	return benchOn(t, st, cfg), st
}

// admits wants CheckQuota to let a call of so many dollars pass, or not.
func (b *bench) admits(t testing.TB, dollars int64, want bool) {
	t.Helper()
	err := b.CheckQuota(t.Context(), asking("acme", "", dollars, 0))
	if want {
		wantError(t, err, nil)
	} else if err == nil {
		t.Errorf("a call of %d dollars may be made", dollars)
	}
}

func TestCheckQuotaIsAnsweredFromMemory(t *testing.T) {
	t.Parallel()
	b, st := checked(t, usage.Config{})
	b.limited(t, "acme", 10)
	reads := func(want int64) {
		t.Helper()
		equal(t, "standings read", want, st.standings.Load())
	}
	for range 5 {
		b.admits(t, 10, true)
	}
	reads(1)
	b.clock.advance(time.Second) // as old as it may be
	b.admits(t, 10, true)
	reads(1)
	b.clock.advance(time.Microsecond)
	b.admits(t, 10, true)
	reads(2)
	b.log(t, request("acme", "1", 4))
	b.clock.advance(time.Second) // what was logged has been read a second ago, and not two
	b.admits(t, 6, true)
	b.admits(t, 7, false)
	reads(2)
}

func TestCheckQuotaSeesThisProcesssWritesAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := checked(t, usage.Config{})
	b.limited(t, "acme", 10)
	b.admits(t, 10, true)
	b.log(t, request("acme", "1", 4))
	b.admits(t, 7, false)
	b.admits(t, 6, true)
	b.reserve(t, asking("acme", "r", 2, 0))
	b.admits(t, 5, false)
	b.admits(t, 4, true)
	_, err := b.Reserve(t.Context(), asking("acme", "r", 1, 0))
	wantError(t, err, usage.ErrConflict)
	b.admits(t, 4, true)
	if err := b.Release(t.Context(), "acme", "r"); err != nil {
		t.Fatal(err)
	}
	b.admits(t, 6, true)
	b.reserve(t, asking("acme", "s", 6, 0))
	b.log(t, reserved(request("acme", "2", 1), "s"))
	b.admits(t, 6, false)
	b.admits(t, 5, true)
	if err := b.Suspend(t.Context(), "acme", "unpaid"); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), usage.ErrSuspended)
	if err := b.Resume(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	b.admits(t, 5, true)
	b.limited(t, "acme", 6)
	b.admits(t, 2, false)
	b.admits(t, 1, true)
	// Noon of the 20th is before the billing day, so the calls of today are in a month of their own.
	b.clock.advance(-12 * time.Hour)
	b.log(t, request("acme", "3", 1))
	b.admits(t, 1, false)
	b.clock.advance(12 * time.Hour)
	if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: "Pacific/Kiritimati", BillingDay: 21}); err != nil {
		t.Fatal(err)
	}
	b.admits(t, 1, true)
	b.perMinute(t, 1)
	b.admits(t, 1, true)
	b.log(t, request("acme", "4", 1))
	b.admits(t, 1, false)
}

func TestCheckQuotaSeesOtherProcessesWritesAfterQuotaMaxAge(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	b := benchOn(t, openStore(t, path), usage.Config{QuotaMaxAge: time.Minute})
	other := b.another(t, path, usage.Config{})
	b.limited(t, "acme", 10)
	b.admits(t, 1, true)
	other.log(t, request("acme", "1", 10))
	other.admits(t, 1, false)
	b.admits(t, 1, true) // advice that is up to a minute old
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
	wantError(t, err, usage.ErrQuotaExceeded) // what binds is not
	b.clock.advance(time.Minute + time.Microsecond)
	b.admits(t, 1, false)
}

func TestCheckQuotaFollowsTheClock(t *testing.T) {
	t.Parallel()
	b, st := checked(t, usage.Config{QuotaMaxAge: 100 * 24 * time.Hour})
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Meter: usage.Cost, Per: usage.Day, Max: usd("10")}}})
	b.log(t, request("acme", "1", 10))
	b.admits(t, 1, false)
	b.clock.set(instant(t, "2026-05-20T23:59:59"))
	b.admits(t, 1, false)
	b.clock.set(instant(t, "2026-05-21")) // yesterday's standing is no answer today
	b.admits(t, 10, true)
	b.reserve(t, asking("acme", "", 10, time.Minute))
	b.admits(t, 1, false)
	read := st.standings.Load()
	b.clock.advance(time.Minute - time.Microsecond)
	b.admits(t, 1, false)
	equal(t, "standings read while the reservation holds", read, st.standings.Load())
	b.clock.advance(time.Microsecond) // it has run out
	b.admits(t, 10, true)
	b.clock.set(instant(t, "2026-05-20T12")) // a clock that goes back is on yesterday again
	b.admits(t, 1, false)
}

// A write that is committed while a standing is being read, from before it, is not lost to it.
func TestCheckQuotaIsNotLeftWithWhatAWriteHasOverrun(t *testing.T) {
	t.Parallel()
	b, st := checked(t, usage.Config{QuotaMaxAge: time.Hour})
	b.limited(t, "acme", 10)
	for name, write := range map[string]func(){
		"a call":  func() { b.log(t, request("acme", "1", 6)) },
		"a quota": func() { b.limited(t, "acme", 4) },
		"a release": func() {
			if err := b.reserve(t, asking("acme", "r", 1, 0)).Release(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		b.limited(t, "acme", 10)
		b.clock.advance(2 * time.Hour)
		once := new(atomic.Bool)
		between := func() {
			if once.CompareAndSwap(false, true) {
				write()
			}
		}
		st.before.Store(&between)
		wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 0, 0)), nil)
		st.before.Store(nil)
		equal(t, name+": written between", true, once.Load())
		_, err := b.Reserve(t.Context(), asking("acme", "probe "+name, 5, time.Microsecond))
		b.clock.advance(time.Microsecond)
		b.admits(t, 5, err == nil)
	}
}

func TestCheckQuotaOfMoreTenantsThanAreKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{QuotaMaxAge: time.Hour})
	b.limited(t, "acme", 1)
	b.admits(t, 1, true)
	for i := range 10_500 {
		wantError(t, b.CheckQuota(t.Context(), asking(fmt.Sprint("tenant ", i), "", 1, 0)), nil)
	}
	b.admits(t, 2, false)
}

func TestCheckQuotaBesideWritersEndsWhereTheLedgerStands(t *testing.T) {
	t.Parallel()
	b, _ := checked(t, usage.Config{QuotaMaxAge: time.Hour})
	b.limited(t, "acme", 1_000)
	together(6, func(i int) {
		for range 20 {
			switch i {
			case 0, 1:
				if _, err := b.Log(t.Context(), request("acme", "", 1)); err != nil {
					t.Error(err)
				}
			case 2:
				r, err := b.Reserve(t.Context(), asking("acme", "", 3, 0))
				if err == nil {
					err = r.Release(t.Context())
				}
				wantError(t, err, nil)
			case 3:
				if _, err := b.Reserve(t.Context(), asking("acme", "", 1, 0)); err != nil {
					t.Error(err)
				}
			default:
				wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), nil)
			}
		}
	})
	b.admits(t, 1_000-60, true)
	b.admits(t, 1_000-59, false)
}

func TestCheckQuotaLooksAtEveryName(t *testing.T) {
	t.Parallel()
	tracker, good := benchCheck(t)
	for range 2 { // the first time, and when there are names that are known
		for field, estimate := range map[string]usage.Estimate{
			"TenantID": {TenantID: "ac\x00me", Provider: good.Provider, Model: good.Model},
			"Provider": {TenantID: good.TenantID, Provider: "OpenAI", Model: good.Model},
			"Model":    {TenantID: good.TenantID, Provider: good.Provider, Model: good.Model + " "},
		} {
			var invalid *usage.InvalidError
			err := tracker.CheckQuota(t.Context(), estimate)
			if !errors.As(err, &invalid) || len(invalid.Faults) != 1 || invalid.Faults[0].Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		wantError(t, tracker.CheckQuota(t.Context(), good), nil)
	}
}

func TestCheckQuotaThatAdmitsAllocatesNothing(t *testing.T) {
	b, estimate := benchCheck(t)
	if n := testing.AllocsPerRun(1000, func() {
		if err := b.CheckQuota(context.Background(), estimate); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// benchCheck is a tenant with limits on cost, tokens and calls, and an estimate that fits.
func benchCheck(t testing.TB) (*usage.Tracker, usage.Estimate) {
	t.Helper()
	tracker, err := usage.New(openStore(t, ":memory:"), usage.Config{QuotaMaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	err = tracker.SetQuota(t.Context(), usage.Quota{TenantID: "acme", Limits: []usage.Limit{
		{Meter: usage.Cost, Max: decimal.NewFromInt(1_000_000)},
		{Provider: usage.OpenAI, Meter: usage.Tokens, Per: usage.Day, Max: decimal.NewFromInt(1_000_000)},
		{Provider: usage.OpenAI, Meter: usage.Calls, Per: usage.Minute, Max: decimal.NewFromInt(600)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	estimate := usage.Estimate{
		TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4o-2024-08-06", InputTokens: 2_006, OutputTokens: 500,
	}
	if err := tracker.CheckQuota(t.Context(), estimate); err != nil {
		t.Fatal(err)
	}
	return tracker, estimate
}

// BenchmarkCheckQuota is an answer from memory with the clock in it: of a tenant with three limits, one of them on cost, for
// which the estimate is priced; of one without the limit on cost; and beside them what time.Now takes.
func BenchmarkCheckQuota(b *testing.B) {
	tracker, estimate := benchCheck(b)
	uncosted := estimate
	uncosted.TenantID = "globex"
	err := tracker.SetQuota(b.Context(), usage.Quota{TenantID: "globex", Limits: []usage.Limit{
		{Provider: usage.OpenAI, Meter: usage.Calls, Per: usage.Minute, Max: decimal.NewFromInt(600)},
	}})
	if err != nil {
		b.Fatal(err)
	}
	check := func(e *usage.Estimate) func() error {
		return func() error { return tracker.CheckQuota(context.Background(), *e) }
	}
	var now time.Time
	for _, bench := range []struct {
		name string
		run  func() error
	}{{"cost", check(&estimate)}, {"calls", check(&uncosted)}, {"clock", func() error { now = time.Now(); return nil }}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				if err := bench.run(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
	_ = now
}
