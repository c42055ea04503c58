package storepostgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
)

// What package store promises is tested by storetest. The tests here are about the server: its schema and plans, and what
// becomes of the ledger when the server, the network or another process gets in the way.

const acme = "acme"

// noon is when the tests take place.
func noon() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC) }

func quiet(*store.Standing, []*store.Record) store.Judgement { return store.Judgement{} }
func admit(*store.Standing, *store.Hold) store.Verdict       { return store.Verdict{} }

// call is a record of as many tokens as it costs picodollars.
func call(tenant, id string, at time.Time, cost int64) store.Record {
	return store.Record{
		TenantID: tenant, ID: id, Provider: "openai", Model: "gpt-4", At: at, RecordedAt: at, PriceVersion: "2026-01",
		Lines: []store.Line{{Meter: "input_tokens", Quantity: cost, Rate: store.Rate{Amount: 1, Per: 1}, Cost: store.Money(cost)}},
		Cost:  store.Money(cost), Endpoint: "/v1/chat/completions", Status: 200,
	}
}

// lend is how a store is given records: copies, which it may change.
func lend(records ...store.Record) []*store.Record {
	lent := make([]*store.Record, len(records))
	for i, r := range records {
		lent[i] = &r
	}
	return lent
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// handle is a store whose helpers end the test at an unexpected error.
type handle struct {
	*Store
	t testing.TB
}

// openStore opens a store on a database with a Config. Where that does not say how long it waits, it waits for a busy machine.
func openStore(t testing.TB, dsn string, cfg Config) *handle {
	t.Helper()
	cfg.BusyTimeout = cmp.Or(cfg.BusyTimeout, proctest.Limit)
	st, err := OpenConfig(t.Context(), dsn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &handle{st, t}
}

func newHandle(t testing.TB) *handle {
	t.Helper()
	dsn, schema := Schema(t)
	return openStore(t, dsn, Config{Schema: schema})
}

// foreign is a connection that knows nothing of the store, but where its tables are.
func foreign(t testing.TB, dsn, schema string) *sqlx.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if schema != "" {
		cfg.RuntimeParams["search_path"] = schema
	}
	db := sqlx.NewDb(stdlib.OpenDB(*cfg), "pgx")
	t.Cleanup(func() { db.Close() })
	return db
}

func (h *handle) try(records ...store.Record) ([]store.Outcome, error) {
	return h.Append(h.t.Context(), noon(), lend(records...), quiet)
}

func (h *handle) add(records ...store.Record) {
	h.t.Helper()
	outcomes, err := h.try(records...)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Err != nil || o.Duplicate {
			h.t.Fatalf("record %q: duplicate %v, error %v", o.Record.ID, o.Duplicate, o.Err)
		}
	}
}

// impatient has the store wait no longer than that, until patient.
func (h *handle) impatient(most time.Duration) (patient func()) {
	before := h.busyTimeout
	h.busyTimeout = most
	return func() { h.busyTimeout = before }
}

// ids are those of a tenant's records, and that they add up.
func (h *handle) ids(tenant string) (ids []string) {
	h.t.Helper()
	records, err := h.Records(context.Background(), store.RecordQuery{TenantID: tenant, Limit: 10_000})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	drift, err := h.Verify(context.Background(), tenant)
	if err != nil || len(drift) > 0 {
		h.t.Errorf("drift of %s: %v, %+v", tenant, err, drift)
	}
	return ids
}

func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// fault is something that gets in the way of every write. cause returns what takes it away again.
type fault struct {
	name  string
	want  error
	cause func(t *testing.T, h *handle, admin *sqlx.DB) (mend func())
}

func faults() []fault {
	return []fault{
		{"a pool with no free connection", store.ErrBusy, exhaustedPool},
		{"a statement_timeout while another holds the tenant", store.ErrBusy, statementTimeout},
		{"a lock_timeout while another holds the tenant", store.ErrBusy, lockTimeout},
		{"a server that accepts no writes", store.ErrReadOnly, readOnlyServer},
		{"a role without rights", store.ErrReadOnly, noRights},
		{"a commit that fails", store.ErrInvalid, failingCommit},
		{"a row that the database refuses", store.ErrInvalid, refusedValue},
	}
}

func exec(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statements ...string,
) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// exhaustedPool takes all connections, for which the store then does not wait long.
func exhaustedPool(t *testing.T, h *handle, _ *sqlx.DB) func() {
	var taken []*sqlx.Conn
	for range h.db.Stats().MaxOpenConnections {
		conn, err := h.db.Connx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn)
	}
	patient := h.impatient(100 * time.Millisecond)
	return func() {
		for _, conn := range taken {
			conn.Close()
		}
		patient()
	}
}

// locked holds a tenant, and settings of the database that end the wait for it.
func locked(t *testing.T, h *handle, admin *sqlx.DB, setting string) func() {
	tx, err := admin.Beginx()
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, "SELECT FROM usage_tenants WHERE tenant = 'acme' FOR UPDATE")
	return inDatabase(t, h, admin, setting, func() { tx.Rollback() })
}

// inDatabase makes a setting the default of the database for new connections, and has the store make new ones.
func inDatabase(t *testing.T, h *handle, admin *sqlx.DB, setting string, also func()) func() {
	var name string
	if err := admin.Get(&name, "SELECT current_database()"); err != nil {
		t.Fatal(err)
	}
	reconnect := func() { h.db.SetMaxIdleConns(0); h.db.SetMaxIdleConns(4) }
	exec(t, admin, "ALTER DATABASE "+name+" SET "+setting)
	reconnect()
	return func() {
		also()
		exec(t, admin, "SET default_transaction_read_only = off", "ALTER DATABASE "+name+" RESET ALL")
		reconnect()
	}
}

func statementTimeout(t *testing.T, h *handle, admin *sqlx.DB) func() {
	return locked(t, h, admin, "statement_timeout = '50ms'")
}

func lockTimeout(t *testing.T, h *handle, admin *sqlx.DB) func() {
	return locked(t, h, admin, "lock_timeout = '50ms'")
}

func readOnlyServer(t *testing.T, h *handle, admin *sqlx.DB) func() {
	return inDatabase(t, h, admin, "default_transaction_read_only = on", func() {})
}

func noRights(t *testing.T, h *handle, admin *sqlx.DB) func() {
	role := "test_" + pgtest.Name()
	exec(t, admin, "CREATE ROLE "+role, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role)
	mend := inDatabase(t, h, admin, "role = '"+role+"'", func() {})
	return func() {
		mend()
		exec(t, admin, "DROP OWNED BY "+role, "DROP ROLE "+role)
	}
}

// failingCommit gives the ledger a check that the server makes when it commits.
func failingCommit(t *testing.T, _ *handle, admin *sqlx.DB) func() {
	exec(t, admin, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$",
		"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON usage_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
	return func() { exec(t, admin, "DROP TRIGGER refuse ON usage_keys") }
}

func refusedValue(t *testing.T, _ *handle, admin *sqlx.DB) func() {
	exec(t, admin, "ALTER TABLE usage_months ADD CONSTRAINT none CHECK (calls < 0) NOT VALID")
	return func() { exec(t, admin, "ALTER TABLE usage_months DROP CONSTRAINT none") }
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name+" writes nothing and work goes on afterwards", func(t *testing.T) {
			t.Parallel()
			dsn := Server.Database(t)
			h := openStore(t, dsn, Config{Connections: 4})
			h.add(call(acme, "before", noon(), 1), call("globex", "before", noon(), 1))
			other := openStore(t, dsn, Config{})
			mend := f.cause(t, h, foreign(t, dsn, ""))
			for i := range 2 {
				_, err := h.try(call("globex", fmt.Sprint("during ", i), noon(), 2), call(acme, fmt.Sprint("during ", i), noon(), 2))
				is(t, "Append", err, f.want)
				equal(t, "records under the fault", other.ids(acme), []string{"before"})
				equal(t, "records under the fault", other.ids("globex"), []string{"before"})
			}
			mend()
			h.add(call("globex", "during 0", noon(), 2), call(acme, "during 0", noon(), 2))
			equal(t, "records after the fault", h.ids(acme), []string{"before", "during 0"})
			equal(t, "records after the fault", other.ids("globex"), []string{"before", "during 0"})
		})
	}
}

// TestTerminated ends the store's own session in the middle of its transaction, when all is written but the commit.
func TestTerminated(t *testing.T) {
	t.Parallel()
	for i, alone := range []bool{true, false} {
		t.Run(fmt.Sprintf("quick transaction: %v", alone), func(t *testing.T) {
			t.Parallel()
			dsn, schema := Schema(t)
			h, admin := openStore(t, dsn, Config{Schema: schema}), foreign(t, dsn, schema)
			h.add(call(acme, "before", noon(), 1))
			lock := 7245103 + i // the two share a database, and whoever waits is ended
			exec(t, admin, fmt.Sprintf(`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN PERFORM pg_advisory_xact_lock(%d); RETURN NULL; END $$`, lock),
				"CREATE TRIGGER wait AFTER INSERT ON usage_keys FOR EACH STATEMENT EXECUTE FUNCTION wait()")
			blocker := admin.MustBegin()
			exec(t, blocker, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", lock))
			h.alone.Store(alone)
			done := make(chan struct{})
			go func() {
				defer close(done)
				outcomes, err := h.try(call(acme, "a", noon(), 1))
				if err != nil || outcomes[0].Err != nil || outcomes[0].Duplicate {
					t.Errorf("%+v, %v, want it tried again", outcomes, err)
				}
			}()
			waiting := func() (ended int) {
				err := admin.GetContext(t.Context(), &ended, fmt.Sprintf(`SELECT count(pg_terminate_backend(pid)) FROM pg_locks
					WHERE locktype = 'advisory' AND objid = %d AND NOT granted`, lock))
				if err != nil {
					t.Fatal(err)
				}
				return ended
			}
			for waiting() == 0 && !t.Failed() { // asks the server again and again
			}
			if err := blocker.Rollback(); err != nil {
				t.Fatal(err)
			}
			<-done
			equal(t, "records", h.ids(acme), []string{"a", "before"})
			if drift, err := h.Verify(t.Context(), acme); err != nil || len(drift) > 0 {
				t.Errorf("drift %v, %v", drift, err)
			}
		})
	}
}

// What a table or its rows lack is no fault of the call that finds it: whoever sends it again later is to do so.
func TestASchemaThatIsNotWholeIsCorrupt(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"DROP TABLE usage_months", "ALTER TABLE usage_records RENAME COLUMN lines TO line",
		"UPDATE usage_tenants SET time_zone = 'Mars/Olympus'", // also where a machine lacks its rules
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			dsn, schema := Schema(t)
			openStore(t, dsn, Config{Schema: schema}).add(call(acme, "a", noon(), 3))
			if _, err := foreign(t, dsn, schema).ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			_, err := openStore(t, dsn, Config{Schema: schema}).try(call(acme, "b", noon(), 3))
			is(t, "Append", err, store.ErrCorrupt)
		})
	}
}
