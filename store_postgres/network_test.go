package storepostgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/store"
)

// proxy stands between a store and the server and cuts connections when they commit.
type proxy struct {
	t               testing.TB
	listener        net.Listener
	network, server string
	// cut says what to do with the next commit that comes by; it is done once.
	cut atomic.Int32
	// spared is how many come by before that one.
	spared atomic.Int32
	// until counts the requests that come by. When it comes to 0, step is done with that one, and says what becomes of it.
	until atomic.Int32
	step  atomic.Pointer[func() int32]
	// refusing ends every connection at once.
	refusing atomic.Bool
	commits  atomic.Int32
	// unheard is done when an answer is lost, before the store can notice; it may be nil.
	unheard atomic.Pointer[func()]
	mu      sync.Mutex
	open    []net.Conn
}

// What becomes of a commit.
const (
	pass       = int32(iota)
	loseCommit // it does not reach the server
	loseAnswer // the answer does not reach the store
	loseServer // nor does anything from then on
)

// behindProxy returns a DSN for the same database through a proxy.
func behindProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t}
	p.network, p.server = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.listener.Close(); p.disconnect() })
	go p.accept()
	for keyword, value := range map[string]string{
		"host": "127.0.0.1", "port": strconv.Itoa(p.listener.Addr().(*net.TCPAddr).Port),
	} {
		if dsn, err = pgtest.With(dsn, keyword, value); err != nil {
			t.Fatal(err)
		}
	}
	return p, dsn
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.server)
		if err != nil || p.refusing.Load() {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		answered := make(chan struct{}, 1)
		var mute atomic.Bool
		go p.answers(client, server, &mute, answered)
		go p.requests(client, server, &mute, answered)
	}
}

// whenUnheard sets what is done when an answer is lost.
func (p *proxy) whenUnheard(do func()) { p.unheard.Store(&do) }

// disconnect cuts all connections.
func (p *proxy) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.open {
		conn.Close()
	}
	p.open = nil
}

// What the driver sends to execute a statement, the statements with which a transaction ends that writes (in full ones a
// COMMIT is sent right after them), and what ends one that does not, or asks about one whose answer was lost.
var (
	executeMessage = []byte("E\x00\x00\x00\x09\x00\x00\x00\x00\x00")
	lastStatement  = regexp.MustCompile(`set_config\('usage\.done', done`)
	otherEnd       = regexp.MustCompile(`\x00COMMIT\x00|pg_xact_status`)
)

// requests hands on what the store sends, until a commit is to be lost.
func (p *proxy) requests(client, server net.Conn, mute *atomic.Bool, answered <-chan struct{}) {
	defer client.Close()
	defer server.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		cut := pass
		if ends := lastStatement.Match(b[:n]); bytes.Contains(b[:n], executeMessage) && (ends || otherEnd.Match(b[:n])) {
			if ends {
				p.commits.Add(1)
			}
			if p.cut.Load() != pass && p.spared.Add(-1) < 0 {
				cut = p.cut.Swap(pass)
			}
		}
		if p.until.Add(-1) == 0 {
			cut = (*p.step.Load())()
		}
		if cut == loseCommit {
			return
		}
		mute.Store(cut != pass)
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
		if cut != pass {
			<-answered
			p.refusing.Store(cut == loseServer)
			if cut == loseServer {
				p.disconnect()
			}
			return
		}
	}
}

// answers hands back what the server sends. Of a commit that is to be lost, it only notes that it is there.
func (p *proxy) answers(client, server net.Conn, mute *atomic.Bool, answered chan<- struct{}) {
	defer client.Close()
	defer server.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		if mute.Load() {
			if unheard := p.unheard.Load(); unheard != nil {
				(*unheard)()
			}
			answered <- struct{}{}
			return
		}
		if err != nil {
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestConnectionCutAtCommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                  string
		cut                   int32
		alerts, judged, tries int // a transaction that raises alerts is not quick, which is found out by judging
	}{
		{"before the statement reached the server", loseCommit, 0, 2, 2},
		{"before the statement's answer reached the store", loseAnswer, 0, 1, 1},
		{"before the commit reached the server", loseCommit, 1, 3, 2},
		{"before the commit's answer reached the store", loseAnswer, 1, 2, 1},
	} {
		t.Run("a connection that is cut "+tt.name+" leaves each call there once, as the first", func(t *testing.T) {
			t.Parallel()
			p, h, direct := cuttable(t)
			before := p.commits.Load()
			p.cut.Store(tt.cut)
			judged := 0
			outcomes, err := h.Append(t.Context(), noon(), lend(call(acme, "a", noon(), 7), call("globex", "a", noon(), 7)),
				func(s *store.Standing, _ []*store.Record) store.Judgement {
					if s.Tenant.ID == acme {
						judged++
					}
					if tt.alerts == 0 {
						return store.Judgement{}
					}
					return warn(s, nil)
				})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range outcomes {
				if o.Duplicate || o.Err != nil || len(o.Alerts) != tt.alerts {
					t.Errorf("outcome: duplicate %v, %d alerts, error %v, want the first result", o.Duplicate, len(o.Alerts), o.Err)
				}
			}
			equal(t, "times judged", judged, tt.judged)
			equal(t, "commits sent", int(p.commits.Load()-before), tt.tries)
			equal(t, "records", direct.ids(acme), []string{"a", "before"})
			h.add(call(acme, "b", noon(), 1))
			equal(t, "records", direct.ids(acme), []string{"a", "b", "before"})
		})
	}
	t.Run("a refusal that was not heard is decided again", func(t *testing.T) {
		t.Parallel()
		p, h, _ := cuttable(t)
		p.cut.Store(loseAnswer)
		held := store.Hold{TenantID: acme, ID: "h", Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
		outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{held}, func(*store.Standing, *store.Hold) store.Verdict {
			return store.Verdict{Refusal: store.ErrNotFound}
		})
		if err != nil || !errors.Is(outcomes[0].Err, store.ErrNotFound) {
			t.Errorf("%+v, %v, want the refusal", outcomes, err)
		}
		equal(t, "what is left to cut", p.cut.Load(), pass)
	})
	t.Run("a reservation that was committed unheard is taken, once", func(t *testing.T) {
		t.Parallel()
		p, h, direct := cuttable(t)
		p.cut.Store(loseAnswer)
		held := store.Hold{TenantID: acme, ID: "h", Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Hour)}
		outcomes, err := h.Hold(t.Context(), noon(), []store.Hold{held}, admit)
		if err != nil || outcomes[0].Err != nil {
			t.Fatal(err, outcomes)
		}
		standing, err := direct.Standing(t.Context(), acme, noon())
		if err != nil || len(standing.Holds) != 1 {
			t.Errorf("holds: %v, %v", standing.Holds, err)
		}
	})
}

// cuttable is a store behind a proxy, and another one that is not.
func cuttable(t *testing.T) (p *proxy, h, direct *handle) {
	t.Helper()
	dsn, schema := Schema(t)
	p, through := behindProxy(t, dsn)
	h, direct = openStore(t, through, Config{Schema: schema}), openStore(t, dsn, Config{Schema: schema})
	h.add(call(acme, "before", noon(), 1), call("globex", "before", noon(), 1))
	return p, h, direct
}

func TestOutcomeThatNobodyCanTell(t *testing.T) {
	t.Parallel()
	p, h, direct := cuttable(t)
	p.cut.Store(loseServer)
	patient := h.impatient(3 * time.Second)
	_, err := h.try(call(acme, "a", noon(), 7))
	is(t, "Append", err, store.ErrUnknownOutcome)
	_, err = h.try(call(acme, "a", noon(), 7))
	is(t, "Append without a server", err, store.ErrUnavailable)
	if errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("nothing was committed, and the error is %v", err)
	}
	p.refusing.Store(false)
	patient()
	outcomes, err := h.try(call(acme, "a", noon(), 7))
	if err != nil || !outcomes[0].Duplicate {
		t.Fatalf("the same again: %+v, %v, want a duplicate", outcomes, err)
	}
	equal(t, "the first result", *outcomes[0].Record, call(acme, "a", noon(), 7))
	equal(t, "records", direct.ids(acme), []string{"a", "before"})
}

func TestTransactionThatACrashTookBack(t *testing.T) {
	t.Parallel()
	h := newHandle(t)
	lost := errors.New("connection lost")
	err := h.resolve(t.Context(), &tx{store: h.Store, number: 1 << 30}, lost) // the server has not given it yet
	if !errors.Is(err, lost) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("error %v, want the first one: nothing was committed", err)
	}
}

// TestNumberThatIsGivenTwice has a server give the number of a transaction to another one, after a crash that took back the
// first: that the number is of a committed one says nothing of that.
func TestNumberThatIsGivenTwice(t *testing.T) {
	t.Parallel()
	dsn, schema := Schema(t)
	h, admin := openStore(t, dsn, Config{Schema: schema}), foreign(t, dsn, schema)
	h.add(call(acme, "a", noon(), 1))
	h.hold(reservation("h"), reservation("released"))
	var another, its int64
	if err := admin.Get(&another, "SELECT pg_current_xact_id()::text::bigint"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Get(&its, "SELECT xmin::text::bigint FROM usage_keys WHERE tenant = $1 AND id = 'a'", acme); err != nil {
		t.Fatal(err)
	}
	calls := func(ids ...string) writes {
		w := writes{records: make([]*store.Record, len(ids))}
		for i, id := range ids {
			w.records[i] = &store.Record{TenantID: acme, ID: id}
		}
		return w
	}
	holds := func(ids ...string) writes {
		w := writes{holds: make([]*store.Hold, len(ids))}
		for i, id := range ids {
			w.holds[i] = &store.Hold{TenantID: acme, ID: id}
		}
		return w
	}
	var releasing int64
	for range 2 { // the second time it does nothing but lock the tenant
		if err := h.Release(t.Context(), noon(), acme, "released", keep); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Get(&releasing, "SELECT xmin::text::bigint FROM usage_holds WHERE id = 'released'"); err != nil {
		t.Fatal(err)
	}
	var versions struct{ Version, Previous, Settings int64 }
	if err := admin.Get(&versions, "SELECT version, previous, settings FROM usage_tenants WHERE tenant = $1", acme); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("connection lost")
	outcome := func(err error) string {
		switch {
		case err == nil:
			return "committed"
		case errors.Is(err, store.ErrUnknownOutcome):
			return "unknown"
		case errors.Is(err, lost):
			return "taken back"
		}
		return err.Error()
	}
	for _, tt := range []struct {
		name    string
		kind    string
		writes  writes
		number  int64
		version int64
		once    bool
		want    string
	}{
		{"its call is not there", recordWitness, calls("h"), another, 1, false, "taken back"},
		{"its call is there", recordWitness, calls("a"), its, 1, false, "committed"},
		{"its call is there by another", recordWitness, calls("a"), another, 1, false, "taken back"},
		{"another of its calls is not there", recordWitness, calls("a", "b"), its, 1, false, "taken back"},
		{"its call was pruned a moment ago", recordWitness, calls("gone"), another, versions.Previous, false, "committed"},
		{"its reservation is not there", holdWitness, holds("a"), another, 1, false, "taken back"},
		{"its reservation is there", holdWitness, holds("h"), another, 1, false, "committed"},
		{"another of its reservations is not there", holdWitness, holds("h", "i"), another, 1, false, "taken back"},
		{"its release is not there", releaseWitness, writes{}, another, 1, false, "taken back"},
		{"its release is there", releaseWitness, writes{}, releasing, 1, false, "committed"},
		{"nobody has written since", versionWitness, writes{}, another, versions.Version, true, "committed"},
		{"another has written since", versionWitness, writes{}, another, versions.Previous, true, "committed"},
		{"two have written since, but set nothing", versionWitness, writes{}, another, versions.Settings, true, "committed"},
		{"two have written since, or it was taken back", versionWitness, writes{}, another, 1, true, "unknown"},
		{"two have written since, and it comes to the same again", versionWitness, writes{}, another, 1, false, "taken back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			of := &tx{
				store: h.Store, number: tt.number, once: tt.once, writes: tt.writes, witness: witness{kind: tt.kind, tenantID: acme, id: "released"},
				tenants: map[string]*tenant{acme: {version: tt.version}},
			}
			equal(t, "outcome", outcome(h.resolve(t.Context(), of, lost)), tt.want)
		})
	}
}

// TestCrashes stops the server in the midst of many callers, three times, as pg_ctl stop -m immediate does.
func TestCrashes(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	h := openStore(t, server.DSN(), Config{})
	const callers, crashes = 8, 3
	ctx, cancel := context.WithCancel(t.Context())
	var acknowledged sync.Map
	var count atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				r := call(fmt.Sprint("tenant-", i%3), fmt.Sprint(c, "-", i), noon().AddDate(0, -i%4, 0), int64(i))
				outcomes, err := h.Append(context.WithoutCancel(ctx), noon(), lend(r), quiet)
				if err != nil || outcomes[0].Err != nil || outcomes[0].Duplicate {
					t.Errorf("call %s: %+v, %v", r.ID, outcomes, err)
					return
				}
				acknowledged.Store(r.TenantID+" "+r.ID, true)
				count.Add(1)
			}
		})
	}
	for range crashes {
		for some := count.Load() + 100; count.Load() < some && !t.Failed(); {
			if _, err := h.Tenants(t.Context(), "", 1); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(server.Crash(), server.Restart()); err != nil {
			t.Fatal(err)
		}
	}
	for some := count.Load() + 100; count.Load() < some && !t.Failed(); {
		if _, err := h.Tenants(t.Context(), "", 1); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	for tenant := range 3 {
		for _, id := range h.ids(fmt.Sprint("tenant-", tenant)) {
			if _, was := acknowledged.LoadAndDelete(fmt.Sprint("tenant-", tenant, " ", id)); !was {
				t.Errorf("%s is there and was not acknowledged", id)
			}
		}
	}
	acknowledged.Range(func(id, _ any) bool {
		t.Errorf("%s was acknowledged and is not there", id)
		return true
	})
	t.Logf("%d calls over %d crashes", count.Load(), crashes)
}
