package storepostgres_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// BenchmarkProcesses is four processes with 64 callers each, beside the alternative: LogOpenAI, which is beside the alternative
// with shared commits too, and reservations, over 1,000 tenants and on a hot one. As elsewhere, the database is first brought to
// where it is for most of its life, by each process; and as they do in life, each is elsewhere among the tenants.
func BenchmarkProcesses(b *testing.B) {
	dsn := durable(b)
	for _, load := range benchLoads {
		for _, verb := range []string{"log", "reserve"} {
			sides := []string{"alternative", "usage"}
			if verb == "log" {
				sides = []string{"alternative", "groups", "usage"}
			}
			for _, side := range sides {
				b.Run(load.name+"/"+verb+"/"+side, func(b *testing.B) {
					schema := "bench_" + pgtest.Name()
					if side == "usage" {
						benchTrackerIn(b, dsn, schema, load.tenants)
					} else {
						newAlternative(b, dsn, load.tenants)
					}
					benchProcesses(b, dsn, schema, verb+","+side, load.tenants)
				})
			}
		}
	}
}

func benchProcesses(b *testing.B, dsn, schema, what string, tenants int) {
	const processes = 4
	running := make([]*proctest.Process, processes)
	for i := range running {
		running[i] = start(b, "bencher", dsn, schema+","+what, i, b.N/processes+1, tenants)
	}
	b.ResetTimer()
	began := time.Now()
	for _, p := range running {
		p.Begin()
	}
	for _, p := range running {
		p.End()
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "calls/s")
}

// bench is what a process of BenchmarkProcesses does.
func bench(ctx context.Context, args []string) error {
	dsn, words := args[0], strings.Split(args[1], ",") // schema, verb and side
	process, errProcess := strconv.Atoi(args[2])
	calls, errCalls := strconv.Atoi(args[3])
	tenants, errTenants := strconv.Atoi(args[4])
	if err := errors.Join(errProcess, errCalls, errTenants); err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	st, err := storepostgres.NewConfig(ctx, db, storepostgres.Config{Schema: words[0]})
	if err != nil {
		return err
	}
	tracker, err := usage.New(st, usage.Config{})
	if err != nil {
		return err
	}
	alt := alternative{sqlx.NewDb(db, "pgx")}
	groups := alt.groups()
	call := func(i int) (err error) {
		i += process * tenants / 4
		switch words[1] + " " + words[2] {
		case "log alternative":
			err = alt.log(context.Background(), benchCall(i, tenants))
		case "log groups":
			_, err = groups.Do(context.Background(), benchCall(i, tenants))
		case "log usage":
			_, err = tracker.LogOpenAI(context.Background(), benchCall(i, tenants))
		case "reserve alternative":
			err = alt.reserve(context.Background(), benchTenant(i, tenants))
		case "reserve usage":
			_, err = tracker.Reserve(context.Background(), benchEstimate(i, tenants))
		}
		return err
	}
	warmUp := 0
	if calls > 250 { // else it is a probe
		warmUp = len(benchModels) * tenants
	}
	if err := byGoroutines(64, warmUp, call); err != nil {
		return err
	}
	if err := proctest.Ready(); err != nil {
		return err
	}
	return byGoroutines(64, calls, func(i int) error { return call(warmUp + i) })
}

// BenchmarkLedgerSize reports the bytes that a record takes up on disk, keys, indexes and totals included.
func BenchmarkLedgerSize(b *testing.B) {
	dsn, schema := durable(b), "bench_"+pgtest.Name()
	const callers, tenants = 256, 1000
	tracker := benchTrackerIn(b, dsn, schema, tenants)
	closedLoop(b, callers, func(i int) error {
		_, err := tracker.LogOpenAI(context.Background(), benchCall(i, tenants))
		return err
	})
	var size, records int64
	db := pool(b, dsn)
	err := db.QueryRow(`SELECT sum(pg_total_relation_size(oid)) FROM pg_class
		WHERE relnamespace = $1::regnamespace AND relkind = 'r'`, schema).Scan(&size)
	if err != nil {
		b.Fatal(err)
	}
	if err := db.QueryRow(`SELECT count(*) FROM ` + schema + `.usage_keys`).Scan(&records); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/float64(records), "B/record")
}
