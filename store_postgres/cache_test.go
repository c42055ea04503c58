package storepostgres

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acf68eca/usage/store"
)

// Two stores write for a tenant in turns. After each write, by one that the other has overtaken, both decide on what a third
// one reads.
func TestStoresRememberWhatIsStored(t *testing.T) {
	t.Parallel()
	writes := []struct {
		name  string
		write func(h *handle, id string) error
	}{
		{"a record", func(h *handle, id string) error { _, err := h.try(call(acme, id, noon(), 3)); return err }},
		{"a late record", func(h *handle, id string) error {
			_, err := h.try(call(acme, id, noon().AddDate(0, 0, -1), 5))
			return err
		}},
		{"a record of the day after", func(h *handle, id string) error {
			_, err := h.try(call(acme, id, noon().AddDate(0, 0, 1), 5))
			return err
		}},
		{"a record of another month", func(h *handle, id string) error {
			_, err := h.try(call(acme, id, noon().AddDate(0, -1, 0), 5))
			return err
		}},
		{"a record of another model", func(h *handle, id string) error {
			r := call(acme, id, noon(), 3)
			r.Model = "gpt-4-" + id
			_, err := h.try(r)
			return err
		}},
		{"a reservation", func(h *handle, id string) error { return h.reserve(id) }},
		{"more reservations than are read one by one", func(h *handle, id string) error {
			ids := make([]string, mostChanged+1)
			for i := range ids {
				ids[i] = fmt.Sprint(id, " ", i)
			}
			return h.reserve(ids...)
		}},
		{"a reservation that is released", func(h *handle, id string) error {
			return errors.Join(h.reserve(id), h.Release(h.t.Context(), noon(), acme, id, keep))
		}},
		{"a reservation that is settled", func(h *handle, id string) error {
			r := call(acme, id+" call", noon(), 3)
			r.HoldID = id
			if err := h.reserve(id); err != nil {
				return err
			}
			_, err := h.try(r)
			return err
		}},
		{"a quota", func(h *handle, id string) error {
			quota := store.Quota{TenantID: acme, Limits: []store.Limit{{Meter: "calls", Max: int64(len(id)), Per: store.Month}}}
			_, err := h.SetQuota(h.t.Context(), noon(), quota, quiet)
			return err
		}},
		{"a suspension", func(h *handle, id string) error { return h.Suspend(h.t.Context(), noon(), acme, "since "+id) }},
		{"a calendar", func(h *handle, id string) error {
			row := store.Tenant{ID: acme, Name: id, TimeZone: "Pacific/Auckland", BillingDay: 1 + len(id)}
			return h.SetTenant(h.t.Context(), noon(), row)
		}},
		{"a horizon", func(h *handle, id string) error {
			_, err := h.Prune(h.t.Context(), acme, noon().AddDate(0, 0, -30+len(id)), 100)
			return err
		}},
		{"totals made anew", func(h *handle, _ string) error { return h.Rebuild(h.t.Context(), acme) }},
	}
	for _, alone := range []bool{true, false} {
		for _, by := range []int{0, 1, 2, 3} {
			by, live := by%2, by/2*2*manyHolds
			t.Run(fmt.Sprintf("alone %v, written by %d, %d live reservations", alone, by, live), func(t *testing.T) {
				t.Parallel()
				dsn, schema := Schema(t)
				both := []*handle{openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})}
				third := openStore(t, dsn, Config{Schema: schema})
				for i := range live {
					if err := both[i%2].reserve(fmt.Sprint("live ", i)); err != nil {
						t.Fatal(err)
					}
				}
				for i, w := range writes {
					id := fmt.Sprintf("%0*d", i+1, i)
					both[1-by].add(call(acme, id+" before", noon(), 1))
					both[by].alone.Store(alone)
					if err := w.write(both[by], id); err != nil {
						t.Fatalf("%s: %v", w.name, err)
					}
					for k, h := range both {
						h.alone.Store(alone)
						h.decidesAs(third, fmt.Sprintf("store %d after %s", k, w.name))
					}
				}
				if drift, err := third.Verify(t.Context(), acme); len(drift) > 0 || err != nil {
					t.Errorf("drift %+v, %v", drift, err)
				}
			})
		}
	}
}

// keep keeps the arrivals as they are.
func keep(*store.Standing, *store.Hold) []store.Arrival { return nil }

func (h *handle) reserve(ids ...string) error {
	holds := make([]store.Hold, len(ids))
	for i, id := range ids {
		holds[i] = store.Hold{
			TenantID: acme, ID: id, Provider: "openai", Model: "gpt-4", Cost: 7, Owner: "test", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour),
			Lines: []store.Line{{Meter: "input_tokens", Quantity: 7, Rate: store.Rate{Amount: 1, Per: 1}, Cost: 7}},
		}
	}
	outcomes, err := h.Hold(h.t.Context(), noon(), holds, admit)
	for i := range outcomes {
		err = errors.Join(err, outcomes[i].Err)
	}
	return err
}

// A store that takes its turn reads of a tenant's months and many live holds only what others have changed since its last one.
func TestWhatOthersChangedIsRead(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	a, b := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	for range 2 {
		if err := a.Suspend(t.Context(), noon(), acme, ""); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * manyHolds {
		if err := a.reserve(fmt.Sprint("live ", i)); err != nil {
			t.Fatal(err)
		}
	}
	other := call(acme, "other", noon(), 1)
	other.Model = "gpt-3"
	a.add(other)
	admin, traced := foreign(t, dsn, schema), 0
	if err := admin.QueryRowContext(t.Context(), "SELECT count(revision) FROM usage_holds").Scan(&traced); err != nil {
		t.Fatal(err)
	}
	equal(t, "holds that say their revision while there is one store", traced, 0)
	for _, h := range []*handle{b, a, b} { // each learns how many there are, and says from then on what it changes
		if err := h.reserve(fmt.Sprint("turn ", len(h.holds()))); err != nil {
			t.Fatal(err)
		}
	}
	seen := b.cache.tenants[acme].revision
	settling := call(acme, "settling", noon(), 3)
	settling.HoldID = "live 0"
	a.add(settling)
	err := errors.Join(a.Release(t.Context(), noon(), acme, "live 1", keep), a.reserve("new", "newer"))
	if err != nil {
		t.Fatal(err)
	}
	var holds []holdRow
	err = committed{b.Store}.SelectContext(t.Context(), &holds, selectHoldsSince, []string{acme}, []int64{seen}, noon(), mostChanged)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(holds))
	for i := range holds {
		ids[i] = holds[i].ID
	}
	slices.Sort(ids)
	equal(t, "holds", ids, []string{"live 0", "live 1", "new", "newer"})
	var months []monthRow
	month := time.Date(noon().Year(), noon().Month(), 1, 0, 0, 0, 0, time.UTC)
	err = committed{b.Store}.SelectContext(t.Context(), &months, selectMonthsOf, []string{acme}, []time.Time{month}, []int64{seen})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "months", len(months), 1)
	b.decidesAs(a, "after what the other changed")
	newcomer := openStore(t, dsn, Config{Schema: schema})
	settling = call(acme, "settling 2", noon(), 3)
	settling.HoldID = "live 2"
	newcomer.add(settling)
	if err := newcomer.reserve("new 2"); err != nil {
		t.Fatal(err)
	}
	b.decidesAs(a, "after what another changed, who did not know that there are many")
}

// What others remember of totals that are made anew is forgotten, what is not there any more too.
func TestRebuiltTotalsAreForgotten(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	a, b := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	other := call(acme, "other", noon(), 1)
	other.Model = "gpt-3"
	a.add(call(acme, "call", noon(), 3), other)
	b.decidesAs(a, "before")
	if err := b.reserve("reservation"); err != nil {
		t.Fatal(err)
	}
	exec(t, foreign(t, dsn, schema), "DELETE FROM usage_keys WHERE id = 'other'", "DELETE FROM usage_records WHERE id = 'other'")
	if err := a.Rebuild(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	b.alone.Store(false) // else it reads everything
	b.decidesAs(a, "after the totals were made anew")
}

// decidesAs compares the standing that a transaction of the store decides on in the end, from what it remembers, with what
// another store reads.
func (h *handle) decidesAs(other *handle, what string) {
	h.t.Helper()
	h.decidesAt(other, what, acme, noon())
}

func (h *handle) decidesAt(other *handle, what, tenant string, at time.Time) {
	h.t.Helper()
	want, err := other.Standing(h.t.Context(), tenant, at)
	if err != nil {
		h.t.Fatal(err)
	}
	full, diff := errors.New("full"), ""
	hold := store.Hold{TenantID: tenant, ID: "asked", Provider: "openai", Model: "gpt-4", CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
	outcomes, err := h.Hold(h.t.Context(), at, []store.Hold{hold}, func(s *store.Standing, _ *store.Hold) store.Verdict {
		diff = cmp.Diff(want, *s, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(store.Standing{}, "Holds"),
			cmpopts.SortSlices(func(a, b *store.Total) bool { return a.Provider+a.Model < b.Provider+b.Model }),
			cmpopts.SortSlices(func(a, b store.Arrival) bool { return a.Per < b.Per }),
			cmpopts.SortSlices(func(a, b *store.Alert) bool { return a.Number < b.Number }))
		return store.Verdict{Refusal: full}
	})
	if err != nil || !errors.Is(outcomes[0].Err, full) {
		h.t.Fatalf("%s: %+v, %v", what, outcomes, err)
	}
	if diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// What others have changed may be read for a transaction that decides nothing, and the next one be by a clock that is behind.
func TestReservationsThatExpireBetweenTwoClocks(t *testing.T) {
	t.Parallel()
	later := noon().Add(30 * time.Minute)
	for _, tt := range []struct {
		name string
		do   func(h *handle) error
	}{
		{"a call that is there already", func(h *handle) error {
			_, err := h.Append(h.t.Context(), later, lend(call(acme, "call", noon(), 1)), quiet)
			return err
		}},
		{"a reservation that was released already", func(h *handle) error { return h.Release(h.t.Context(), later, acme, "live 0", keep) }},
	} {
		for _, alone := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, alone %v", tt.name, alone), func(t *testing.T) {
				t.Parallel()
				dsn, schema := Schema(t)
				h, other := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
				h.add(call(acme, "call", noon(), 1))
				for i := range 2 * manyHolds {
					if err := []*handle{h, other}[i%2].reserve(fmt.Sprint("live ", i)); err != nil {
						t.Fatal(err)
					}
				}
				if err := other.Release(t.Context(), noon(), acme, "live 0", keep); err != nil {
					t.Fatal(err)
				}
				h.decidesAs(other, "before")
				short := reservation("short")
				short.ExpiresAt = noon().Add(10 * time.Minute)
				other.alone.Store(false) // else it forgets that there are many
				other.hold(short)
				h.alone.Store(alone)
				if err := tt.do(h); err != nil {
					t.Fatal(err)
				}
				h.decidesAs(other, "after it, by the earlier clock")
			})
		}
	}
}

// A host may release whatever it has reserved when it is done, and be told that a call has settled it.
func TestReleasesOfNothingForgetNothing(t *testing.T) {
	t.Parallel()
	h := newHandle(t)
	settling := call(acme, "call", noon(), 3)
	settling.HoldID = "a"
	h.hold(reservation("a"))
	h.add(settling)
	for id, want := range map[string]error{"a": store.ErrHoldSettled, "none": store.ErrNotFound} {
		is(t, "releasing "+id, h.Release(t.Context(), noon(), acme, id, keep), want)
		if h.cache.tenants[acme] == nil {
			t.Errorf("releasing %s has the tenant forgotten", id)
		}
	}
}

// A store that took itself to be alone does not have the others read everything.
func TestAQuickTransactionThatIsRefusedKeepsHoldsTraced(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, other := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	for i := range 2 * manyHolds {
		if err := h.reserve(fmt.Sprint("live ", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, turn := range []*handle{other, h, other} {
		if err := turn.reserve(fmt.Sprint("turn ", len(h.holds()))); err != nil {
			t.Fatal(err)
		}
	}
	h.alone.Store(true)
	if err := h.reserve("after it"); err != nil {
		t.Fatal(err)
	}
	n := h.cache.tenants[acme]
	if n.untraced == n.revision {
		t.Errorf("the holds of revision %d do not say so", n.revision)
	}
	other.decidesAs(h, "what it reads of them")
}
