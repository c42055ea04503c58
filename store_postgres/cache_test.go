package storepostgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acf68eca/usage/store"
)

// decides compares the standing that a transaction of the store decides on in the end, from what it remembers.
func (h *handle) decides(what string, want store.Standing) {
	h.t.Helper()
	full, diff := errors.New("full"), ""
	hold := store.Hold{TenantID: acme, ID: "asked", Provider: "openai", Model: "gpt-4", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
	outcomes, err := h.Hold(h.t.Context(), noon(), []store.Hold{hold}, func(s *store.Standing, _ *store.Hold) store.Verdict {
		diff = cmp.Diff(want, *s, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(store.Standing{}, "Holds"))
		return store.Verdict{Refusal: full}
	})
	if err != nil || !errors.Is(outcomes[0].Err, full) {
		h.t.Fatalf("%s: %+v, %v", what, outcomes, err)
	}
	if diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

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
		{"a reservation", func(h *handle, id string) error { return h.reserve(id) }},
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
		for _, by := range []int{0, 1} {
			t.Run(fmt.Sprintf("alone %v, written by %d", alone, by), func(t *testing.T) {
				t.Parallel()
				dsn, schema := Schema(t)
				both := []*handle{openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})}
				third := openStore(t, dsn, Config{Schema: schema})
				for i, w := range writes {
					id := fmt.Sprintf("%0*d", i+1, i)
					both[1-by].add(call(acme, id+" before", noon(), 1))
					both[by].alone.Store(alone)
					if err := w.write(both[by], id); err != nil {
						t.Fatalf("%s: %v", w.name, err)
					}
					want, err := third.Standing(t.Context(), acme, noon())
					if err != nil {
						t.Fatal(err)
					}
					for k, h := range both {
						h.alone.Store(alone)
						h.decides(fmt.Sprintf("store %d after %s", k, w.name), want)
					}
				}
			})
		}
	}
}

// keep keeps the arrivals as they are.
func keep(*store.Standing, *store.Hold) []store.Arrival { return nil }

func (h *handle) reserve(id string) error {
	hold := store.Hold{
		TenantID: acme, ID: id, Provider: "openai", Model: "gpt-4", Cost: 7, Owner: "test", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour),
		Lines: []store.Line{{Meter: "input_tokens", Quantity: 7, Rate: store.Rate{Amount: 1, Per: 1}, Cost: 7}},
	}
	outcomes, err := h.Hold(h.t.Context(), noon(), []store.Hold{hold}, admit)
	if err == nil {
		err = outcomes[0].Err
	}
	return err
}
