package storepostgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// crashClock is the clock of all processes but hurriers.
func crashClock() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC) }

func openTracker(ctx context.Context, dsn, schema string, now func() time.Time) (*usage.Tracker, func(), error) {
	st, err := storepostgres.OpenConfig(ctx, dsn, storepostgres.Config{Schema: schema, Connections: 8, BusyTimeout: proctest.Limit})
	if err != nil {
		return nil, nil, err
	}
	tracker, err := usage.New(st, usage.Config{Now: now, CommitTimeout: proctest.Limit})
	return tracker, func() { st.Close() }, err
}

// newTracker is a tracker of the test's own process.
func newTracker(t testing.TB, dsn, schema string, now func() time.Time) *usage.Tracker {
	t.Helper()
	tracker, done, err := openTracker(t.Context(), dsn, schema, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return tracker
}

// start starts a process on a ledger, with a number that tells it from the others, or more.
func start(t testing.TB, role, dsn, schema string, numbers ...int) *proctest.Process {
	t.Helper()
	named, err := pgtest.With(dsn, "application_name", fmt.Sprint(schema, "_", numbers[0]))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{named, schema}
	for _, number := range numbers {
		args = append(args, strconv.Itoa(number))
	}
	return proctest.Start(t, role, args...)
}

const sharedTenants = 5

// sharedCall is a call that is the same whichever process makes it.
func sharedCall(process, i int) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: fmt.Sprint("tenant-", i%sharedTenants), ID: fmt.Sprintf("%d-%05d", process, i), Model: "gpt-4o-2024-08-06",
		InputTokens: 1000 + int64(i), OutputTokens: 100, Status: 200, At: crashClock().Add(-time.Duration(i) * time.Hour),
	}
}

// byGoroutines has some goroutines take numbers below n, so that calls share commits.
func byGoroutines(goroutines, n int, do func(i int) error) error {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n && errs[g] == nil; i += goroutines {
				errs[g] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// acknowledge logs a call and says so once it is durable.
func acknowledge(ctx context.Context, tracker *usage.Tracker, call usage.OpenAICall) error {
	record, err := tracker.LogOpenAI(ctx, call)
	if err != nil {
		return fmt.Errorf("%s: %w", call.ID, err)
	}
	proctest.Say("%s %s %t", record.TenantID, record.ID, record.Duplicate)
	return nil
}

const commonCalls, ownCalls = 150, 350

// playSharer logs calls of its own and, between them, calls that all processes log.
func playSharer(ctx context.Context, tracker *usage.Tracker, number int) error {
	order := rand.New(rand.NewPCG(1, uint64(number))).Perm(commonCalls + ownCalls)
	return byGoroutines(16, len(order), func(i int) error {
		if order[i] < commonCalls {
			return acknowledge(ctx, tracker, sharedCall(0, order[i]))
		}
		return acknowledge(ctx, tracker, sharedCall(number, order[i]))
	})
}

// playLogger logs until it is killed.
func playLogger(ctx context.Context, tracker *usage.Tracker, number int) error {
	return byGoroutines(8, 100_000, func(i int) error { return acknowledge(ctx, tracker, sharedCall(number, i%2000)) })
}

// ledgerIDs counts all records by "tenant id". It also checks that totals are the sum of records.
func ledgerIDs(t testing.TB, tracker *usage.Tracker) map[string]int {
	t.Helper()
	ids := make(map[string]int)
	for tenant, err := range tracker.Tenants(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for record, err := range tracker.Records(t.Context(), usage.RecordFilter{TenantID: tenant.ID}) {
			if err != nil {
				t.Fatal(err)
			}
			ids[record.TenantID+" "+record.ID]++
		}
		drift, err := tracker.Verify(t.Context(), tenant.ID)
		if err != nil || len(drift) > 0 {
			t.Errorf("drift of %s: %v, %+v", tenant.ID, err, drift)
		}
	}
	return ids
}

// Eight processes log calls of the same tenants, of several months, in different orders. A third of the calls is made by
// all of them.
func TestProcessesShareALedger(t *testing.T) {
	t.Parallel()
	const processes = 8
	dsn, schema := storepostgres.Schema(t)
	running := make([]*proctest.Process, processes)
	for i := range running {
		running[i] = start(t, "sharer", dsn, schema, i+1)
	}
	for _, p := range running {
		p.Begin()
	}
	first := make(map[string]int)
	for i, p := range running {
		said := p.End()
		if len(said) != commonCalls+ownCalls {
			t.Errorf("process %d has had %d calls acknowledged, want %d", i, len(said), commonCalls+ownCalls)
		}
		for _, line := range said {
			if id, isFirst := strings.CutSuffix(line, " false"); isFirst {
				first[id]++
			}
		}
	}
	ids := ledgerIDs(t, newTracker(t, dsn, schema, crashClock))
	if n := commonCalls + processes*ownCalls; len(ids) != n || len(first) != n {
		t.Errorf("the ledger has %d calls, and %d were acknowledged as new; want %d", len(ids), len(first), n)
	}
	for id, n := range ids {
		if n != 1 || first[id] != 1 {
			t.Errorf("%s is in the ledger %d times, and %d processes were told that it is new", id, n, first[id])
		}
	}
	noDeadlocks(t, dsn)
}

// noDeadlocks checks that the server had none to resolve: a store that tries again would hide them.
func noDeadlocks(t testing.TB, dsn string) {
	t.Helper()
	db := foreign(t, dsn)
	var n int
	if err := db.GetContext(t.Context(), &n, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); err != nil {
		t.Fatal(err)
	}
	if n != 0 {
		t.Errorf("the server has resolved %d deadlocks", n)
	}
}

// gone waits until the server has noticed that a process is.
func gone(t testing.TB, dsn, schema string, number int) {
	t.Helper()
	db := foreign(t, dsn)
	for sessions := 1; sessions > 0; {
		err := db.GetContext(t.Context(), &sessions, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1",
			fmt.Sprint(schema, "_", number))
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// foreign is a connection that knows nothing of the store.
func foreign(t testing.TB, dsn string) *sqlx.DB {
	t.Helper()
	db, err := sqlx.ConnectContext(t.Context(), "pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
