package usage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// What several processes do to one ledger, and what is left when they are killed in the middle of it.

// crashClock is the clock of all processes.
func crashClock() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC) }

// crashTracker is a tracker of the test's own process, under a clock that is so much later.
func crashTracker(t *testing.T, path string, later time.Duration) *usage.Tracker {
	t.Helper()
	st, err := storesqlite.OpenConfig(t.Context(), path, storesqlite.Config{BusyTimeout: proctest.Limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	tracker, err := usage.New(st, usage.Config{
		Now: func() time.Time { return crashClock().Add(later) }, CommitTimeout: proctest.Limit,
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracker
}

const crashTenants = 3

// crashCall is a call that is the same whichever process makes it.
func crashCall(process, i int) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: fmt.Sprint("tenant-", i%crashTenants), ID: fmt.Sprintf("%d-%04d", process, i), Model: "gpt-4o-2024-08-06",
		InputTokens: 1000 + int64(i), OutputTokens: 100, Status: 200, At: crashClock().Add(-time.Duration(i) * time.Minute),
	}
}

// acknowledge logs a call and says so once it is durable.
func acknowledge(ctx context.Context, tracker *usage.Tracker, call usage.OpenAICall) error {
	record, err := tracker.LogOpenAI(ctx, call)
	if err != nil {
		return fmt.Errorf("%s: %w", call.ID, err)
	}
	proctest.Say("%s %s", record.TenantID, record.ID)
	return nil
}

// byGoroutines has a few goroutines take numbers below n, so that calls share commits.
func byGoroutines(n int, do func(i int) error) error {
	const goroutines = 4
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

const sharedCalls, ownCalls = 40, 60

// playSharer logs calls of its own and, between them, calls that all processes log.
func playSharer(ctx context.Context, tracker *usage.Tracker, number int) error {
	order := rand.New(rand.NewPCG(1, uint64(number))).Perm(sharedCalls + ownCalls)
	return byGoroutines(len(order), func(i int) error {
		if order[i] < sharedCalls {
			return acknowledge(ctx, tracker, crashCall(0, order[i]))
		}
		return acknowledge(ctx, tracker, crashCall(number, order[i]))
	})
}

// manyCalls is more than a process can log before it is killed.
const manyCalls = 50_000

// playLogger logs until it is killed.
func playLogger(ctx context.Context, tracker *usage.Tracker, number int) error {
	return byGoroutines(manyCalls, func(i int) error { return acknowledge(ctx, tracker, crashCall(number, i)) })
}

// ledgerIDs are the ids of all records, each as "tenant id". It also checks that totals are the sum of records.
func ledgerIDs(t *testing.T, tracker *usage.Tracker) map[string]int {
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

// holdsEach checks that each acknowledged call is in the ledger once.
func holdsEach(t *testing.T, ids map[string]int, acknowledged []string) {
	t.Helper()
	for _, id := range acknowledged {
		if ids[id] != 1 {
			t.Errorf("%q was acknowledged and is in the ledger %d times", id, ids[id])
		}
	}
}

func TestProcessesShareALedger(t *testing.T) {
	t.Parallel()
	const processes = 4
	path := filepath.Join(t.TempDir(), "usage.db")
	running := make([]*proctest.Process, processes)
	for i := range running {
		running[i] = startProcess(t, "sharer", path, i+1)
	}
	for _, p := range running {
		p.Begin()
	}
	tracker := crashTracker(t, path, 0)
	for i, p := range running {
		said := p.End()
		if len(said) != sharedCalls+ownCalls {
			t.Errorf("process %d has had %d calls acknowledged, want %d", i, len(said), sharedCalls+ownCalls)
		}
		holdsEach(t, ledgerIDs(t, tracker), said)
	}
	if n := len(ledgerIDs(t, tracker)); n != sharedCalls+processes*ownCalls {
		t.Errorf("the ledger has %d calls, want %d", n, sharedCalls+processes*ownCalls)
	}
}

func TestKilledProcessesLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	const rounds = 5
	path := filepath.Join(t.TempDir(), "usage.db")
	random := rand.New(rand.NewPCG(1, 2))
	var acknowledged []string
	for round := 1; round <= rounds; round++ {
		p := startProcess(t, "logger", path, round)
		p.Begin()
		for range 5 + random.IntN(40) {
			line, ok := p.Next()
			if !ok {
				t.Fatalf("round %d: the process has ended: %v", round, p.End())
			}
			acknowledged = append(acknowledged, line)
		}
		acknowledged = append(acknowledged, p.Kill()...)
		holdsEach(t, ledgerIDs(t, crashTracker(t, path, 0)), acknowledged)
		soundFile(t, path)
	}
	tracker := crashTracker(t, path, 0)
	before := ledgerIDs(t, tracker)
	for id := range before {
		var process, i int
		if _, err := fmt.Sscanf(id[strings.Index(id, " "):], "%d-%d", &process, &i); err != nil {
			t.Fatal(err)
		}
		record, err := tracker.LogOpenAI(t.Context(), crashCall(process, i))
		if err != nil || !record.Duplicate {
			t.Errorf("%s sent again: duplicate %v, %v", id, record.Duplicate, err)
		}
	}
	if diff := cmp.Diff(before, ledgerIDs(t, tracker)); diff != "" {
		t.Errorf("the ledger after everything was sent again (-want +got):\n%s", diff)
	}
}

// soundFile asks SQLite whether the file is.
func soundFile(t *testing.T, path string) {
	t.Helper()
	db, err := sqlx.ConnectContext(t.Context(), "sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict []string
	if err := db.SelectContext(t.Context(), &verdict, "PRAGMA integrity_check"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ok"}, verdict); diff != "" {
		t.Errorf("integrity (-want +got):\n%s", diff)
	}
}

const (
	spenders = "spenders" // the tenant
	// reserved is what each reservation takes: 1,000 tokens at 2.50 dollars for a million.
	reservedTokens = 1000
	// crashRoom is how many of them the limit of a quarter dollar has room for.
	crashRoom = 100
	holdsLast = time.Minute
)

func crashEstimate() usage.Estimate {
	return usage.Estimate{
		TenantID: spenders, Provider: usage.OpenAI, Model: "gpt-4o-2024-08-06", InputTokens: reservedTokens, ExpiresIn: holdsLast,
	}
}

func crashSettling(id string) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: spenders, ID: "call-" + id, Model: "gpt-4o-2024-08-06", InputTokens: reservedTokens, Status: 200,
		ReservationID: id,
	}
}

// playSpender reserves and settles until there is no room.
func playSpender(ctx context.Context, tracker *usage.Tracker, _ int) error {
	for {
		reservation, err := tracker.Reserve(ctx, crashEstimate())
		if errors.Is(err, usage.ErrQuotaExceeded) {
			proctest.Say("full")
			return nil
		}
		if err != nil {
			return err
		}
		record, err := tracker.LogOpenAI(ctx, crashSettling(reservation.ID))
		if err != nil {
			return err
		}
		proctest.Say("%s %s", record.TenantID, record.ID)
	}
}

// playHoarder settles every other of its reservations and keeps the rest until it is killed. It leaves some room.
func playHoarder(ctx context.Context, tracker *usage.Tracker, _ int) error {
	for i := range 2 * crashRoom / 5 {
		reservation, err := tracker.Reserve(ctx, crashEstimate())
		if err != nil {
			return err
		}
		if i%2 == 0 {
			proctest.Say("holds %s", reservation.ID)
			continue
		}
		record, err := tracker.LogOpenAI(ctx, crashSettling(reservation.ID))
		if err != nil {
			return err
		}
		proctest.Say("%s %s", record.TenantID, record.ID)
	}
	<-ctx.Done()
	return ctx.Err()
}

// standOf says where the spenders stand with their one limit.
func standOf(ctx context.Context, tracker *usage.Tracker) (usage.LimitUsage, error) {
	current, err := tracker.GetCurrentUsage(ctx, spenders)
	if err != nil {
		return usage.LimitUsage{}, err
	}
	return current.Limits[0], nil
}

func TestProcessesNeverPassAHardLimitTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	tracker := crashTracker(t, path, 0)
	limit := decimal.RequireFromString("0.25")
	err := tracker.SetQuota(t.Context(), usage.Quota{
		TenantID: spenders, Limits: []usage.Limit{{Meter: usage.Cost, Max: limit}},
	})
	if err != nil {
		t.Fatal(err)
	}
	hoarders := []*proctest.Process{startProcess(t, "hoarder", path, 1), startProcess(t, "hoarder", path, 2)}
	running := []*proctest.Process{startProcess(t, "spender", path, 3), startProcess(t, "spender", path, 4)}

	stop, observed := make(chan struct{}), make(chan error, 1)
	go func() { observed <- watchLimit(t.Context(), tracker, limit, stop) }()
	for _, p := range hoarders {
		p.Begin()
	}
	var acknowledged []string
	note := func(lines ...string) {
		for _, line := range lines {
			if strings.HasPrefix(line, spenders) {
				acknowledged = append(acknowledged, line)
			}
		}
	}
	for i, p := range hoarders {
		for range 5 + 4*i {
			line, _ := p.Next()
			note(line)
		}
	}
	for _, p := range running {
		p.Begin()
	}
	for _, p := range hoarders {
		note(p.Kill()...)
	}
	for _, p := range running {
		note(p.End()...)
	}
	close(stop)
	if err := <-observed; err != nil {
		t.Error(err)
	}
	ids := ledgerIDs(t, tracker)
	holdsEach(t, ids, acknowledged)
	soundFile(t, path)
	full, err := standOf(t.Context(), tracker)
	if err != nil {
		t.Fatal(err)
	}
	if sum := full.Used.Add(full.Held); !sum.Equal(limit) || !full.Held.IsPositive() {
		t.Errorf("used %s and held %s, want a full limit of %s and something held by the killed", full.Used, full.Held, limit)
	}
	usableAfterExpiry(t, crashTracker(t, path, holdsLast), crashRoom-len(ids))
}

// watchLimit looks all the time whether the limit is passed.
func watchLimit(ctx context.Context, tracker *usage.Tracker, limit decimal.Decimal, stop <-chan struct{}) error {
	for looks := 0; ; looks++ {
		now, err := standOf(ctx, tracker)
		if err != nil {
			return err
		}
		if sum := now.Used.Add(now.Held); sum.GreaterThan(limit) {
			return fmt.Errorf("used %s and held %s passed %s", now.Used, now.Held, limit)
		}
		select {
		case <-stop:
			if looks == 0 {
				return errors.New("nothing was observed")
			}
			return nil
		default:
		}
	}
}

// usableAfterExpiry takes the room that the killed held, and no more.
func usableAfterExpiry(t *testing.T, tracker *usage.Tracker, left int) {
	t.Helper()
	for i := range left {
		if _, err := tracker.Reserve(t.Context(), crashEstimate()); err != nil {
			t.Fatalf("reservation %d of %d after the others expired: %v", i, left, err)
		}
	}
	var quota *usage.QuotaError
	if _, err := tracker.Reserve(t.Context(), crashEstimate()); !errors.As(err, &quota) {
		t.Errorf("one reservation too many: %v", err)
	}
}
