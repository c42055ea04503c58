package usage_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
)

func TestLimitsCountWhatTheyName(t *testing.T) {
	t.Parallel()
	call := func(provider, model string, quantities usage.Quantities) usage.Call {
		return usage.Call{TenantID: "acme", Provider: provider, Model: model, Quantities: quantities}
	}
	for _, test := range []struct {
		name  string
		limit usage.Limit
		calls []usage.Call
		used  string
	}{
		{"calls, failed ones included", usage.Limit{Meter: usage.Calls}, []usage.Call{
			call("api", model, nil), {TenantID: "acme", Provider: "api", Model: model, Status: 500},
		}, "2"},
		{"one provider", usage.Limit{Provider: "api", Meter: usage.Calls}, []usage.Call{
			call("api", model, nil), call("api", "other", nil), call("api2", model, nil),
		}, "2"},
		{"one model", usage.Limit{Model: model, Meter: usage.Calls}, []usage.Call{
			call("api", model, nil), call("api2", model, nil), call("api", "other", nil), call("api", "mm", nil),
		}, "2"},
		{"a model's dated snapshots", usage.Limit{Provider: "api", Model: model, Meter: usage.Calls}, []usage.Call{
			call("api", "m-2026-01-02", nil), call("api", "m-2025-12-31", nil), call("api", "m-mini-2026-01-02", nil),
		}, "2"},
		{"one snapshot alone", usage.Limit{Model: "m-2026-01-02", Meter: usage.Calls}, []usage.Call{
			call("api", "m-2026-01-02", nil), call("api", "m-2025-12-31", nil), call("api", model, nil),
		}, "1"},
		{"tokens of every class, reasoning not twice", usage.Limit{Meter: usage.Tokens}, []usage.Call{
			call("api", model, usage.Quantities{usage.InputTokens: 5, usage.OutputTokens: 7, usage.Characters: 100}),
			{TenantID: "acme", Provider: "api", Model: model, Quantities: usage.Quantities{"own_tokens": 1},
				Unbilled: usage.Quantities{usage.ReasoningTokens: 50}},
		}, "13"},
		{"one meter", usage.Limit{Meter: usage.InputTokens}, []usage.Call{
			call("api", model, usage.Quantities{usage.InputTokens: 5, usage.OutputTokens: 7}),
		}, "5"},
		{"minutes of calls and audio", usage.Limit{Meter: usage.Minutes}, []usage.Call{
			call("api", model, usage.Quantities{usage.CallTime: 90_000, usage.AudioTime: 30_000}),
			call("api", model, usage.Quantities{usage.CallTime: 15_000}),
		}, "2.25"},
		{"cost", usage.Limit{Meter: usage.Cost}, []usage.Call{
			call("api", model, usage.Quantities{usage.Requests: 2, usage.InputTokens: 3}),
		}, "2.03"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, per := range []usage.Window{"", usage.Month, usage.Day} {
				b := newBench(t, usage.Config{})
				test.limit.Per, test.limit.Max = per, usd("100")
				b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{test.limit}})
				for i, call := range test.calls {
					call.ID = fmt.Sprint(i)
					b.log(t, call)
				}
				wantDollars(t, "used per "+string(per), test.used, b.current(t, "acme").Limits[0].Used)
			}
		})
	}
}

func TestReservationsHoldWhatTheirLimitsCount(t *testing.T) {
	t.Parallel()
	limit := func(l usage.Limit, most string) usage.Limit {
		l.Max = usd(most)
		return l
	}
	asked := usage.Estimate{
		TenantID: "acme", Provider: "api", Model: "m", InputTokens: 30, OutputTokens: 10, CallTime: 90 * time.Second,
	}
	for _, test := range []struct {
		name        string
		fits, short usage.Limit
	}{
		{"tokens", limit(usage.Limit{Meter: usage.Tokens}, "40"), limit(usage.Limit{Meter: usage.Tokens}, "39")},
		{"one meter", limit(usage.Limit{Meter: usage.OutputTokens}, "10"), limit(usage.Limit{Meter: usage.OutputTokens}, "9")},
		{"minutes", limit(usage.Limit{Meter: usage.Minutes}, "1.5"), limit(usage.Limit{Meter: usage.Minutes}, "1.4999")},
		{"calls", limit(usage.Limit{Meter: usage.Calls}, "1"), limit(usage.Limit{Meter: usage.Calls}, "0")},
		{"cost", limit(usage.Limit{Meter: usage.Cost}, "1.9"), limit(usage.Limit{Meter: usage.Cost}, "1.899999999999")},
		{"the model's", limit(usage.Limit{Model: "m", Meter: usage.Tokens}, "40"), limit(usage.Limit{Model: "m", Meter: usage.Tokens}, "39")},
		{"the day's", limit(usage.Limit{Per: usage.Day, Meter: usage.Tokens}, "40"), limit(usage.Limit{Per: usage.Day, Meter: usage.Tokens}, "39")},
		{"another model's", limit(usage.Limit{Model: "other", Meter: usage.Tokens}, "0"), limit(usage.Limit{Meter: usage.Calls}, "0")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, usage.Config{})
			b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{test.short}})
			_, err := b.Reserve(t.Context(), asked)
			wantError(t, err, usage.ErrQuotaExceeded)
			wantError(t, b.CheckQuota(t.Context(), asked), usage.ErrQuotaExceeded)
			b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{test.fits}})
			wantError(t, b.CheckQuota(t.Context(), asked), nil)
			b.reserve(t, asked)
		})
	}
}

func TestALimitOnAModelHoldsForItsSnapshots(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Model: model, Meter: usage.Requests, Max: usd("10")}}})
	snapshot := request("acme", "1", 7)
	snapshot.Model = "m-2026-01-02"
	b.log(t, snapshot)
	_, err := b.Reserve(t.Context(), asking("acme", "", 4, 0))
	wantError(t, err, usage.ErrQuotaExceeded)
	b.reserve(t, asking("acme", "", 3, 0))
	dated := asking("acme", "", 0, 0)
	dated.Model = "m-2025-01-02"
	_, err = b.Reserve(t.Context(), dated)
	wantError(t, err, usage.ErrQuotaExceeded)
	other := asking("acme", "", 5, 0)
	other.Model = "other"
	b.reserve(t, other)
}

func TestADaysLimitEndsWithTheTenantsDay(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: "Asia/Kathmandu"}); err != nil {
		t.Fatal(err)
	}
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{
		{Meter: usage.Cost, Per: usage.Day, Max: usd("10")}, {Meter: usage.Cost, Max: usd("15")},
	}})
	b.clock.set(instant(t, "2026-05-20T18:14:59"))
	b.log(t, request("acme", "1", 10))
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, 0))
	var quota *usage.QuotaError
	if !errors.As(err, &quota) || quota.Limit.Per != usage.Day {
		t.Fatalf("got %v", err)
	}
	equal(t, "resets", instant(t, "2026-05-20T18:15"), quota.ResetsAt)
	equal(t, "period", period(t, "2026-05-19T18:15", "2026-05-20T18:15"), quota.Period)
	b.clock.advance(time.Second)
	b.reserve(t, asking("acme", "", 5, 0))
	_, err = b.Reserve(t.Context(), asking("acme", "", 1, 0)) // the day has room, the month has none
	if !errors.As(err, &quota) || quota.Limit.Per != usage.Month {
		t.Errorf("got %v", err)
	}
}

func TestSpendAboveItsReservationIsReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 10)
	b.reserve(t, asking("acme", "r", 10, 0))
	record := b.log(t, reserved(request("acme", "1", 12), "r"))
	wantDollars(t, "overage", "2", record.Overage)
	b.stands(t, "acme", 12, 0)
	got, err := b.Record(t.Context(), "acme", "1")
	equal(t, "error", error(nil), err)
	wantDollars(t, "stored overage", "2", got.Overage)
	percent := b.current(t, "acme").Limits[0].Percent
	if !percent.Equal(usd("120")) {
		t.Errorf("percent %s", percent)
	}
}

func TestAQuotaReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 10, 80, 50, 80)
	b.log(t, request("acme", "1", 8))
	b.quota(t, usage.Quota{TenantID: "acme", Limits: []usage.Limit{{Meter: usage.Cost, Max: usd("20.000000000001"), Soft: true}}})
	got, err := b.Quota(t.Context(), "acme")
	if err != nil || len(got.Limits) != 1 || !got.Limits[0].Max.Equal(usd("20.000000000001")) || !got.Limits[0].Soft ||
		len(got.AlertPercents) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	b.stands(t, "acme", 8, 0)
	none, err := b.Quota(t.Context(), "nobody")
	equal(t, "error", error(nil), err)
	equal(t, "nobody's quota", usage.Quota{TenantID: "nobody"}, none)
}

func TestReservations(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100)
	made := b.reserve(t, asking("acme", "", 1, 0))
	if made.ID == "" || !made.ExpiresAt.Equal(b.clock.now().Add(15*time.Minute)) {
		t.Errorf("got %+v", made)
	}
	wantDollars(t, "it", "1", made.Cost)
	b.clock.advance(15*time.Minute - time.Microsecond)
	b.stands(t, "acme", 0, 1)
	b.clock.advance(time.Microsecond)
	b.stands(t, "acme", 0, 0)
	if err := made.Release(t.Context()); err != nil {
		t.Errorf("releasing what has expired: %v", err)
	}
	if err := b.CheckQuota(t.Context(), asking("acme", "", 100, 0)); err != nil {
		t.Errorf("CheckQuota: %v", err)
	}
	b.stands(t, "acme", 0, 0) // it took nothing
	wantError(t, b.CheckQuota(t.Context(), usage.Estimate{}), usage.ErrInvalid)
	_, err := b.Reserve(t.Context(), usage.Estimate{})
	wantError(t, err, usage.ErrInvalid)
	wantError(t, b.Release(t.Context(), "", ""), usage.ErrInvalid)
}

func TestOneReservationIsSettledOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100)
	b.reserve(t, asking("acme", "r", 5, 0))
	errs := make([]error, 16)
	together(len(errs), func(i int) {
		_, errs[i] = b.Log(t.Context(), reserved(request("acme", fmt.Sprint(i), 5), "r"))
	})
	settled := 0
	for _, err := range errs {
		if err == nil {
			settled++
		} else {
			wantError(t, err, usage.ErrReservationSettled)
		}
	}
	equal(t, "settlements", 1, settled)
	b.stands(t, "acme", 5, 0)
}

func TestPercentOfALimit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		most, used int64
		want       string
	}{{3, 1, "33.3333"}, {3, 2, "66.6667"}, {8, 0, "0"}, {0, 0, "0"}, {0, 1, "100"}, {1, 1, "100"}} {
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", test.most)
		b.log(t, request("acme", "1", test.used))
		if got := b.current(t, "acme").Limits[0].Percent; !got.Equal(decimal.RequireFromString(test.want)) {
			t.Errorf("%d of %d: %s %%, want %s", test.used, test.most, got, test.want)
		}
	}
}
