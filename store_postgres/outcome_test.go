package storepostgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
)

// reservation is a hold on nothing in particular, for an hour from noon.
func reservation(id string) store.Hold {
	return store.Hold{TenantID: acme, ID: id, Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
}

// A host may well name a call and its reservation alike: that the one is there does not say that the other is.
func TestCallNamedLikeItsReservation(t *testing.T) {
	t.Parallel()
	t.Run("a call that did not reach the server is sent again", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t)
		h.hold(reservation("a"))
		p.cut.Store(loseCommit)
		h.add(call(acme, "a", noon(), 7))
		equal(t, "records", direct.ids(acme), []string{"a", "before"})
	})
	t.Run("a reservation that did not reach the server is sent again", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t)
		h.add(call(acme, "a", noon(), 7))
		p.cut.Store(loseCommit)
		h.hold(reservation("a"))
		equal(t, "holds", direct.holds(), []string{"a"})
	})
}

func (h *handle) hold(holds ...store.Hold) {
	h.t.Helper()
	outcomes, err := h.Hold(h.t.Context(), noon(), holds, admit)
	if err != nil {
		h.t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Err != nil {
			h.t.Fatalf("hold %q: %v", holds[i].ID, o.Err)
		}
	}
}

// holds are the ids of acme's live holds.
func (h *handle) holds() (ids []string) {
	h.t.Helper()
	standing, err := h.Standing(h.t.Context(), acme, noon())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, hold := range standing.Holds {
		ids = append(ids, hold.ID)
	}
	return ids
}

// TestAnswerLostTwice also loses what the store would hear when it asks what became of the first.
func TestAnswerLostTwice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*handle) error
	}{
		{"a call is the first, not a duplicate", func(h *handle) error {
			outcomes, err := h.try(call(acme, "a", noon(), 7))
			if err == nil && outcomes[0].Duplicate {
				err = store.ErrConflict
			}
			return err
		}},
		{"a reservation that has expired by then is taken, and not by somebody else", func(h *handle) error {
			expired := reservation("a")
			expired.ExpiresAt = noon()
			outcomes, err := h.Hold(h.t.Context(), noon(), []store.Hold{expired}, admit)
			if err == nil {
				err = outcomes[0].Err
			}
			return err
		}},
		{"a reservation is taken, and not by somebody else", func(h *handle) error {
			outcomes, err := h.Hold(h.t.Context(), noon(), []store.Hold{reservation("a")}, admit)
			if err == nil {
				err = outcomes[0].Err
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, h, _ := cuttable(t)
			p.whenUnheard(func() { p.unheard.Store(nil); p.cut.Store(loseAnswer) })
			p.cut.Store(loseAnswer)
			if err := tt.do(h); err != nil {
				t.Error(err)
			}
			equal(t, "what is left to cut", p.cut.Load(), pass)
		})
	}
}

// TestAnotherWritesBeforeItIsAsked has another process write for the tenant after the commit whose answer was lost.
func TestAnotherWritesBeforeItIsAsked(t *testing.T) {
	t.Parallel()
	t.Run("a call is there once", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t)
		p.whenUnheard(func() { direct.add(call(acme, "other", noon(), 1)) })
		p.cut.Store(loseAnswer)
		outcomes, err := h.try(call(acme, "a", noon(), 7))
		if err != nil || outcomes[0].Err != nil {
			t.Errorf("%+v, %v", outcomes, err)
		}
		equal(t, "records", direct.ids(acme), []string{"a", "before", "other"})
	})
	t.Run("nobody says that a reservation was not taken", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t)
		p.whenUnheard(func() { direct.add(call(acme, "other", noon(), 1)) })
		p.cut.Store(loseAnswer)
		_, err := h.Hold(t.Context(), noon(), []store.Hold{reservation("a")}, admit)
		is(t, "Hold", err, store.ErrUnknownOutcome)
		equal(t, "holds", direct.holds(), []string{"a"})
	})
}

// TestRefusalWhoseCommitIsUnheard has a record refused after a quick transaction would have added it.
func TestRefusalWhoseCommitIsUnheard(t *testing.T) {
	t.Parallel()
	p, h, direct := cuttable(t)
	h.hold(reservation("h"))
	err := direct.Release(t.Context(), noon(), acme, "h", func(*store.Standing, *store.Hold) []store.Arrival { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p.spared.Store(1) // the quick one
	p.cut.Store(loseAnswer)
	r := call(acme, "a", noon(), 7)
	r.HoldID = "h"
	outcomes, err := h.try(r)
	if err != nil {
		t.Fatal(err)
	}
	is(t, "outcome", outcomes[0].Err, store.ErrHoldReleased)
	equal(t, "what is left to cut", p.cut.Load(), pass)
	equal(t, "records", direct.ids(acme), []string{"before"})
}

// TestAskingFails has the question what became of a transaction end in an error of the server.
func TestAskingFails(t *testing.T) {
	t.Parallel()
	dsn := Server.Database(t)
	p, through := behindProxy(t, dsn)
	h, admin := openStore(t, through, Config{Connections: 1}), foreign(t, dsn, "")
	h.add(call(acme, "before", noon(), 1))
	var name string
	if err := admin.Get(&name, "SELECT current_database()"); err != nil {
		t.Fatal(err)
	}
	exec(t, admin, "ALTER DATABASE "+name+" SET lock_timeout = '50ms'") // of connections that are made from now on
	blocker := admin.MustBegin()
	p.whenUnheard(func() { exec(t, blocker, "SELECT FROM usage_tenants FOR UPDATE") })
	p.cut.Store(loseAnswer)
	patient := h.impatient(time.Second)
	_, err := h.try(call(acme, "a", noon(), 7))
	is(t, "Append", err, store.ErrUnknownOutcome)
	patient()
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	var begun int
	err = admin.Get(&begun, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()")
	if err != nil || begun != 0 {
		t.Errorf("%d transactions are left open: %v", begun, err)
	}
	outcomes, err := h.try(call(acme, "a", noon(), 7))
	if err != nil || !outcomes[0].Duplicate {
		t.Errorf("the same again: %+v, %v", outcomes, err)
	}
}

// TestWhatWasThereBefore has a quick transaction that can write nothing, because an id is taken, and its answer or itself
// lost: that the id is there does not say that it was committed.
func TestWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	for what, cut := range map[string]int32{"itself": loseCommit, "its answer": loseAnswer} {
		t.Run("a call that comes again takes nobody with it when the transaction loses "+what, func(t *testing.T) {
			t.Parallel()
			p, h, direct := cuttable(t)
			p.cut.Store(cut)
			outcomes, err := h.try(call(acme, "before", noon(), 1), call(acme, "a", noon(), 1), call("globex", "a", noon(), 1))
			if err != nil {
				t.Fatal(err)
			}
			for i, duplicate := range []bool{true, false, false} {
				if outcomes[i].Err != nil || outcomes[i].Duplicate != duplicate {
					t.Errorf("outcome %d: %+v", i, outcomes[i])
				}
			}
			equal(t, "what is left to cut", p.cut.Load(), pass)
			for _, tenant := range []string{acme, "globex"} {
				h.add(call(tenant, "b", noon(), 1))
				equal(t, "records of "+tenant, direct.ids(tenant), []string{"a", "b", "before"})
			}
		})
		for _, settled := range []bool{false, true} {
			t.Run(fmt.Sprintf("a reservation whose id is taken is refused when the transaction loses %s, settled: %v", what, settled), func(t *testing.T) {
				t.Parallel()
				p, h, direct := cuttable(t)
				h.hold(reservation("a"))
				if settled {
					r := call(acme, "a", noon(), 1)
					r.HoldID = "a"
					h.add(r)
				}
				p.cut.Store(cut)
				outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{reservation("b"), reservation("a")}, admit)
				if err != nil {
					t.Fatal(err)
				}
				is(t, "the one that was there", outcomes[1].Err, store.ErrConflict)
				if outcomes[0].Err != nil {
					t.Error(outcomes[0].Err)
				}
				want := []string{"a", "b"}
				if settled {
					want = want[1:]
				}
				equal(t, "holds", direct.holds(), want)
				p.cut.Store(cut)
				outcomes, err = h.Hold(t.Context(), noon(), []store.Hold{reservation("a")}, admit)
				if err != nil {
					t.Fatal(err)
				}
				is(t, "the one that was there, alone", outcomes[0].Err, store.ErrConflict)
				equal(t, "what is left to cut", p.cut.Load(), pass)
			})
		}
	}
}

// TestWhatAddedNothingIsTriedAgain has two others write after the commit of a transaction that had nothing to add.
func TestWhatAddedNothingIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*handle) error{
		"a duplicate": func(h *handle) error {
			outcomes, err := h.try(call(acme, "before", noon(), 1))
			if err == nil && !outcomes[0].Duplicate {
				err = store.ErrNotFound
			}
			return err
		},
		"a release of what is released": func(h *handle) error { return h.Release(h.t.Context(), noon(), acme, "h", keep) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, h, direct := cuttable(t)
			h.hold(reservation("h"))
			if err := h.Release(t.Context(), noon(), acme, "h", keep); err != nil {
				t.Fatal(err)
			}
			h.alone.Store(false)
			p.whenUnheard(func() {
				p.unheard.Store(nil)
				for _, id := range []string{"x", "y"} {
					direct.alone.Store(false)
					direct.add(call(acme, id, noon(), 1))
				}
			})
			p.cut.Store(loseAnswer)
			if err := do(h); err != nil {
				t.Error(err)
			}
			equal(t, "what is left to cut", p.cut.Load(), pass)
		})
	}
}

// failing is a connection that breaks when it is written to once too often.
type failing struct {
	net.Conn
	left *atomic.Int32
}

func (f *failing) Write(b []byte) (int, error) {
	if f.left.Add(-1) < 0 {
		f.Close()
		return 0, net.ErrClosed
	}
	return f.Conn.Write(b)
}

// TestWhatWasNotSentIsKnown has each write to the server fail before anything is sent, one after the other, and the server
// stay away: nothing can have been committed.
func TestWhatWasNotSentIsKnown(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	openStore(t, dsn, Config{Schema: schema}).add(call(acme, "before", noon(), 1))
	for writes := int32(0); ; writes++ {
		cfg, err := parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		var left atomic.Int32
		left.Store(1 << 20)
		dial := cfg.DialFunc
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if left.Load() < 0 {
				return nil, net.ErrClosed
			}
			conn, err := dial(ctx, network, addr)
			return &failing{conn, &left}, err
		}
		db := stdlib.OpenDB(*cfg)
		db.SetMaxOpenConns(1)
		st, err := NewConfig(t.Context(), db, Config{Schema: schema, BusyTimeout: proctest.Limit})
		if err != nil {
			t.Fatal(err)
		}
		h := &handle{st, t}
		h.impatient(100 * time.Millisecond)
		left.Store(writes)
		_, err = h.try(call(acme, fmt.Sprint(writes), noon(), 1))
		failed := left.Load() < 0
		db.Close()
		if !failed {
			equal(t, "error when no write failed", err, nil)
			return
		}
		is(t, fmt.Sprintf("Append whose write %d failed", writes), err, store.ErrUnavailable)
		if errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("nothing was sent, and the error is %v", err)
		}
	}
}

// TestFoundByAFailingTry has another process write after a commit whose answer was lost, so that only the next try can find
// the call, and that one fail.
func TestFoundByAFailingTry(t *testing.T) {
	t.Parallel()
	dsn := Server.Database(t)
	p, through := behindProxy(t, dsn)
	h, direct, admin := openStore(t, through, Config{}), openStore(t, dsn, Config{}), foreign(t, dsn, "")
	h.add(call(acme, "before", noon(), 1))
	p.whenUnheard(func() {
		direct.add(call(acme, "other", noon(), 1))
		exec(t, admin, "ALTER TABLE usage_records RENAME TO gone")
	})
	p.cut.Store(loseAnswer)
	_, err := h.try(call(acme, "a", noon(), 7))
	is(t, "Append", err, store.ErrUnknownOutcome)
	exec(t, admin, "ALTER TABLE gone RENAME TO usage_records")
	equal(t, "records", direct.ids(acme), []string{"a", "before", "other"})
}

// TestOnlyACommitIsUnknown loses the server at each request of a call, one after the other, on a connection that is new, where
// statements are described before they are sent. Before the last request nothing can have been committed.
func TestOnlyACommitIsUnknown(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	openStore(t, dsn, Config{Schema: schema}).add(call(acme, "before", noon(), 1))
	unknown, lost := 0, func() int32 { return loseServer }
	for request := int32(1); ; request++ {
		p, through := behindProxy(t, dsn)
		h := openStore(t, through, Config{Schema: schema, Connections: 1})
		h.impatient(500 * time.Millisecond)
		p.step.Store(&lost)
		p.until.Store(request)
		_, err := h.try(call(acme, fmt.Sprint(request), noon(), 1))
		if p.until.Swap(0) > 0 {
			equal(t, "error when no request was lost", err, nil)
			equal(t, "unknown outcomes", unknown, 1)
			return
		}
		if errors.Is(err, store.ErrUnknownOutcome) {
			unknown++
		}
	}
}

// TestStandbyIsAsked has a standby be asked what became of a transaction before it is promoted, and before it has heard of it.
func TestStandbyIsAsked(t *testing.T) {
	t.Parallel()
	dsn := Server.Database(t)
	exec(t, foreign(t, dsn, ""), "CREATE SCHEMA standby", "CREATE SEQUENCE standby.asked",
		"CREATE FUNCTION standby.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS $$ SELECT nextval('standby.asked') < 3 $$",
		`CREATE FUNCTION standby.pg_xact_status(number xid8) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
			IF (SELECT last_value < 3 FROM standby.asked) THEN
				RAISE 'transaction ID % is in the future', number USING ERRCODE = 'invalid_parameter_value';
			END IF;
			RETURN pg_catalog.pg_xact_status(number);
		END $$`)
	p, through := behindProxy(t, dsn)
	through, err := pgtest.With(through, "search_path", "standby,pg_catalog,public")
	if err != nil {
		t.Fatal(err)
	}
	h := openStore(t, through, Config{Schema: "mine"})
	h.add(call(acme, "before", noon(), 1))
	p.cut.Store(loseAnswer)
	outcomes, err := h.Append(t.Context(), noon(), lend(call(acme, "a", noon(), 7)), warn)
	if err != nil || outcomes[0].Duplicate || outcomes[0].Err != nil {
		t.Errorf("%+v, %v, want the first result", outcomes, err)
	}
	equal(t, "what is left to cut", p.cut.Load(), pass)
	equal(t, "records", h.ids(acme), []string{"a", "before"})
}

// TestAskedUntilItIsAnswered has a quick transaction be asked about where no answer is to be had at first.
func TestAskedUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	for what, code := range map[string]string{
		"a standby that is promoted": "25006", "a lock that is waited for too long": "55P03", "a statement that takes too long": "57014",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p, h, direct := cuttable(t)
			admin := foreign(t, Server.DSN(), h.names.schema)
			exec(t, admin, "CREATE SEQUENCE asked", `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF nextval('`+h.names.schema+`.asked') < 3 THEN
					RAISE 'not yet' USING ERRCODE = '`+code+`';
				END IF;
				RETURN NEW;
			END $$`)
			p.whenUnheard(func() {
				exec(t, admin, "CREATE TRIGGER refuse BEFORE UPDATE ON usage_tenants FOR EACH ROW EXECUTE FUNCTION refuse()")
			})
			p.cut.Store(loseAnswer)
			h.add(call(acme, "a", noon(), 7))
			equal(t, "what is left to cut", p.cut.Load(), pass)
			equal(t, "records", direct.ids(acme), []string{"a", "before"})
		})
	}
}

// TestPoolerAnswers has a pooler answer a commit, whose connection to the server broke: it may have been made.
func TestPoolerAnswers(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, admin := openStore(t, dsn, Config{Schema: schema}), foreign(t, dsn, schema)
	h.add(call(acme, "a", noon(), 1))
	made := &tx{
		store: h.Store, witness: witness{kind: recordWitness, tenantID: acme, id: "a"},
		tenants: map[string]*tenant{acme: h.cache.tenants[acme]},
	}
	if err := admin.Get(&made.number, "SELECT xmin::text::bigint FROM usage_keys"); err != nil {
		t.Fatal(err)
	}
	for code, committed := range map[string]bool{"08006": true, "08P01": true, "23514": false} {
		said := &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: code}
		if err := h.resolve(t.Context(), made, said); (err == nil) != committed {
			t.Errorf("%s: %v, want that it was committed: %t", code, err, committed)
		}
	}
}
