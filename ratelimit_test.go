package usage_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
)

// perMinute gives acme 60 calls a minute, at most burst of them at once, and whatever limits come besides.
func (b *bench) perMinute(t testing.TB, burst int64, besides ...usage.Limit) {
	t.Helper()
	b.quota(t, usage.Quota{TenantID: "acme", Limits: append([]usage.Limit{
		{Provider: "api", Meter: usage.Calls, Per: usage.Minute, Max: usd("60"), Burst: burst},
	}, besides...)})
}

// tooFast wants a refusal by a rate, with what remains and when to come back.
func tooFast(t testing.TB, b *bench, err error, remaining string, retry time.Duration) {
	t.Helper()
	var refusal *usage.QuotaError
	if !errors.As(err, &refusal) || !errors.Is(err, usage.ErrQuotaExceeded) {
		t.Fatalf("got the error %v, want a *QuotaError", err)
	}
	if !refusal.Remaining.Equal(usd(remaining)) || refusal.RetryAfter != retry || !refusal.ResetsAt.Equal(b.clock.now().Add(retry)) {
		t.Errorf("%s remain, retry after %v at %v; want %s and %v", refusal.Remaining, refusal.RetryAfter, refusal.ResetsAt, remaining, retry)
	}
	if !refusal.Limit.Per.IsRate() {
		t.Errorf("refused by the limit %+v", refusal.Limit)
	}
}

// remain wants so many units of the tenant's n-th limit, a rate, to be left now.
func (b *bench) remain(t testing.TB, n int, want int64) {
	t.Helper()
	limit := b.current(t, "acme").Limits[n]
	burst := decimal.NewFromInt(limit.Limit.Burst)
	if limit.Limit.Burst == 0 {
		burst = limit.Limit.Max
	}
	if left := burst.Sub(limit.Used); !left.Equal(decimal.NewFromInt(want)) {
		t.Errorf("%s of limit %d remain, want %d", left, n, want)
	}
}

// The table of the rate's own test, by way of the tracker.
func TestReserveKeepsARate(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5)
	for range 5 {
		b.reserve(t, asking("acme", "", 1, 0))
	}
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, b, err, "0", time.Second)
	tooFast(t, b, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), "0", time.Second)
	b.clock.advance(3 * time.Second)
	b.reserve(t, asking("acme", "", 1, 0))
	b.remain(t, 0, 2)
	b.clock.advance(100 * time.Millisecond)
	b.reserve(t, asking("acme", "", 1, 0))
	b.remain(t, 0, 1)
	b.clock.advance(900 * time.Millisecond)
	b.reserve(t, asking("acme", "", 1, 0))
	b.remain(t, 0, 1)
	b.clock.advance(4 * time.Second)
	b.reserve(t, asking("acme", "", 1, 0))
	b.remain(t, 0, 4)
	other := asking("acme", "", 1, 0)
	other.Provider = "api2" // which the rate does not count
	for range 10 {
		b.reserve(t, other)
	}
	b.remain(t, 0, 4)
}

func TestARateOfTokensCountsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Model: model, Meter: usage.Tokens, Per: usage.Second, Max: usd("1000")}}})
	ask := func(model string, in, out int64) usage.Estimate {
		return usage.Estimate{TenantID: "acme", Provider: "api", Model: model, InputTokens: in, OutputTokens: out}
	}
	b.reserve(t, ask("m-2026-01-02", 300, 400)) // a snapshot of the model
	_, err := b.Reserve(t.Context(), ask(model, 200, 101))
	tooFast(t, b, err, "300", time.Millisecond)
	b.reserve(t, ask("other", 5_000, 0))
	b.reserve(t, ask(model, 0, 300))
	wantError(t, b.CheckQuota(t.Context(), ask(model, 0, 0)), nil) // it asks nothing of the rate
	_, err = b.Reserve(t.Context(), ask(model, 1_000, 1))
	wantError(t, err, usage.ErrExceedsBurst)
	var refusal *usage.QuotaError
	if errors.Is(err, usage.ErrQuotaExceeded) || !errors.As(err, &refusal) || refusal.RetryAfter != 0 || !refusal.ResetsAt.IsZero() {
		t.Errorf("waiting would help against %v", err)
	}
	wantError(t, b.CheckQuota(t.Context(), ask(model, 1_000, 1)), usage.ErrExceedsBurst)
}

func TestReserveTakesOfAllLimitsOrOfNone(t *testing.T) {
	t.Parallel()
	limit := usage.Limit{Meter: usage.Cost, Max: usd("10")}
	tokens := usage.Limit{Meter: usage.Requests, Per: usage.Second, Max: usd("3")}
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5, limit, tokens)
	stands := func(calls, requests, dollars int64) {
		t.Helper()
		b.remain(t, 0, calls)
		b.remain(t, 2, requests)
		wantDollars(t, "held", decimal.NewFromInt(dollars).String(), b.current(t, "acme").Limits[1].Held)
	}
	b.reserve(t, asking("acme", "", 1, 0))
	stands(4, 2, 1)

	_, err := b.Reserve(t.Context(), asking("acme", "", 3, 0)) // of requests only two are left
	tooFast(t, b, err, "2", 333_334*time.Microsecond)
	_, err = b.Reserve(t.Context(), asking("acme", "", 4, 0)) // more than ever are there at once
	wantError(t, err, usage.ErrExceedsBurst)
	stands(4, 2, 1)

	b.log(t, request("acme", "", 9)) // ten dollars with the one that is held
	stands(3, 0, 1)
	b.clock.advance(time.Minute)
	_, err = b.Reserve(t.Context(), asking("acme", "", 1, 0)) // there are calls and requests, and no dollars
	wantError(t, err, usage.ErrQuotaExceeded)
	stands(5, 3, 1)

	if err := b.Suspend(t.Context(), "acme", "unpaid"); err != nil {
		t.Fatal(err)
	}
	_, err = b.Reserve(t.Context(), asking("acme", "", 1, 0))
	wantError(t, err, usage.ErrSuspended)
	stands(5, 3, 1)

	if err := b.Resume(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	b.perMinute(t, 5, usage.Limit{Meter: usage.Cost, Max: usd("100")}, tokens)
	b.reserve(t, asking("acme", "taken", 1, 0))
	_, err = b.Reserve(t.Context(), asking("acme", "taken", 1, 0))
	wantError(t, err, usage.ErrConflict)
	stands(4, 2, 2)
}

func TestTheRateThatTakesLongestIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 1, usage.Limit{Meter: usage.Calls, Per: usage.Minute, Max: usd("2"), Burst: 1},
		usage.Limit{Meter: usage.Calls, Per: usage.Second, Max: usd("2"), Burst: 1})
	b.reserve(t, asking("acme", "", 1, 0))
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, b, err, "0", 30*time.Second)
}

func TestAReleasedReservationGivesARateBackWhatHasNotComeBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5)
	var reservations []*usage.Reservation
	for range 5 {
		reservations = append(reservations, b.reserve(t, asking("acme", "", 1, 0)))
	}
	release := func(n int) {
		t.Helper()
		if err := reservations[n].Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	release(1)
	b.remain(t, 0, 1)
	release(1) // once
	b.remain(t, 0, 1)
	b.clock.advance(2 * time.Second)
	b.remain(t, 0, 3)
	release(0) // it has come back
	b.remain(t, 0, 3)
	release(4)
	b.remain(t, 0, 4)
	b.clock.advance(time.Hour)
	release(3) // it has expired
	b.remain(t, 0, 5)
	b.log(t, reserved(request("acme", "", 1), b.reserve(t, asking("acme", "settled", 1, 0)).ID))
	wantError(t, b.Release(t.Context(), "acme", "settled"), usage.ErrReservationSettled)
	b.remain(t, 0, 4)
}

func TestACallThatIsLoggedCountsForARateUnlessItsReservationDid(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5)
	b.log(t, request("acme", "1", 1))
	b.remain(t, 0, 4)
	b.log(t, request("acme", "1", 1)) // a duplicate
	b.remain(t, 0, 4)
	b.log(t, happened(request("acme", "2", 1), b.clock.now().Add(-time.Hour))) // late
	b.remain(t, 0, 4)
	b.reserve(t, asking("acme", "r", 1, time.Second))
	b.log(t, reserved(request("acme", "3", 1), "r"))
	b.remain(t, 0, 3)
	b.reserve(t, asking("acme", "expired", 1, time.Microsecond))
	b.clock.advance(time.Microsecond)
	b.log(t, reserved(request("acme", "4", 1), "expired"))
	b.remain(t, 0, 2)
	b.log(t, reserved(request("acme", "5", 1), "unheard of"))
	b.remain(t, 0, 1)
	failed := request("acme", "6", 0)
	failed.Status = 500
	b.log(t, failed)
	b.remain(t, 0, 0)
	for _, id := range []string{"7", "8", "9"} { // it is never refused, nor owed for longer than a burst
		b.log(t, request("acme", id, 1))
	}
	tooFast(t, b, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), "0", time.Second)
}

func TestRepricingCountsForNoRate(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5)
	call := request("acme", "1", 1)
	call.Model = "new"
	b.log(t, call)
	b.remain(t, 0, 4)
	book, err := dollarBook(t, "1").With(usage.Price{Provider: "api", Model: "new", Meter: usage.Requests, Amount: usd("1"), Per: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetPrices(book); err != nil {
		t.Fatal(err)
	}
	if done, err := b.Reprice(t.Context(), usage.RepriceFilter{TenantID: "acme"}); err != nil || done.Priced != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	b.remain(t, 0, 4)
}

func TestARateThatRefusesRaisesOneAlertADay(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 2)
	refused := func() {
		t.Helper()
		_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
		wantError(t, err, usage.ErrQuotaExceeded)
	}
	raised := func() []usage.Alert { return b.alerts(t, usage.AlertFilter{Kind: usage.AlertRateLimit}) }
	b.reserve(t, asking("acme", "", 1, 0))
	b.reserve(t, asking("acme", "", 1, 0))
	wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), usage.ErrQuotaExceeded)
	equal(t, "alerts before a refusal that binds", 0, len(raised()))
	refused()
	refused()
	alerts := raised()
	if len(alerts) != 1 {
		t.Fatalf("%d alerts, want one", len(alerts))
	}
	a := alerts[0]
	equal(t, "period", period(t, "2026-05-20", "2026-05-21"), a.Period)
	if a.Provider != "api" || a.Meter != usage.Calls || a.Per != usage.Minute || !a.Max.Equal(usd("60")) || !a.Used.Equal(usd("2")) {
		t.Errorf("alert %+v", a)
	}
	b.clock.set(instant(t, "2026-05-21"))
	b.log(t, request("acme", "1", 1))
	b.log(t, request("acme", "2", 1))
	equal(t, "alerts of a rate that is reached", 1, len(raised()))
	b.log(t, request("acme", "3", 1)) // what was not asked for passes it
	equal(t, "alerts on the next day", 2, len(raised()))
	refused()
	equal(t, "alerts of one day", 2, len(raised()))
}

func TestASoftRateRefusesNothingAndIsAlerted(t *testing.T) {
	t.Parallel()
	told := make(chan usage.Alert, 4)
	b := newBench(t, usage.Config{OnAlert: func(a usage.Alert) { told <- a }})
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Meter: usage.Calls, Per: usage.Second, Max: usd("1"), Soft: true}}})
	for range 3 {
		wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 1, 0)), nil)
		b.reserve(t, asking("acme", "", 1, 0))
	}
	if a := <-told; a.Kind != usage.AlertRateLimit || a.Per != usage.Second {
		t.Errorf("told of %+v", a)
	}
	equal(t, "alerts", 1, len(b.alerts(t, usage.AlertFilter{})))
}

func TestARateHoldsAcrossProcessesAndRestarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	first := benchOn(t, openStore(t, path), usage.Config{})
	first.perMinute(t, 20)
	benches := []*bench{first, first.another(t, path, usage.Config{})}
	var admitted atomic.Int64
	together(16, func(i int) {
		for range 5 {
			_, err := benches[i%2].Reserve(t.Context(), asking("acme", "", 1, 0))
			switch {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, usage.ErrQuotaExceeded):
				t.Error(err)
			}
		}
	})
	equal(t, "admitted", int64(20), admitted.Load())
	third := first.another(t, path, usage.Config{})
	_, err := third.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, third, err, "0", time.Second)
	first.clock.advance(2 * time.Second)
	third.reserve(t, asking("acme", "", 1, 0))
	benches[1].reserve(t, asking("acme", "", 1, 0))
	_, err = first.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, first, err, "0", time.Second)
}

func TestARateThatIsChangedOrAClockThatGoesBackLocksNobodyOut(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 50)
	for range 50 {
		b.reserve(t, asking("acme", "", 1, 0))
	}
	b.perMinute(t, 2) // of the 50 seconds' wait two are left
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, b, err, "0", time.Second)
	b.clock.advance(-24 * time.Hour)
	_, err = b.Reserve(t.Context(), asking("acme", "", 1, 0))
	tooFast(t, b, err, "0", time.Second)
	b.perMinute(t, 4)
	b.clock.advance(24 * time.Hour)
	b.clock.advance(48 * time.Second)
	b.reserve(t, asking("acme", "", 1, 0)) // three of the four that fit at once, for two seconds of the fifty are left
	b.remain(t, 0, 1)
	b.quota(t, usage.Quota{TenantID: "acme"})
	b.reserve(t, asking("acme", "", 1, 0))
}

func TestWhereATenantStandsWithARate(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.perMinute(t, 5)
	b.reserve(t, asking("acme", "", 1, 0))
	b.clock.advance(500 * time.Millisecond)
	limit := b.current(t, "acme").Limits[0]
	if !limit.Used.Equal(usd("1")) || !limit.Held.IsZero() || !limit.Percent.Equal(usd("20")) {
		t.Errorf("%+v", limit)
	}
	want := usage.Period{Start: b.clock.now(), End: b.clock.now().Add(500 * time.Millisecond)}
	equal(t, "period", want, limit.Period)
	quota, err := b.Quota(t.Context(), "acme")
	if err != nil || len(quota.Limits) != 1 || quota.Limits[0].Burst != 5 || quota.Limits[0].Per != usage.Minute {
		t.Errorf("quota %+v, %v", quota, err)
	}
}

// hurried is how many calls each of some processes tries to reserve, and hurriedRate how many of all of them a rate gives.
const hurried, hurriedRate = 60, 100

// playHurrier reserves as many calls as a rate gives, and says so of each.
func playHurrier(ctx context.Context, tracker *usage.Tracker, _ int) error {
	return byGoroutines(hurried, func(int) error {
		_, err := tracker.Reserve(ctx, usage.Estimate{TenantID: "acme", Provider: "api", Model: model})
		switch {
		case err == nil:
			proctest.Say("reserved")
		case !errors.Is(err, usage.ErrQuotaExceeded):
			return err
		}
		return nil
	})
}

func TestProcessesThatRaceGetWhatARateGives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	tracker := crashTracker(t, path, 0) // under the clock of the processes, which stands still
	err := tracker.SetQuota(t.Context(), usage.Quota{TenantID: "acme", Limits: []usage.Limit{
		{Meter: usage.Calls, Per: usage.Minute, Max: decimal.NewFromInt(hurriedRate)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var running []*proctest.Process
	for i := range 4 {
		running = append(running, startProcess(t, "hurrier", path, i+1))
	}
	for _, p := range running {
		p.Begin()
	}
	reserved := 0
	for _, p := range running {
		reserved += len(p.End())
	}
	equal(t, "reserved", hurriedRate, reserved)
	wantError(t, tracker.CheckQuota(t.Context(), usage.Estimate{TenantID: "acme", Provider: "api"}), usage.ErrQuotaExceeded)
}
