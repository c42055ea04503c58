package usage_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

// prune drops what happened before an instant and wants so many records to be dropped.
func (b *bench) prune(t testing.TB, before time.Time, want int) {
	t.Helper()
	n, err := b.Prune(t.Context(), before)
	if err != nil || n != want {
		t.Errorf("Prune: %d dropped, %v; want %d", n, err, want)
	}
}

func TestPruneDropsRecordsAndKeepsWhatTheyCount(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100, 50)
	start := instant(t, "2026-03-15")
	for i := range 60 {
		for _, tenant := range []string{"acme", "globex"} {
			b.log(t, happened(request(tenant, fmt.Sprint(i), 1), start.AddDate(0, 0, i)))
		}
	}
	history, err := b.History(t.Context(), "acme", 6)
	if err != nil {
		t.Fatal(err)
	}
	daily, err := b.Daily(t.Context(), "acme", period(t, "2026-03-01", "2026-06-01"))
	if err != nil {
		t.Fatal(err)
	}
	horizon := instant(t, "2026-04-10T12")
	b.prune(t, horizon, 2*27)
	b.prune(t, horizon, 0)
	for range 2 {
		after, err := b.History(t.Context(), "acme", 6)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "history", history, after)
		days, err := b.Daily(t.Context(), "acme", period(t, "2026-03-01", "2026-06-01"))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "days", daily, days)
		b.sound(t, "acme", "globex")
		if err := b.Rebuild(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	if left := b.records(t, usage.RecordFilter{TenantID: "acme"}); len(left) != 33 || left[0].ID != "27" {
		t.Errorf("%d records are left, the first is %s", len(left), left[0].ID)
	}
	tenant, err := b.Tenant(t.Context(), "globex")
	if err != nil || !tenant.Horizon.Equal(horizon) {
		t.Errorf("horizon %v, %v", tenant.Horizon, err)
	}
	// What has no tenant yet cannot have been counted.
	b.log(t, happened(request("new", "1", 1), horizon.Add(-time.Hour)))
}

func TestACallBeforeTheHorizonIsRefusedAloneAndNotCountedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	horizon := instant(t, "2026-05-01")
	old := happened(request("acme", "1", 5), horizon.Add(-time.Microsecond))
	b.log(t, old)
	b.prune(t, horizon, 1)
	_, err := b.Log(t.Context(), old)
	wantError(t, err, usage.ErrPruned)
	var pruned *usage.PrunedError
	if !errors.As(err, &pruned) || pruned.ID != "1" || !pruned.Horizon.Equal(horizon) || !pruned.At.Equal(old.At) {
		t.Errorf("error %+v", err)
	}
	errs := make([]error, 20)
	together(len(errs), func(i int) { // in groups, too
		call := request("acme", fmt.Sprint("new ", i), 1)
		if i%2 == 0 {
			call.At = old.At
		}
		_, errs[i] = b.Log(t.Context(), call)
	})
	for i, err := range errs {
		if i%2 == 0 {
			wantError(t, err, usage.ErrPruned)
		} else {
			wantError(t, err, nil)
		}
	}
	b.sound(t, "acme")
	year, err := b.Usage(t.Context(), "acme", period(t, "2026-01-01", "2027-01-01"))
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "cost of the year", "15", year.Cost)
}

func TestUsageOfPartOfAPrunedDayIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for hour := range 48 {
		b.log(t, happened(request("acme", fmt.Sprint(hour), 1), instant(t, "2026-05-10").Add(time.Duration(hour)*time.Hour)))
	}
	b.prune(t, instant(t, "2026-05-11T06"), 30)
	for _, test := range []struct {
		start, end string
		want       string
	}{
		{"2026-05-10", "2026-05-12", "48"},
		{"2026-05-10", "2026-05-11", "24"},
		{"2026-05-11", "2026-05-12", "24"},
		{"2026-05-11T06", "2026-05-11T08", "2"},
		{"2026-05-11T05", "2026-05-11T08", ""},
		{"2026-05-10T01", "2026-05-12", ""},
		{"2026-05-10", "2026-05-11T08", ""},
	} {
		got, err := b.Usage(t.Context(), "acme", period(t, test.start, test.end))
		if test.want == "" {
			wantError(t, err, usage.ErrPruned)
			if err != nil && !strings.HasPrefix(err.Error(), `a part of a day of tenant "acme" from 2026-05-1`) {
				t.Errorf("%s to %s: %q says nothing of parts of days", test.start, test.end, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wantDollars(t, test.start+" to "+test.end, test.want, got.Cost)
	}
}

func TestPruneDropsReservationsThatExpiredBeforeTheHorizon(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	reserve := func(id string) error {
		_, err := b.Reserve(t.Context(), asking("acme", id, 5, time.Minute))
		return err
	}
	const many = 2_500 // not in one page
	for i := range many {
		wantError(t, reserve(fmt.Sprint("old ", i)), nil)
	}
	settled := request("acme", "1", 5)
	settled.ReservationID = "old 0"
	b.log(t, settled)
	b.clock.advance(time.Hour)
	horizon := b.clock.now()
	wantError(t, reserve("new"), nil)
	wantError(t, reserve("old 1"), usage.ErrConflict)
	b.prune(t, horizon, 1)
	for i := range many {
		wantError(t, b.Release(t.Context(), "acme", fmt.Sprint("old ", i)), usage.ErrNotFound)
	}
	wantError(t, reserve("new"), usage.ErrConflict)
	wantError(t, reserve("old 1"), nil)
	late := request("acme", "2", 5)
	late.ReservationID = "old 0"
	rec := b.log(t, late)
	equal(t, "settlement", usage.ReservationUnknown, rec.Settlement)
	b.sound(t, "acme")
}

// stopping is a store whose Prune fails after some batches.
type stopping struct {
	store.Store
	batches int
}

func (s *stopping) Prune(ctx context.Context, tenantID string, before time.Time, limit int) (int, error) {
	if s.batches--; s.batches < 0 {
		return 0, store.ErrBusy
	}
	return s.Store.Prune(ctx, tenantID, before, limit)
}

func TestPruneGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	st := &stopping{Store: openStore(t, filepath.Join(t.TempDir(), "usage.db")), batches: 2}
	b := benchOn(t, st, usage.Config{})
	fillWith := func(i int) error {
		_, err := b.Log(t.Context(), happened(request("acme", fmt.Sprint(i), 1), instant(t, "2026-05-01")))
		return err
	}
	together(8, func(n int) {
		for i := n; i < 2_500; i += 8 {
			if err := fillWith(i); err != nil {
				t.Error(err)
			}
		}
	})
	n, err := b.Prune(t.Context(), b.clock.now())
	wantError(t, err, usage.ErrBusy)
	equal(t, "dropped before the failure", 2_000, n)
	b.sound(t, "acme")
	wantError(t, fillWith(0), usage.ErrPruned)
	st.batches = 100
	b.prune(t, b.clock.now(), 500)
	b.sound(t, "acme")
	wantDollars(t, "cost", "2500", b.current(t, "acme").Cost)
}

func TestPruneFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for _, before := range []time.Time{{}, b.clock.now().Add(time.Microsecond), instant(t, "1999-01-01")} {
		_, err := b.Prune(t.Context(), before)
		wantError(t, err, usage.ErrInvalid)
	}
	b.prune(t, b.clock.now(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.log(t, request("acme", "1", 1))
	_, err := b.Prune(ctx, b.clock.now())
	wantError(t, err, context.Canceled)
}
