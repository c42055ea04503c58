package storepostgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/group"
	"github.com/acf68eca/usage/internal/pgtest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// What the benchmarks of the write path log: calls of a number of tenants to eight models, in a fixed shuffled order.
var benchModels = [...]string{
	"gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14",
	"gpt-5", "gpt-5-mini-2025-08-07", "gpt-5.4-2026-03-05", "o3-2025-04-16",
}

func benchTenant(i, tenants int) string { return fmt.Sprintf("tenant-%04d", i*7919%tenants) }

func benchCall(i, tenants int) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: benchTenant(i, tenants), Model: benchModels[i/tenants%len(benchModels)], ServiceTier: "default",
		InputTokens: 2_006 + int64(i%100), CachedInputTokens: 1_024, OutputTokens: 300 + int64(i%50),
		Endpoint: "/v1/chat/completions", Status: 200, Latency: 820 * time.Millisecond,
	}
}

var benchLoads = []struct {
	name    string
	tenants int
}{{"tenants=1000", 1000}, {"hot", 1}}

// steadily has callers call until each tenant and model is known, as they are for most of a database's life, and then
// measures the calls after those.
func steadily(b *testing.B, callers, tenants int, call func(i int) error) {
	warmUp := 0
	if b.N >= 1000 { // else it is a probe
		warmUp = len(benchModels) * tenants
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 256 {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < warmUp; i = int(next.Add(1)) - 1 {
					if err := call(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	closedLoop(b, callers, func(i int) error { return call(warmUp + i) })
}

// closedLoop has callers call until b.N calls are made, and reports calls a second and the 99th percentile.
func closedLoop(b *testing.B, callers int, call func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	latencies := make([][]time.Duration, callers)
	b.ResetTimer()
	start := time.Now()
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
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "calls/s")
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	}
}

// durable is a server of the benchmark's own that syncs commits to disk.
func durable(b *testing.B) string {
	b.Helper()
	s, err := pgtest.Start(pgtest.Config{Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s.DSN()
}

// pool is the pool of 16 that both sides have.
func pool(b *testing.B, dsn string) *sql.DB {
	b.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		b.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg)
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

func benchTracker(b *testing.B, dsn string, tenants int) *usage.Tracker {
	b.Helper()
	return benchTrackerIn(b, dsn, "bench_"+pgtest.Name(), tenants)
}

func benchTrackerIn(b *testing.B, dsn, schema string, tenants int) *usage.Tracker {
	b.Helper()
	st, err := storepostgres.NewConfig(b.Context(), pool(b, dsn), storepostgres.Config{Schema: schema})
	if err != nil {
		b.Fatal(err)
	}
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

// alternative is what a host writes by hand: one transaction for each call.
type alternative struct{ db *sqlx.DB }

const alternativeSchema = `
DROP SCHEMA IF EXISTS alternative CASCADE;
CREATE SCHEMA alternative;
CREATE TABLE alternative.log (
	id text PRIMARY KEY, tenant text NOT NULL, at timestamptz NOT NULL, model text NOT NULL,
	input bigint NOT NULL, cached bigint NOT NULL, output bigint NOT NULL, cost numeric(38,12) NOT NULL,
	endpoint text NOT NULL, status integer NOT NULL, latency bigint NOT NULL);
CREATE INDEX log_at ON alternative.log (tenant, at);
CREATE TABLE alternative.months (
	tenant text NOT NULL, month text NOT NULL, model text NOT NULL, calls bigint NOT NULL, tokens bigint NOT NULL,
	cost numeric(38,12) NOT NULL, PRIMARY KEY (tenant, month, model)) WITH (fillfactor = 50);
CREATE TABLE alternative.quotas (
	tenant text PRIMARY KEY, max numeric(38,12) NOT NULL, held numeric(38,12) NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE alternative.holds (
	id text PRIMARY KEY, tenant text NOT NULL, cost numeric(38,12) NOT NULL, expires_at timestamptz NOT NULL);`

func newAlternative(b *testing.B, dsn string, tenants int) alternative {
	b.Helper()
	db := sqlx.NewDb(pool(b, dsn), "pgx")
	db.MustExec(alternativeSchema)
	for i := range tenants {
		db.MustExec(`INSERT INTO alternative.quotas VALUES ($1, 1000000)`, benchTenant(i, tenants))
	}
	return alternative{db}
}

func (a alternative) log(ctx context.Context, c usage.OpenAICall) error {
	tx, err := a.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	now, cost := time.Now(), decimal.New(c.InputTokens*2_000_000+c.OutputTokens*8_000_000, -12)
	_, err = tx.ExecContext(ctx, `INSERT INTO alternative.log VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		id.String(), c.TenantID, now, c.Model, c.InputTokens, c.CachedInputTokens, c.OutputTokens, cost, c.Endpoint, c.Status,
		c.Latency.Microseconds())
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO alternative.months AS m VALUES ($1, $2, $3, 1, $4, $5)
		ON CONFLICT (tenant, month, model) DO UPDATE
		SET calls = m.calls + 1, tokens = m.tokens + excluded.tokens, cost = m.cost + excluded.cost`,
		c.TenantID, now.Format("2006-01"), c.Model, c.InputTokens+c.OutputTokens, cost)
	if err != nil {
		return err
	}
	var limit decimal.Decimal
	if err := tx.GetContext(ctx, &limit, `SELECT max FROM alternative.quotas WHERE tenant = $1`, c.TenantID); err != nil {
		return err
	}
	if cost.GreaterThan(limit) {
		return usage.ErrQuotaExceeded
	}
	return tx.Commit()
}

// logGroup is log for many calls at once: the same rows, by one statement in a transaction of its own.
func (a alternative) logGroup(ctx context.Context, calls []usage.OpenAICall) error {
	n := len(calls)
	ids, tenants, models, endpoints := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	input, cached, output, latencies := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	ats, picods, statuses := make([]time.Time, n), make([]int64, n), make([]int32, n)
	for i, c := range calls {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		ids[i], tenants[i], ats[i], models[i], endpoints[i] = id.String(), c.TenantID, time.Now(), c.Model, c.Endpoint
		input[i], cached[i], output[i] = c.InputTokens, c.CachedInputTokens, c.OutputTokens
		picods[i], statuses[i], latencies[i] = c.InputTokens*2_000_000+c.OutputTokens*8_000_000, int32(c.Status), c.Latency.Microseconds()
	}
	_, err := a.db.ExecContext(ctx, `
WITH logged AS (
	INSERT INTO alternative.log
	SELECT g.id, g.tenant, g.at, g.model, g.input, g.cached, g.output, g.picods * 0.000000000001, g.endpoint, g.status, g.latency
	FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
	            $9::text[], $10::integer[], $11::bigint[])
		AS g (id, tenant, at, model, input, cached, output, picods, endpoint, status, latency)
	ON CONFLICT DO NOTHING
	RETURNING tenant, to_char(at, 'YYYY-MM') AS month, model, input + output AS tokens, cost
), months AS (
	INSERT INTO alternative.months AS m
	SELECT tenant, month, model, count(*), sum(tokens), sum(cost)
	FROM logged
	GROUP BY tenant, month, model
	ORDER BY tenant, month, model
	ON CONFLICT (tenant, month, model) DO UPDATE
	SET calls = m.calls + excluded.calls, tokens = m.tokens + excluded.tokens, cost = m.cost + excluded.cost
)
SELECT max
FROM alternative.quotas
WHERE tenant = ANY ($2)`, ids, tenants, ats, models, input, cached, output, picods, endpoints, statuses, latencies)
	return err
}

// groups has callers share commits of logGroup as those of the library do. It keeps no more than the alternative does, and says
// what shared commits alone bring on this machine.
func (a alternative) groups() *group.Group[usage.OpenAICall, struct{}] {
	return &group.Group[usage.OpenAICall, struct{}]{
		Commit: func(calls []usage.OpenAICall) []group.Result[struct{}] {
			results, err := make([]group.Result[struct{}], len(calls)), a.logGroup(context.Background(), calls)
			for i := range results {
				results[i].Err = err
			}
			return results
		},
		Size:     func(usage.OpenAICall) int { return 1 },
		MaxItems: 1000, MaxSize: 1000,
		Leaders: func() int { return 2 },
		Key:     func(c usage.OpenAICall) string { return c.TenantID },
	}
}

// BenchmarkLogOpenAI is the durable write path, beside the alternative, and that with shared commits.
func BenchmarkLogOpenAI(b *testing.B) {
	dsn := durable(b)
	for _, load := range benchLoads {
		for _, callers := range []int{1, 64, 1024} {
			name := fmt.Sprintf("%s/callers=%d", load.name, callers)
			b.Run(name+"/alternative", func(b *testing.B) {
				alt := newAlternative(b, dsn, load.tenants)
				steadily(b, callers, load.tenants, func(i int) error {
					return alt.log(context.Background(), benchCall(i, load.tenants))
				})
			})
			b.Run(name+"/groups", func(b *testing.B) {
				groups := newAlternative(b, dsn, load.tenants).groups()
				steadily(b, callers, load.tenants, func(i int) error {
					_, err := groups.Do(context.Background(), benchCall(i, load.tenants))
					return err
				})
			})
			b.Run(name+"/usage", func(b *testing.B) {
				tracker := benchTracker(b, dsn, load.tenants)
				steadily(b, callers, load.tenants, func(i int) error {
					_, err := tracker.LogOpenAI(context.Background(), benchCall(i, load.tenants))
					return err
				})
			})
		}
	}
}

// reserve is a reservation as a host writes it by hand: one transaction that locks the tenant's row.
func (a alternative) reserve(ctx context.Context, tenant string) error {
	tx, err := a.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var quota struct{ Max, Held decimal.Decimal }
	err = tx.GetContext(ctx, &quota, `SELECT max, held FROM alternative.quotas WHERE tenant = $1 FOR UPDATE`, tenant)
	if err != nil {
		return err
	}
	cost := decimal.New(2_500_000_000, -12)
	if quota.Held.Add(cost).GreaterThan(quota.Max) {
		return usage.ErrQuotaExceeded
	}
	if _, err := tx.ExecContext(ctx, `UPDATE alternative.quotas SET held = held + $2 WHERE tenant = $1`, tenant, cost); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO alternative.holds VALUES ($1, $2, $3, now() + interval '100 ms')`, id.String(), tenant, cost)
	if err != nil {
		return err
	}
	return tx.Commit()
}

// BenchmarkReserve is 64 callers that reserve, durably, beside the alternative. Reservations last a tenth of a second.
func BenchmarkReserve(b *testing.B) {
	const callers = 64
	dsn := durable(b)
	for _, load := range benchLoads {
		b.Run(load.name+"/alternative", func(b *testing.B) {
			alt := newAlternative(b, dsn, load.tenants)
			steadily(b, callers, load.tenants, func(i int) error { return alt.reserve(context.Background(), benchTenant(i, load.tenants)) })
		})
		b.Run(load.name+"/usage", func(b *testing.B) {
			tracker := benchTracker(b, dsn, load.tenants)
			steadily(b, callers, load.tenants, func(i int) error {
				_, err := tracker.Reserve(context.Background(), benchEstimate(i, load.tenants))
				return err
			})
		})
	}
}

func benchEstimate(i, tenants int) usage.Estimate {
	return usage.Estimate{
		TenantID: benchTenant(i, tenants), Provider: usage.OpenAI, Model: benchModels[0], InputTokens: 1000, ExpiresIn: 100 * time.Millisecond,
	}
}

// BenchmarkCopy is what the ledger's rows can be written at by one connection at the most: COPY of rows and keys into the
// ledger's own tables with their indexes, 500 rows in each commit. It keeps neither totals nor anything that Append does.
func BenchmarkCopy(b *testing.B) {
	dsn := durable(b)
	for _, load := range benchLoads {
		b.Run(load.name, func(b *testing.B) {
			schema := "bench_" + pgtest.Name()
			tracker := benchTrackerIn(b, dsn, schema, load.tenants)
			if _, err := tracker.LogOpenAI(b.Context(), benchCall(0, load.tenants)); err != nil { // makes the partition
				b.Fatal(err)
			}
			conn, err := pgx.Connect(b.Context(), dsn)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(b.Context()) //nolint:errcheck // it has written all it was to
			const rows = 500
			b.ResetTimer()
			start := time.Now()
			for i := 0; i < b.N; i += rows {
				if err := copyRows(b.Context(), conn, schema, i, min(rows, b.N-i), load.tenants); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "calls/s")
		})
	}
}

func copyRows(ctx context.Context, conn *pgx.Conn, schema string, from, n, tenants int) error {
	keys, records := make([][]any, n), make([][]any, n)
	for i := range n {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		tenant, now := benchTenant(from+i, tenants), time.Now()
		keys[i] = []any{tenant, id.String(), now}
		records[i] = []any{
			tenant, id.String(), now, now, int64(820_000), int32(i % 8), int32(1), int32(2), int32(200), false, benchLines,
			pgtype.Numeric{Int: big.NewInt(5_612_000_000), Exp: -12, Valid: true}, "/v1/chat/completions",
		}
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // does nothing after a commit
	_, err = tx.CopyFrom(ctx, pgx.Identifier{schema, "usage_keys"}, []string{"tenant", "id", "at"}, pgx.CopyFromRows(keys))
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{schema, "usage_records"}, []string{
		"tenant", "id", "at", "recorded_at", "latency", "model", "prices", "conditions", "status", "at_given", "lines", "cost", "endpoint",
	}, pgx.CopyFromRows(records))
	if err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// benchLines are lines as the calls of the benchmarks have them.
var benchLines = []byte{1, 0xd6, 0x0f, 4, 0xc8, 0x87, 0xa3, 3, 2, 0x80, 8, 6, 0xc8, 0x87, 0xa3, 3, 3, 0xac, 2, 8, 0xc8, 0x87, 0xa3, 3}
