package storepostgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/store"
)

// interrupted is a store whose statements wait, between the moment as of which they see the ledger and the lock of a tenant,
// for as long as the test holds a lock: a policy for rows of tenants, which the server asks while it looks for them, takes it.
type interrupted struct {
	*handle
	admin *sqlx.DB
	key   int
}

func newInterrupted(t *testing.T) (h *interrupted, other *handle) {
	t.Helper()
	dsn := Server.Database(t)
	other = openStore(t, dsn, Config{})
	role := "test_" + pgtest.Name()
	h = &interrupted{admin: foreign(t, dsn, ""), key: 52_417}
	exec(t, h.admin, "CREATE ROLE "+role, "GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role, "GRANT ALL ON SCHEMA public TO "+role,
		"GRANT usage ON ALL SEQUENCES IN SCHEMA public TO "+role,
		fmt.Sprintf(`CREATE FUNCTION wait() RETURNS boolean LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN true; END $$`, h.key),
		"ALTER TABLE usage_tenants ENABLE ROW LEVEL SECURITY", "CREATE POLICY wait ON usage_tenants USING (wait())")
	t.Cleanup(func() { exec(t, h.admin, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	as, err := pgtest.With(dsn, "role", role)
	if err != nil {
		t.Fatal(err)
	}
	other.add(call("globex", "before", noon(), 1)) // makes the partitions, which the role may not
	h.handle = openStore(t, as, Config{Connections: 4})
	return h, other
}

// interrupt does fn while do's statement waits.
func (h *interrupted) interrupt(do, fn func()) {
	h.t.Helper()
	blocker := h.admin.MustBegin()
	exec(h.t, blocker, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", h.key))
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	for h.waiting() == "" && !h.t.Failed() { // asks the server again and again
	}
	if query := h.waiting(); !strings.Contains(query, "SKIP LOCKED") {
		h.t.Errorf("what waits is no quick transaction: %s", query)
	}
	fn()
	if err := blocker.Rollback(); err != nil {
		h.t.Error(err)
	}
	<-done
}

// waiting is the statement that waits.
func (h *interrupted) waiting() (query string) {
	err := h.admin.GetContext(context.Background(), &query, `SELECT COALESCE(max(a.query), '')
		FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.objid = $1 AND NOT l.granted AND a.datname = current_database()`, h.key)
	if err != nil {
		h.t.Error(err)
	}
	return query
}

// onlyOne admits a hold when there is no other.
func onlyOne(s *store.Standing, _ *store.Hold) store.Verdict {
	if len(s.Held) > 0 {
		return store.Verdict{Refusal: store.ErrNotFound}
	}
	return store.Verdict{}
}

// TestWrittenBetweenSnapshotAndLock has another process commit after a quick transaction has begun to look and before it has
// locked: what it sees is older than what it locks.
func TestWrittenBetweenSnapshotAndLock(t *testing.T) {
	t.Parallel()
	t.Run("the same call is counted once", func(t *testing.T) {
		t.Parallel()
		h, other := newInterrupted(t)
		h.add(call(acme, "before", noon(), 1))
		h.interrupt(func() {
			outcomes, err := h.try(call(acme, "a", noon(), 1))
			if err != nil || !outcomes[0].Duplicate {
				t.Errorf("%+v, %v, want a duplicate", outcomes, err)
			}
		}, func() { other.add(call(acme, "a", noon(), 1)) })
		equal(t, "records", other.ids(acme), []string{"a", "before"})
	})
	t.Run("room is given once", func(t *testing.T) {
		t.Parallel()
		h, other := newInterrupted(t)
		h.add(call(acme, "before", noon(), 1))
		h.interrupt(func() {
			outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{reservation("a")}, onlyOne)
			if err != nil {
				t.Error(err)
				return
			}
			is(t, "the second hold", outcomes[0].Err, store.ErrNotFound)
		}, func() { other.hold(reservation("b")) })
		equal(t, "holds", other.holds(), []string{"b"})
	})
	t.Run("a refusal is not by room that has come back", func(t *testing.T) {
		t.Parallel()
		h, other := newInterrupted(t)
		h.hold(reservation("a"))
		h.interrupt(func() {
			outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{reservation("b")}, onlyOne)
			if err != nil || outcomes[0].Err != nil {
				t.Errorf("%+v, %v, want it taken", outcomes, err)
			}
		}, func() {
			err := other.Release(t.Context(), noon(), acme, "a", func(*store.Standing, *store.Hold) []store.Arrival { return nil })
			if err != nil {
				t.Error(err)
			}
		})
		equal(t, "holds", other.holds(), []string{"b"})
	})
}
