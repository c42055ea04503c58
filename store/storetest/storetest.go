// Package storetest is the conformance suite of package store. Whatever passes Run keeps the promises that package
// store makes; a test that fails names the promise that was broken.
//
// The suite reads and writes through store.Store alone, so it cannot damage a database: what a store does about
// damage, a full disk or a newer schema is for its own tests.
package storetest

import (
	"testing"

	"github.com/acf68eca/usage/store"
)

// Open opens another handle on one database, as another process would have. The suite closes it.
type Open func(t testing.TB) store.Store

// Run runs the suite. newDB makes a new empty database and returns its opener; it is called once for nearly each
// promise, from parallel tests. What newDB makes is removed by newDB's own t.Cleanup, which runs after the handles
// are closed.
//
// The random histories obey rapid's flags: -rapid.checks says how many there are.
func Run(t *testing.T, newDB func(t testing.TB) Open) {
	groups := []struct {
		name     string
		promises []promise
	}{
		{"records", recordPromises()},
		{"commits", commitPromises()},
		{"duplicates", duplicatePromises()},
		{"refusals", refusalPromises()},
		{"totals", totalPromises()},
		{"periods", periodPromises()},
		{"holds", holdPromises()},
		{"rates", ratePromises()},
		{"standings", standingPromises()},
		{"quotas", quotaPromises()},
		{"alerts", alertPromises()},
		{"claims", claimPromises()},
		{"tenants", tenantPromises()},
		{"paging", pagingPromises()},
		{"repricing", repricePromises()},
		{"pruning", prunePromises()},
		{"contexts", contextPromises()},
		{"handles", handlePromises()},
		{"model", modelPromises()},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range group.promises {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.keep(t, newLedger(t, newDB(t)))
				})
			}
		})
	}
}

// promise is one thing that a store promises, and the test that it keeps it. The test gets a new empty database.
type promise struct {
	name string
	keep func(*testing.T, *ledger)
}
