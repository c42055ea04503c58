package storepostgres

import (
	"testing"

	"github.com/acf68eca/usage/store"
)

// TestAnotherServer has the numbers of texts mean others than before, as after a failover that lost them.
func TestAnotherServer(t *testing.T) {
	t.Parallel()
	h := newHandle(t)
	h.add(call(acme, "a", noon(), 1))
	other := "another server"
	h.server.Store(&other)
	h.dictionary.mu.Lock()
	for text, number := range h.dictionary.textNumbers {
		h.dictionary.textNumbers[text], h.dictionary.texts[number] = number+1, "text of the other server"
	}
	h.dictionary.mu.Unlock()
	h.partitions.put(monthOf(noon().AddDate(1, 0, 0))) // which this one does not have
	late := call(acme, "b", noon().AddDate(1, 0, 0), 1)
	h.add(late)
	stored, err := h.Record(t.Context(), acme, "b")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "record", stored, late)
	equal(t, "records", h.ids(acme), []string{"a", "b"})
}

// TestReadFromTheLastServer has a read go on at a server whose place another has taken, which lacks its last commit.
func TestReadFromTheLastServer(t *testing.T) {
	t.Parallel()
	last, next := Server.Database(t), Server.Database(t)
	named := func(id, model string) store.Record {
		r := call(acme, id, noon(), 1)
		r.Model = model
		return r
	}
	h, there := openStore(t, last, Config{}), openStore(t, next, Config{})
	h.add(named("a", "first"), named("b", "lost"))
	there.add(named("a", "first"))
	pool := h.db
	err := h.read(t.Context(), "read", func(q queryer) error {
		h.db = there.db // new connections are to the next server, this one lasts
		h.add(named("c", "first"))
		return h.readNumbers(t.Context(), q, nil, []int32{1, 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	h.add(named("d", "lost"))
	h.db = pool
	there.add(named("e", "another"))
	fresh := openStore(t, next, Config{})
	for id, want := range map[string]string{"d": "lost", "e": "another"} {
		r, err := fresh.Record(t.Context(), acme, id)
		if err != nil || r.Model != want {
			t.Errorf("call %s has the model %q, want %q: %v", id, r.Model, want, err)
		}
	}
}

// TestNoServerYet has a transaction begin before any other has told which server it is, and find tenants remembered.
func TestNoServerYet(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, other := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	h.add(call(acme, "a", noon(), 1))
	other.add(call(acme, "b", noon(), 1))
	h.server.Store(new(string))
	h.add(call(acme, "c", noon(), 1))
	equal(t, "records", h.ids(acme), []string{"a", "b", "c"})
}

// TestRefusalsAreUpToDate has another store make room, which this one does not know of before it asks.
func TestRefusalsAreUpToDate(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, other := openStore(t, dsn, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	take := func(id string) error {
		t.Helper()
		outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{reservation(id)}, onlyOne)
		if err != nil {
			t.Fatal(err)
		}
		return outcomes[0].Err
	}
	if err := take("a"); err != nil {
		t.Fatal(err)
	}
	is(t, "a hold beside another", take("b"), store.ErrNotFound)
	if err := other.Release(t.Context(), noon(), acme, "a", func(*store.Standing, *store.Hold) []store.Arrival { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := take("c"); err != nil {
		t.Errorf("a hold after another store released the one before: %v", err)
	}
}

// TestJudgePanics leaves nothing behind of what a rule that panicked was told.
func TestJudgePanics(t *testing.T) {
	t.Parallel()
	h := newHandle(t)
	h.add(call(acme, "a", noon(), 1))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		h.Append(t.Context(), noon(), lend(call(acme, "b", noon(), 1)), //nolint:errcheck // it panics
			func(*store.Standing, []*store.Record) store.Judgement { panic("a rule") })
	}()
	h.add(call(acme, "c", noon(), 1))
	equal(t, "records", h.ids(acme), []string{"a", "c"})
}

// TestDetachedPartition takes a month away whose ids stay taken.
func TestDetachedPartition(t *testing.T) {
	t.Parallel()
	h := newHandle(t)
	h.add(call(acme, "a", noon(), 1))
	exec(t, h.db, "ALTER TABLE "+h.names.qualify("usage_records")+" DETACH PARTITION "+h.names.qualify("usage_records_2026_03"))
	april := noon().AddDate(0, 1, 0)
	_, err := h.try(call(acme, "a", april, 1), call(acme, "b", april, 1))
	is(t, "a batch with a call of that month", err, store.ErrInvalid)
	h.add(call(acme, "b", april, 1))
	records, err := h.Records(t.Context(), store.RecordQuery{TenantID: acme, Limit: 10})
	if err != nil || len(records) != 1 {
		t.Errorf("%d records, %v, want the one of April", len(records), err)
	}
}

// TestCommitsAreSynced looks at the setting under which a transaction commits, where the server's is off.
func TestCommitsAreSynced(t *testing.T) {
	t.Parallel()
	dsn := Server.Database(t)
	admin := foreign(t, dsn, "")
	var name string
	if err := admin.Get(&name, "SELECT current_database()"); err != nil {
		t.Fatal(err)
	}
	exec(t, admin, "ALTER DATABASE "+name+" SET synchronous_commit = off")
	h := openStore(t, dsn, Config{})
	exec(t, h.db, "CREATE TABLE seen (setting text)", `CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO seen VALUES (TG_TABLE_NAME || ' ' || current_setting('synchronous_commit')); RETURN NULL; END $$`)
	for _, table := range []string{"usage_texts", "usage_models", "usage_keys"} {
		exec(t, h.db, "CREATE CONSTRAINT TRIGGER see AFTER INSERT ON "+table+" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()")
	}
	h.add(call(acme, "a", noon(), 1))
	h.add(call(acme, "b", noon(), 1)) // a quick transaction
	var seen []string
	if err := h.db.Select(&seen, "SELECT setting FROM seen"); err != nil {
		t.Fatal(err)
	}
	text := "usage_texts on" // a meter, its rate and the version of the prices
	equal(t, "settings at the commit", seen, []string{text, text, text, "usage_models on", "usage_keys on", "usage_keys on"})
	var after string
	if err := h.db.Get(&after, "SHOW synchronous_commit"); err != nil || after != "off" {
		t.Errorf("afterwards the session's setting is %q: %v", after, err)
	}
}
