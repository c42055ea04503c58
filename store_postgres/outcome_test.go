package storepostgres

import (
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// reservation is a hold on nothing in particular, for an hour from noon.
func reservation(tenant, id string) store.Hold {
	return store.Hold{TenantID: tenant, ID: id, Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
}

// A host may well name a call and its reservation alike: that the one is there does not say that the other is.
func TestCallNamedLikeItsReservation(t *testing.T) {
	t.Parallel()
	t.Run("a call that did not reach the server is sent again", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t, 10*time.Second)
		h.hold(reservation(acme, "a"))
		p.cut.Store(loseCommit)
		h.add(call(acme, "a", noon(), 7))
		equal(t, "records", direct.ids(acme), []string{"a", "before"})
	})
	t.Run("a reservation that did not reach the server is sent again", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t, 10*time.Second)
		h.add(call(acme, "a", noon(), 7))
		p.cut.Store(loseCommit)
		h.hold(reservation(acme, "a"))
		equal(t, "holds", direct.holds(acme), []string{"a"})
	})
}

func (h *handle) hold(holds ...store.Hold) {
	h.t.Helper()
	outcomes, err := h.Hold(h.t.Context(), noon(), holds, admit)
	if err != nil {
		h.t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Err != nil {
			h.t.Fatalf("hold %q: %v", holds[i].ID, o.Err)
		}
	}
}

// holds are the ids of a tenant's live holds.
func (h *handle) holds(tenant string) (ids []string) {
	h.t.Helper()
	standing, err := h.Standing(h.t.Context(), tenant, noon())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, hold := range standing.Holds {
		ids = append(ids, hold.ID)
	}
	return ids
}
