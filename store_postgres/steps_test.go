package storepostgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/acf68eca/usage/store"
)

// TestEveryRequest has something come between the store and the server at the first request of a transaction, at the second,
// and so on to its last. Whatever that is, sending the same call again finds it counted once.
func TestEveryRequest(t *testing.T) {
	t.Parallel()
	for _, quick := range []bool{true, false} {
		for what, becomes := range map[string]int32{
			"the context ends": pass, "the request is lost": loseCommit, "the answer is lost": loseAnswer,
		} {
			t.Run(fmt.Sprintf("%s, quick transaction: %v", what, quick), func(t *testing.T) {
				t.Parallel()
				p, h, direct := cuttable(t)
				reached, steps := true, 0
				for reached {
					steps++
					reached = h.atRequest(p, direct, fmt.Sprint("tenant-", steps), steps, becomes, quick)
				}
				if least := map[bool]int{true: 1, false: 3}[quick]; steps <= least {
					t.Errorf("it took %d requests, want %d or more", steps-1, least)
				}
			})
		}
	}
}

// atRequest settles a reservation by a call, with a request that becomes something else. It reports whether it came to that.
func (h *handle) atRequest(p *proxy, direct *handle, tenant string, request int, becomes int32, quick bool) bool {
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	held, r := reservation("h"), call(tenant, "a", noon(), 7)
	held.TenantID, r.HoldID = tenant, "h"
	h.hold(held)
	judge := quiet
	if !quick {
		direct.add(call(tenant, "other", noon(), 1))
		judge = warn
	}
	step := func() int32 {
		if becomes == pass {
			cancel()
		}
		return becomes
	}
	p.step.Store(&step)
	p.until.Store(int32(request))
	outcomes, err := h.Append(ctx, noon(), lend(r), judge)
	reached := p.until.Swap(0) <= 0
	switch {
	case err == nil && (outcomes[0].Err != nil || outcomes[0].Duplicate):
		h.t.Errorf("request %d: outcome %+v", request, outcomes[0])
	case err != nil && (becomes != pass || !errors.Is(err, context.Canceled)):
		h.t.Errorf("request %d: %v", request, err)
	}
	again, errAgain := h.Append(h.t.Context(), noon(), lend(r), judge)
	if errAgain != nil || again[0].Err != nil || err == nil && !again[0].Duplicate {
		h.t.Errorf("request %d, after %v: the same again is %+v, %v", request, err, again, errAgain)
	}
	want := []string{"a", "other"}
	if quick {
		want = want[:1]
	}
	equal(h.t, fmt.Sprint("request ", request), direct.ids(tenant), want)
	standing, err := direct.Standing(h.t.Context(), tenant, noon())
	if err != nil || len(standing.Holds) > 0 || len(standing.Alerts) != len(want)-1 {
		h.t.Errorf("request %d: %d live holds, %d alerts, %v", request, len(standing.Holds), len(standing.Alerts), err)
	}
	h.add(call(tenant, "after", noon(), 1)) // by what is remembered
	equal(h.t, fmt.Sprint("records after request ", request), len(direct.ids(tenant)), len(want)+1)
	return reached
}

// warn raises an alert for the month, which makes a transaction a full one.
func warn(s *store.Standing, _ []*store.Record) store.Judgement {
	return store.Judgement{Alerts: []store.Alert{{
		AlertKey: store.AlertKey{Kind: store.QuotaWarning, Per: store.Month, PeriodStart: s.Month.Start}, PeriodEnd: s.Month.End,
	}}}
}
