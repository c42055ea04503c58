package storepostgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"

	"github.com/acf68eca/usage/store"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("by many at once makes the schema once", func(t *testing.T) {
		t.Parallel()
		dsn, schema := Schema(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				st, err := OpenConfig(t.Context(), dsn, Config{Schema: schema, Connections: 2})
				if err != nil {
					t.Error(err)
					return
				}
				st.Close()
			})
		}
		wg.Wait()
		var n int
		db := foreign(t, dsn, schema)
		if err := db.Get(&n, "SELECT count(*) FROM usage_schema_versions WHERE version_id = 1"); err != nil || n != 1 {
			t.Errorf("migration 1 is noted %d times: %v", n, err)
		}
	})
	t.Run("refuses a schema that is newer than it knows", func(t *testing.T) {
		t.Parallel()
		dsn, schema := Schema(t)
		openStore(t, dsn, Config{Schema: schema})
		exec(t, foreign(t, dsn, schema), "INSERT INTO usage_schema_versions (version_id, is_applied) VALUES (9999, true)")
		_, err := OpenConfig(t.Context(), dsn, Config{Schema: schema})
		is(t, "Open", err, store.ErrSchema)
	})
	t.Run("takes a schema that the host's own tool has made", func(t *testing.T) {
		t.Parallel()
		dsn := Server.Database(t)
		provider, err := goose.NewProvider(goose.DialectPostgres, foreign(t, dsn, "").DB, Migrations(),
			goose.WithTableName("usage_schema_versions"), goose.WithLogger(goose.NopLogger()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		openStore(t, dsn, Config{}).add(call(acme, "a", noon(), 1))
	})
	t.Run("keeps schemas of one database apart", func(t *testing.T) {
		t.Parallel()
		dsn := Server.Database(t)
		a, b, public := openStore(t, dsn, Config{Schema: "a"}), openStore(t, dsn, Config{Schema: "b"}), openStore(t, dsn, Config{})
		a.add(call(acme, "in a", noon(), 1))
		b.add(call(acme, "in b", noon(), 1))
		for want, h := range map[string]*handle{"in a": a, "in b": b, "": public} {
			equal(t, "records", strings.Join(h.ids(acme), ","), want)
		}
	})
	t.Run("refuses what it cannot read", func(t *testing.T) {
		t.Parallel()
		for _, dsn := range []string{"postgres://user:secret@host:port/db", "host=x sslmode=nonsense password=secret"} {
			_, err := Open(t.Context(), dsn)
			is(t, dsn, err, store.ErrInvalid)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		}
		for _, schema := range []string{"Upper", "a b", "1", `a"; DROP TABLE x; --`, strings.Repeat("a", 64)} {
			_, err := OpenConfig(t.Context(), Server.DSN(), Config{Schema: schema})
			is(t, schema, err, store.ErrInvalid)
		}
		for _, cfg := range []Config{{BusyTimeout: -1}, {Connections: -1}} {
			_, err := OpenConfig(t.Context(), Server.DSN(), cfg)
			is(t, fmt.Sprintf("%+v", cfg), err, store.ErrInvalid)
		}
		_, err := New(t.Context(), nil)
		is(t, "no pool", err, store.ErrInvalid)
		db := sql.OpenDB(otherDriver{})
		defer db.Close()
		_, err = New(t.Context(), db)
		is(t, "a pool of another driver", err, store.ErrInvalid)
	})
	t.Run("ends with its context while there is no server", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Open(ctx, "host=/nowhere")
		is(t, "Open", err, context.Canceled)
	})
}

func TestNewLeavesThePoolToTheHost(t *testing.T) {
	t.Parallel()
	t.Run("with the schema of its connections", func(t *testing.T) {
		t.Parallel()
		dsn, schema := Schema(t)
		pool := onePool(t, dsn, schema)
		exec(t, pool, "CREATE SCHEMA "+schema)
		st, err := New(t.Context(), pool.DB)
		leavesThePool(t, pool, st, err)
	})
	t.Run("with a schema of its own", func(t *testing.T) {
		t.Parallel()
		dsn, schema := Schema(t)
		pool := onePool(t, dsn, "")
		st, err := NewConfig(t.Context(), pool.DB, Config{Schema: schema})
		leavesThePool(t, pool, st, err)
	})
}

// onePool is a pool that has one connection: no method needs a second one.
func onePool(t *testing.T, dsn, schema string) *sqlx.DB {
	t.Helper()
	pool := foreign(t, dsn, schema)
	pool.SetMaxOpenConns(1)
	return pool
}

// leavesThePool uses a store on a host's pool and closes it.
func leavesThePool(t *testing.T, pool *sqlx.DB, st *Store, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	h := &handle{st, t}
	h.add(call(acme, "a", noon(), 1), call("globex", "a", noon().AddDate(0, 3, 0), 1))
	equal(t, "records", h.ids(acme), []string{"a"})
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Ping(); err != nil {
		t.Errorf("the host's pool after Close: %v", err)
	}
	_, err = h.Tenants(t.Context(), "", 1)
	is(t, "Tenants", err, store.ErrClosed)
}

func TestMigrationsCanBeRead(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "files", names, []string{"0001_ledger.sql"})
}

// otherDriver is a driver of database/sql that is not pgx. It connects, and that is all.
type otherDriver struct{}

func (otherDriver) Driver() driver.Driver { return nil }

func (otherDriver) Connect(context.Context) (driver.Conn, error) { return otherConn{}, nil }

type otherConn struct{ driver.Conn }

func (otherConn) Close() error { return nil }
