package storepostgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// partitionNames are the partitions of the ledger.
func partitionNames(t testing.TB, h *handle) (names []string) {
	t.Helper()
	err := h.db.SelectContext(t.Context(), &names, `
SELECT c.relname
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
JOIN pg_class AS p ON p.oid = i.inhparent
WHERE p.relname = 'usage_records' AND p.relnamespace = $1::regnamespace
ORDER BY 1`, h.names.schema)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	t.Run("are made ahead, and on demand for late and early calls", func(t *testing.T) {
		t.Parallel()
		h := newHandle(t)
		h.add(call(acme, "now", noon(), 1))
		equal(t, "partitions", partitionNames(t, h), []string{"usage_records_2026_03", "usage_records_2026_04"})
		h.add(call(acme, "late", time.Date(2024, 12, 31, 23, 59, 59, 999_999_000, time.UTC), 1),
			call(acme, "early", time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), 1))
		equal(t, "partitions", partitionNames(t, h), []string{
			"usage_records_2024_12", "usage_records_2026_03", "usage_records_2026_04", "usage_records_2030_01",
		})
		equal(t, "records", h.ids(acme), []string{"late", "now", "early"})
	})
	t.Run("are made once by many who need them at the same time", func(t *testing.T) {
		t.Parallel()
		dsn, schema := Schema(t)
		var wg sync.WaitGroup
		for g := range 6 {
			h := openStore(t, dsn, Config{Schema: schema, Connections: 2})
			wg.Go(func() {
				for i := range 4 {
					r := call(fmt.Sprint("tenant-", g), fmt.Sprint(i), noon().AddDate(0, i, 0), 1)
					if outcomes, err := h.Append(t.Context(), noon(), lend(r), quiet); err != nil || outcomes[0].Err != nil {
						t.Errorf("append: %v, %v", outcomes, err)
					}
				}
			})
		}
		wg.Wait()
		h := openStore(t, dsn, Config{Schema: schema})
		equal(t, "partitions", len(partitionNames(t, h)), 4)
		equal(t, "records", h.ids("tenant-5"), []string{"0", "1", "2", "3"})
	})
	t.Run("that somebody took away are made again", func(t *testing.T) {
		t.Parallel()
		h := newHandle(t)
		h.add(call(acme, "a", noon(), 1))
		exec(t, h.db, "DROP TABLE "+h.names.qualify("usage_records_2026_04"))
		h.add(call(acme, "b", noon().AddDate(0, 1, 0), 1))
		equal(t, "records", h.ids(acme), []string{"a", "b"})
	})
	t.Run("that pruning has emptied can be detached and dropped", func(t *testing.T) {
		t.Parallel()
		h := newHandle(t)
		january, february := noon().AddDate(0, -2, 0), noon().AddDate(0, -1, 0)
		h.add(call(acme, "a", january, 1), call(acme, "b", february, 1), call(acme, "c", noon(), 1))
		ledger, emptied := h.names.qualify("usage_records"), h.names.qualify("usage_records_2026_01")
		if n, err := h.Prune(t.Context(), acme, february, 10); n != 1 || err != nil {
			t.Fatalf("pruned %d, %v, want 1", n, err)
		}
		var has bool
		if err := h.db.GetContext(t.Context(), &has, "SELECT EXISTS (SELECT FROM "+emptied+")"); has || err != nil {
			t.Fatalf("the month has records: %v, %v", has, err)
		}
		exec(t, h.db, "ALTER TABLE "+ledger+" DETACH PARTITION "+emptied, "DROP TABLE "+emptied)
		equal(t, "partitions", partitionNames(t, h), []string{"usage_records_2026_02", "usage_records_2026_03", "usage_records_2026_04"})
		outcomes, err := h.try(call(acme, "a", january, 1))
		if err != nil || !errors.Is(outcomes[0].Err, store.ErrPruned) {
			t.Errorf("a call before the horizon: %+v, %v", outcomes, err)
		}
		h.add(call("globex", "a", january, 1)) // whose horizon is none, so its month is made again
		equal(t, "records of another tenant", h.ids("globex"), []string{"a"})
		equal(t, "records", h.ids(acme), []string{"b", "c"})
		if drift, err := h.Verify(t.Context(), acme); len(drift) > 0 || err != nil {
			t.Errorf("drift %+v, %v", drift, err)
		}
	})
	t.Run("do not keep the same call in two months from being one", func(t *testing.T) {
		t.Parallel()
		h := newHandle(t)
		last, first := time.Date(2026, 3, 31, 23, 59, 59, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 1, 0, time.UTC)
		h.add(call(acme, "a", last, 1))
		outcomes, err := h.Append(t.Context(), first, lend(call(acme, "a", first, 1)), quiet)
		if err != nil || !outcomes[0].Duplicate || !outcomes[0].Record.At.Equal(last) {
			t.Errorf("the same call after the month's end: %+v, %v", outcomes, err)
		}
		equal(t, "records", h.ids(acme), []string{"a"})
	})
}

// TestSessionThatDoesNotNoticeAPartition has one session of the server refuse a call for want of a partition that is there.
func TestSessionThatDoesNotNoticeAPartition(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprintf("quick transaction: %v", alone), func(t *testing.T) {
			t.Parallel()
			dsn, schema := Schema(t)
			h, admin := openStore(t, dsn, Config{Schema: schema, Connections: 1}), foreign(t, dsn, schema)
			h.add(call(acme, "a", noon(), 1))
			var session int
			if err := h.db.Get(&session, "SELECT pg_backend_pid()"); err != nil {
				t.Fatal(err)
			}
			exec(t, admin, fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF pg_backend_pid() = %d THEN RAISE 'no partition' USING ERRCODE = 'check_violation'; END IF;
				RETURN NEW;
			END $$`, session), "CREATE TRIGGER refuse BEFORE INSERT ON usage_keys FOR EACH ROW EXECUTE FUNCTION refuse()")
			h.alone.Store(alone)
			h.add(call(acme, "b", noon(), 1))
			equal(t, "records", h.ids(acme), []string{"a", "b"})
		})
	}
}
