package storepostgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/store"
)

// TestThroughPgBouncer has many connections share two to the server, which change hands after each transaction.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	dsn := Server.Database(t)
	pooled := Server.Pooler(t, dsn, 2)
	stores := []*handle{
		openStore(t, pooled, Config{Schema: "mine", Connections: 8}), openStore(t, pooled, Config{Schema: "mine", Connections: 8}),
	}
	const goroutines, rounds = 12, 15
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range rounds {
				if err := stores[g%2].round(g, i); err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	direct := openStore(t, dsn, Config{Schema: "mine"})
	for tenant := range 3 {
		equal(t, "records", len(direct.ids(fmt.Sprint("tenant-", tenant))), goroutines*rounds/3)
	}
	unnamed, err := pgtest.With(pooled, "default_query_exec_mode", "exec")
	if err != nil {
		t.Fatal(err)
	}
	db := foreign(t, unnamed, "")
	for what, query := range map[string]string{
		"prepared statements": "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''",
		"advisory locks":      "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE locktype = 'advisory' AND datname = current_database()",
		"settings":            "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND source = 'session'",
	} {
		var n int
		if err := db.GetContext(t.Context(), &n, query); err != nil || n != 0 {
			t.Errorf("%d %s are left in the sessions: %v", n, what, err)
		}
	}
}

// round does one of everything that matters for a session.
func (h *handle) round(g, i int) error {
	ctx, tenant, id := h.t.Context(), fmt.Sprint("tenant-", (g+i)%3), fmt.Sprint(g, "-", i)
	held := store.Hold{TenantID: tenant, ID: id, Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
	if _, err := h.Hold(ctx, noon(), []store.Hold{held}, admit); err != nil {
		return err
	}
	r := call(tenant, id, noon().AddDate(0, i%5, 0), int64(i)) // a new month now and then
	r.Model, r.HoldID = fmt.Sprint("model-", i), id            // a new text now and then
	outcomes, err := h.Append(ctx, noon(), lend(r), quiet)
	if err != nil {
		return err
	}
	if o := outcomes[0]; o.Err != nil || o.Duplicate || o.Record.Settlement != store.Settled {
		return fmt.Errorf("outcome %+v", o)
	}
	stored, err := h.Record(ctx, tenant, id)
	if err != nil || stored.Model != r.Model {
		return fmt.Errorf("record %+v: %w", stored, err)
	}
	_, err = h.Standing(ctx, tenant, noon())
	return err
}
