package storepostgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// TestChecksForgetWhatDidNotComeAbout has a call, and a reservation, decided by what another process has changed meanwhile,
// and then anew. Memory, which would be good for an hour, has nothing of the first.
func TestChecksForgetWhatDidNotComeAbout(t *testing.T) {
	t.Parallel()
	two := decimal.RequireFromString("0.005") // what two reservations take
	trackers := func(t *testing.T) (own, other *usage.Tracker) {
		dsn, schema := storepostgres.Schema(t)
		st, err := storepostgres.OpenConfig(t.Context(), dsn, storepostgres.Config{Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		if own, err = usage.New(st, usage.Config{Now: crashClock, QuotaMaxAge: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if err := own.SetQuota(t.Context(), usage.Quota{TenantID: spenders, Limits: []usage.Limit{{Meter: usage.Cost, Max: two}}}); err != nil {
			t.Fatal(err)
		}
		return own, newTracker(t, dsn, schema, crashClock)
	}
	t.Run("a call that is refused", func(t *testing.T) {
		t.Parallel()
		own, other := trackers(t)
		reservation, err := own.Reserve(t.Context(), spenderEstimate("a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := own.CheckQuota(t.Context(), spenderEstimate("")); err != nil {
			t.Fatal(err)
		}
		if err := other.Release(t.Context(), spenders, reservation.ID); err != nil {
			t.Fatal(err)
		}
		call := spenderCall("a")
		call.InputTokens = 2 * reservedTokens
		if _, err := own.LogOpenAI(t.Context(), call); !errors.Is(err, usage.ErrReservationReleased) {
			t.Fatalf("error %v, want it refused", err)
		}
		if err := own.CheckQuota(t.Context(), spenderEstimate("")); err != nil {
			t.Errorf("nothing has been used, and the check says %v", err)
		}
	})
	t.Run("a reservation that is refused", func(t *testing.T) {
		t.Parallel()
		own, other := trackers(t)
		if _, err := own.Reserve(t.Context(), spenderEstimate("a")); err != nil {
			t.Fatal(err)
		}
		if err := own.CheckQuota(t.Context(), spenderEstimate("")); err != nil {
			t.Fatal(err)
		}
		if err := other.Suspend(t.Context(), spenders, "unpaid"); err != nil {
			t.Fatal(err)
		}
		if _, err := own.Reserve(t.Context(), spenderEstimate("b")); !errors.Is(err, usage.ErrSuspended) {
			t.Fatalf("error %v, want it refused", err)
		}
		if err := own.CheckQuota(t.Context(), spenderEstimate("")); errors.Is(err, usage.ErrQuotaExceeded) {
			t.Errorf("one reservation is there, and the check says %v", err)
		}
	})
}
