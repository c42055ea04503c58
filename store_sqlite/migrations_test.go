package storesqlite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"

	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
)

// number asks for one number.
func number(t testing.TB, db *sqlx.DB, query string) (n int64) {
	t.Helper()
	if err := db.GetContext(t.Context(), &n, query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// uncommitted checks that nobody commits anything to the database while do runs.
func uncommitted(t testing.TB, path string, do func()) {
	t.Helper()
	observer := foreign(t, path)
	before := number(t, observer, "PRAGMA data_version")
	do()
	if after := number(t, observer, "PRAGMA data_version"); after != before {
		t.Error("something was committed to the database")
	}
}

func migratedOnce(t testing.TB, path string) {
	t.Helper()
	db := foreign(t, path)
	if n := number(t, db, "SELECT count(*) FROM usage_schema_versions WHERE version_id = 1"); n != 1 {
		t.Errorf("migration 1 is noted %d times, want once", n)
	}
	if n := number(t, db, "SELECT count(*) FROM sqlite_master WHERE name = 'usage_records'"); n != 1 {
		t.Errorf("there are %d ledgers, want one", n)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("makes the database in an empty folder", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		open(t, path).prepare()
		migratedOnce(t, path)
	})
	t.Run("takes an empty file for a new database", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, path).prepare()
		migratedOnce(t, path)
	})
	t.Run("takes any name that a file can have", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a?b=c&d#e%41 ü;mode=memory.db")
		open(t, path).prepare()
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("changes nothing the second time", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		want := h.state()
		uncommitted(t, path, func() { equal(t, "the ledger", open(t, path).state(), want) })
		migratedOnce(t, path)
	})
	t.Run("of a new file by many goroutines at once", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		racingOpens(t, path, 6)
		migratedOnce(t, path)
	})
	t.Run("of a new file by many processes at once", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		openers := make([]*proctest.Process, 3)
		for i := range openers {
			openers[i] = proctest.Start(t, "opener", path)
		}
		var ids []string
		for _, c := range openers {
			c.Begin()
		}
		for _, c := range openers {
			ids = append(ids, c.End()...)
		}
		migratedOnce(t, path)
		h := open(t, path)
		var stored []string
		for _, r := range h.state().Records {
			stored = append(stored, r.ID)
		}
		slices.Sort(ids)
		equal(t, "records", stored, ids)
		h.healthy()
	})
	t.Run("of a newer schema is refused and the file left alone", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		db := foreign(t, path)
		run(t, db, "INSERT INTO usage_schema_versions (version_id, is_applied) VALUES (9999, 1)")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		before := read(t, path)
		_, err := Open(t.Context(), path)
		is(t, "Open", err, store.ErrSchema)
		if !bytes.Equal(before, read(t, path)) {
			t.Error("the file has changed")
		}
	})
}

// racingOpens opens a new file with as many handles at once, each of which adds a record.
func racingOpens(t *testing.T, path string, handles int) {
	t.Helper()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	errs := make([]error, handles)
	for i := range handles {
		wg.Go(func() {
			<-begin
			st, err := OpenConfig(t.Context(), path, Config{BusyTimeout: proctest.Limit})
			if err == nil {
				err = (&handle{Store: st, t: t}).try(call(acme, fmt.Sprint(i), noon(), 1))
				st.Close()
			}
			errs[i] = err
		})
	}
	close(begin)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("handle %d: %v", i, err)
		}
	}
	h := open(t, path)
	equal(t, "records", len(h.state().Records), handles)
	h.healthy()
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	t.Run("a host runs them with its own tool and Open finds nothing to do", func(t *testing.T) {
		t.Parallel()
		path, ours := newFile(t), newFile(t)
		db := foreign(t, path)
		provider, err := goose.NewProvider(goose.DialectSQLite3, db.DB, Migrations(), goose.WithTableName("usage_schema_versions"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, db, "PRAGMA journal_mode = WAL")
		uncommitted(t, path, func() { open(t, path) })
		open(t, ours)
		equal(t, "the host's schema", dump(t, db), dump(t, foreign(t, ours)))
		h := open(t, path)
		h.prepare()
		h.healthy()
	})
}
