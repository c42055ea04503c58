package storepostgres

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// TestSessionsOfAnotherMind has the pool's connections show times in different ways: they are of one server all the same.
func TestSessionsOfAnotherMind(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h := openStore(t, dsn, Config{Schema: schema, Connections: 2})
	var conns [2]*sqlx.Conn
	for i := range conns {
		conn, err := h.db.Connx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	exec(t, conns[0], "SET TimeZone = 'Asia/Kathmandu'", "SET DateStyle = 'SQL, DMY'", "SET extra_float_digits = -3")
	conns[0].Close()
	h.add(call(acme, "a", noon(), 1))
	server := h.server.Load()
	other, err := h.db.Connx(t.Context()) // the one that was given back, so that the next call has to take the other
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conns[1].Close()
	h.add(call(acme, "b", noon(), 1))
	if h.server.Load() != server {
		t.Error("what was known of the server was forgotten")
	}
	equal(t, "records", h.ids(acme), []string{"a", "b"})
}

// TestRememberedOfAnotherServer has a tenant remembered as another server had it, which lost its last commit in a failover.
func TestRememberedOfAnotherServer(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, admin := openStore(t, dsn, Config{Schema: schema}), foreign(t, dsn, schema)
	h.add(call(acme, "a", noon(), 1))
	exec(t, admin, "CREATE TABLE replicated AS SELECT * FROM usage_months")
	h.add(call(acme, "lost", noon(), 1))
	exec(t, admin, "DELETE FROM usage_keys WHERE id = 'lost'", "DELETE FROM usage_records WHERE id = 'lost'", "DELETE FROM usage_months",
		"INSERT INTO usage_months SELECT * FROM replicated")
	next := *h.server.Load() // in truth it is the same server, so that it cannot tell
	h.server.Store(&next)
	h.add(call(acme, "b", noon(), 1))
	equal(t, "records", h.ids(acme), []string{"a", "b"})
}

// TestWhatIsNewWaitsNoLonger has a call of a new model, and one of a new month, find no connection.
func TestWhatIsNewWaitsNoLonger(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h := openStore(t, dsn, Config{Schema: schema, Connections: 1})
	h.add(call(acme, "a", noon(), 1))
	mend := exhaustedPool(t, h, nil)
	newModel, newMonth := call(acme, "b", noon(), 1), call(acme, "c", noon().AddDate(0, 5, 0), 1)
	newModel.Model = "new"
	for _, r := range []store.Record{newModel, newMonth} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := h.Append(ctx, noon(), lend(r), quiet)
		is(t, "Append", err, store.ErrBusy)
		cancel()
	}
	mend()
	h.add(newModel, newMonth)
	equal(t, "records", h.ids(acme), []string{"a", "b", "c"})
}

// forgetful is a snapshot during whose reading another transaction finds that the server is another one.
type forgetful struct {
	queryer
	once *sync.Once
	h    *handle
}

func (f forgetful) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	if query == selectModels { // the texts have been read by now
		f.once.Do(f.h.dictionary.reset)
	}
	return f.queryer.SelectContext(ctx, dest, query, args...)
}

func TestForgottenWhileItIsRead(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	openStore(t, dsn, Config{Schema: schema}).add(call(acme, "a", noon(), 1))
	h := openStore(t, dsn, Config{Schema: schema})
	var once sync.Once
	err := h.read(t.Context(), "read", func(q queryer) error {
		_, err := h.listTotals(t.Context(), forgetful{q, &once, h}, acme, store.Month, time.Time{}, time.Time{})
		return err
	})
	if err != nil {
		t.Errorf("nothing is damaged, and the error is %v", err)
	}
}
