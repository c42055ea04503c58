package usage_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/group"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// What the benchmarks of the write path log: calls of a number of tenants to eight models, in a fixed shuffled order of both, so
// that the totals of calls that come together do not stand together.
var benchModels = [...]string{
	"gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14",
	"gpt-5", "gpt-5-mini-2025-08-07", "gpt-5.4-2026-03-05", "o3-2025-04-16",
}

func benchTenant(i, tenants int) string { return fmt.Sprintf("tenant-%04d", i*7919%tenants) }

func benchCall(i, tenants int) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: benchTenant(i, tenants), Model: benchModels[(i/tenants+i*7919%tenants)%len(benchModels)], ServiceTier: "default",
		InputTokens: 2_006 + int64(i%100), CachedInputTokens: 1_024, OutputTokens: 300 + int64(i%50),
		Endpoint: "/v1/chat/completions", Status: 200, Latency: 820 * time.Millisecond,
	}
}

// steadily has callers call until a database is as it is for most of its life, and then measures the calls after those.
func steadily(b *testing.B, callers, warmUp int, call func(i int) error) {
	warm(b, callers, warmUp, call)
	closedLoop(b, callers, func(i int) error { return call(warmUp + i) })
}

// warm makes the calls after which a database is as it is for most of its life: each tenant and model is known, and the log has
// grown to its size. Before a probe of the benchmark it makes none.
func warm(b *testing.B, callers, calls int, call func(i int) error) {
	if b.N >= 1000 {
		fill(b, callers, calls, call)
	}
}

// warmUp is how many calls the library's log takes to grow to its size.
func warmUp(callers int) int {
	if callers > 1 { // they share commits
		return 40_000
	}
	return 8_000
}

// closedLoop has callers call until b.N calls are made, and reports calls a second, the 99th percentile, and the
// processor's time for each call: on a machine that does other work too it moves less than the clock's.
func closedLoop(b *testing.B, callers int, call func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	latencies := make([][]time.Duration, callers)
	b.ResetTimer()
	start, cpu := time.Now(), cpuTime()
	for c := range callers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				began := time.Now()
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
				latencies[c] = append(latencies[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1000/float64(b.N), "cpu-µs/call")
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "calls/s")
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	}
}

func benchTracker(b *testing.B, path string, tenants int) *usage.Tracker {
	st, err := storesqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	tracker, err := usage.New(st, usage.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range tenants {
		err := tracker.SetQuota(b.Context(), usage.Quota{
			TenantID:      benchTenant(i, tenants),
			Limits:        []usage.Limit{{Meter: usage.Cost, Max: decimal.NewFromInt(1_000_000)}},
			AlertPercents: []int{80, 100},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return tracker
}

// alternative is what a host writes by hand: one transaction for each call, with the same settings of SQLite.
type alternative struct{ db *sqlx.DB }

const alternativeSchema = `
CREATE TABLE log (
	id TEXT PRIMARY KEY, tenant TEXT NOT NULL, at INTEGER NOT NULL, model TEXT NOT NULL,
	input INTEGER NOT NULL, cached INTEGER NOT NULL, output INTEGER NOT NULL, cost INTEGER NOT NULL,
	endpoint TEXT NOT NULL, status INTEGER NOT NULL, latency INTEGER NOT NULL) STRICT;
CREATE INDEX log_at ON log (tenant, at);
CREATE TABLE months (
	tenant TEXT NOT NULL, month TEXT NOT NULL, model TEXT NOT NULL, calls INTEGER NOT NULL, tokens INTEGER NOT NULL,
	cost INTEGER NOT NULL, PRIMARY KEY (tenant, month, model)) STRICT;
CREATE TABLE quotas (tenant TEXT PRIMARY KEY, max INTEGER NOT NULL) STRICT;`

func newAlternative(b *testing.B, path string, tenants int) alternative {
	dsn := "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=wal_autocheckpoint(4000)&_txlock=immediate"
	db, err := sqlx.Open("sqlite", dsn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	db.MustExec(alternativeSchema)
	for i := range tenants {
		db.MustExec(`INSERT INTO quotas VALUES (?, ?)`, benchTenant(i, tenants), int64(1e18))
	}
	return alternative{db}
}

// What it does for each call.
const (
	insertLog   = `INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	upsertMonth = `INSERT INTO months VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE
		SET calls = calls + 1, tokens = tokens + excluded.tokens, cost = cost + excluded.cost`
	selectQuota = `SELECT max FROM quotas WHERE tenant = ?`
)

func (a alternative) log(ctx context.Context, c usage.OpenAICall) error {
	return a.transact(ctx, func(tx *sqlx.Tx) error { return insertCall(ctx, tx, c) })
}

func (a alternative) transact(ctx context.Context, do func(*sqlx.Tx) error) error {
	tx, err := a.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// statements is what runs the alternative's: a transaction, or statements that are kept prepared.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	GetContext(ctx context.Context, dest any, query string, args ...any) error
}

// keptPrepared are statements by their text.
type keptPrepared map[string]*sqlx.Stmt

func (p keptPrepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p[query].ExecContext(ctx, args...)
}

func (p keptPrepared) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	return p[query].GetContext(ctx, dest, args...)
}

func insertCall(ctx context.Context, tx statements, c usage.OpenAICall) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	now, cost := time.Now(), c.InputTokens*2_000_000+c.OutputTokens*8_000_000
	_, err = tx.ExecContext(ctx, insertLog, id.String(), c.TenantID, now.UnixMicro(), c.Model, c.InputTokens, c.CachedInputTokens,
		c.OutputTokens, cost, c.Endpoint, c.Status, c.Latency.Microseconds())
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, upsertMonth, c.TenantID, now.Format("2006-01"), c.Model, c.InputTokens+c.OutputTokens, cost)
	if err != nil {
		return err
	}
	var limit int64
	if err := tx.GetContext(ctx, &limit, selectQuota, c.TenantID); err != nil {
		return err
	}
	if cost > limit {
		return usage.ErrQuotaExceeded
	}
	return nil
}

// groups has callers share the alternative's transactions, with its statements kept prepared. It keeps no more than the
// alternative does, and says what shared commits alone bring on this machine.
func (a alternative) groups(b *testing.B) *group.Group[usage.OpenAICall, struct{}] {
	prepared := make(keptPrepared)
	for _, query := range []string{insertLog, upsertMonth, selectQuota} {
		stmt, err := a.db.PreparexContext(b.Context(), query)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { stmt.Close() })
		prepared[query] = stmt
	}
	logAll := func(ctx context.Context, calls []usage.OpenAICall) error {
		return a.transact(ctx, func(tx *sqlx.Tx) error {
			inTx := make(keptPrepared)
			for query, stmt := range prepared {
				inTx[query] = tx.StmtxContext(ctx, stmt)
			}
			for _, c := range calls {
				if err := insertCall(ctx, inTx, c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &group.Group[usage.OpenAICall, struct{}]{
		Commit: func(calls []usage.OpenAICall) []group.Result[struct{}] {
			results, err := make([]group.Result[struct{}], len(calls)), logAll(context.Background(), calls)
			for i := range results {
				results[i].Err = err
			}
			return results
		},
		Size:     func(usage.OpenAICall) int { return 1 },
		MaxItems: 2000, MaxSize: 2000,
	}
}

// BenchmarkLogOpenAI is the durable write path, beside the alternative, and that with shared commits.
func BenchmarkLogOpenAI(b *testing.B) {
	for _, load := range []struct {
		name    string
		tenants int
	}{{"tenants=1000", 1000}, {"hot", 1}} {
		for _, callers := range []int{1, 64, 1024} {
			name := fmt.Sprintf("%s/callers=%d", load.name, callers)
			b.Run(name+"/alternative", func(b *testing.B) {
				alt := newAlternative(b, filepath.Join(b.TempDir(), "alt.db"), load.tenants)
				steadily(b, callers, 8_000, func(i int) error {
					return alt.log(context.Background(), benchCall(i, load.tenants))
				})
			})
			b.Run(name+"/groups", func(b *testing.B) {
				groups := newAlternative(b, filepath.Join(b.TempDir(), "groups.db"), load.tenants).groups(b)
				steadily(b, callers, 8_000, func(i int) error {
					_, err := groups.Do(context.Background(), benchCall(i, load.tenants))
					return err
				})
			})
			b.Run(name+"/usage", func(b *testing.B) {
				tracker := benchTracker(b, filepath.Join(b.TempDir(), "usage.db"), load.tenants)
				steadily(b, callers, warmUp(callers), func(i int) error {
					_, err := tracker.LogOpenAI(context.Background(), benchCall(i, load.tenants))
					return err
				})
			})
		}
	}
}

// BenchmarkDuplicates replays calls that are in the ledger, beside new ones of the same kind.
func BenchmarkDuplicates(b *testing.B) {
	const callers, tenants, logged = 64, 1000, 50_000
	call := func(i int) usage.OpenAICall {
		c := benchCall(i, tenants)
		c.ID = fmt.Sprintf("chatcmpl-%09d", i)
		return c
	}
	log := func(b *testing.B, tracker *usage.Tracker, i int) error {
		_, err := tracker.LogOpenAI(b.Context(), call(i))
		return err
	}
	b.Run("new", func(b *testing.B) {
		tracker := benchTracker(b, filepath.Join(b.TempDir(), "usage.db"), tenants)
		fill(b, 1024, logged, func(i int) error {
			_, err := tracker.LogOpenAI(b.Context(), benchCall(i, tenants))
			return err
		})
		closedLoop(b, callers, func(i int) error { return log(b, tracker, i) })
	})
	b.Run("replayed", func(b *testing.B) {
		tracker := benchTracker(b, filepath.Join(b.TempDir(), "usage.db"), tenants)
		fill(b, 1024, logged, func(i int) error { return log(b, tracker, i) })
		closedLoop(b, callers, func(i int) error { return log(b, tracker, i%logged) })
	})
}

// fill has callers make n calls, which are not measured.
func fill(b *testing.B, callers, n int, call func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

var benchRecords = flag.String("records", "1000,100000", "sizes of the ledger for BenchmarkLedgerSize, in records")

// BenchmarkLedgerSize has a ledger grow from size to size and at each one measures the write path, GetCurrentUsage and
// the bytes that a record takes up on disk, indexes and totals included. The calls have ids made by the library.
func BenchmarkLedgerSize(b *testing.B) {
	const callers, tenants = 64, 100 // few, so that each has used all models in the smallest ledger
	path := filepath.Join(b.TempDir(), "usage.db")
	tracker := benchTracker(b, path, tenants)
	have := 0
	log := func(i int) error {
		_, err := tracker.LogOpenAI(context.Background(), benchCall(i, tenants))
		return err
	}
	for text := range strings.SplitSeq(*benchRecords, ",") {
		size, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		fill(b, 1024, size-have, log)
		have = size
		b.Run(text+"/GetCurrentUsage", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := tracker.GetCurrentUsage(b.Context(), benchTenant(i, tenants)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(text+"/LogOpenAI", func(b *testing.B) {
			closedLoop(b, callers, log)
			have += b.N
			if info, err := os.Stat(path); err == nil {
				b.ReportMetric(float64(info.Size())/float64(have), "B/record")
			}
		})
	}
}
