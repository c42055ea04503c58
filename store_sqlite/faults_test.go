package storesqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// fault is something that gets in the way of a write. It breaks a prepared database and returns what takes the cause
// away again.
type fault struct {
	name  string
	want  error
	cause func(t *testing.T, path string, h *handle) (mend func())
}

func faults() []fault {
	return []fault{
		{"a full file", store.ErrFull, fullFile},
		{"a file that another connection has locked", store.ErrBusy, lockedFile},
		{"a connection that may only read", store.ErrReadOnly, readOnlyConnection},
		{"a commit that fails", store.ErrInvalid, failingCommit},
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name+" writes nothing and work goes on afterwards", func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			h := openConfig(t, path, Config{BusyTimeout: 30 * time.Millisecond})
			h.prepare()
			before := h.state()
			mend := f.cause(t, path, h)
			for range 2 {
				is(t, "Append", h.try(append(calls(acme, "during-", 500), calls("globex", "during-", 500)...)...), f.want)
				equal(t, "the database under the fault", h.state(), before)
			}
			mend()
			equal(t, "the database after the fault", h.state(), before)
			h.healthy()
			h.add(append(calls(acme, "during-", 500), calls("globex", "during-", 500)...)...)
			h.add(calls(acme, "after-", 3)...)
			equal(t, "records", len(h.state().Records), len(before.Records)+1003)
			h.healthy()
			equal(t, "what another handle sees", open(t, path).state(), h.state())
		})
	}
}

// fullFile lets the file have no more pages than it has.
func fullFile(t *testing.T, _ string, h *handle) func() {
	run(t, h.writer, "PRAGMA wal_checkpoint(TRUNCATE)")
	pages := number(t, h.writer, "PRAGMA page_count")
	if most := number(t, h.writer, "PRAGMA max_page_count = "+fmt.Sprint(pages)); most != pages {
		t.Fatalf("the file may have %d pages, want %d", most, pages)
	}
	return func() { number(t, h.writer, "PRAGMA max_page_count = 1073741823") }
}

func lockedFile(t *testing.T, path string, _ *handle) func() {
	other := foreign(t, path)
	run(t, other, "BEGIN EXCLUSIVE")
	return func() { run(t, other, "COMMIT") }
}

func readOnlyConnection(t *testing.T, _ string, h *handle) func() {
	run(t, h.writer, "PRAGMA query_only = 1")
	return func() { run(t, h.writer, "PRAGMA query_only = 0") }
}

// failingCommit gives each record a reference to nothing, which SQLite looks at when it commits.
func failingCommit(t *testing.T, _ string, h *handle) func() {
	for _, statement := range []string{
		"PRAGMA foreign_keys = 1",
		"CREATE TEMP TABLE parents (id INTEGER PRIMARY KEY)",
		"CREATE TEMP TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
		"CREATE TEMP TRIGGER orphan AFTER INSERT ON main.usage_records BEGIN INSERT INTO children VALUES (1); END",
	} {
		run(t, h.writer, statement)
	}
	return func() { run(t, h.writer, "DROP TRIGGER orphan") }
}

// TestRollback ends transactions in the middle, when totals are written and cached and the commit is all that lacks.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(cancel context.CancelFunc)
		want error
	}{
		{"a context that ends before the commit", func(cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"a judge that panics", func(context.CancelFunc) { panic(errRefused) }, errRefused},
	} {
		t.Run(tt.name+" leaves neither rows nor cache", func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			h := open(t, path)
			h.prepare()
			before := h.state()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := recovered(func() error {
				_, err := h.Append(ctx, noon(), lend(append(calls(acme, "lost-", 5), calls("globex", "lost-", 5)...)...),
					func(*store.Standing, []*store.Record) store.Judgement {
						tt.end(cancel)
						return store.Judgement{}
					})
				return err
			})
			is(t, "Append", err, tt.want)
			equal(t, "the database", h.state(), before)
			h.add(calls("globex", "lost-", 3)...)
			h.add(calls(acme, "lost-", 3)...)
			h.healthy()
			equal(t, "the writer's standing", h.writersStanding(acme, noon()), shown(h.standing(acme, noon())), unordered()...)
			equal(t, "records", len(h.state().Records), len(before.Records)+6)
		})
	}
}

// recovered is what do returns, or the error it panics with.
func recovered(do func() error) (err error) {
	defer func() {
		if e, ok := recover().(error); ok {
			err = e
		}
	}()
	return do()
}

func TestContextsEndTheWaitForALock(t *testing.T) {
	t.Parallel()
	const busyTimeout = time.Hour // no test waits for it
	t.Run("that another connection holds", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := openConfig(t, path, Config{BusyTimeout: busyTimeout})
		h.prepare()
		before := h.state()
		unlock := lockedFile(t, path, h)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := h.Append(ctx, noon(), lend(calls(acme, "x", 1)...), quiet)
		is(t, "Append", err, context.DeadlineExceeded)
		unlock()
		equal(t, "the database", h.state(), before)
		h.add(calls(acme, "x", 1)...)
		h.healthy()
	})
	t.Run("that another goroutine holds", func(t *testing.T) {
		t.Parallel()
		h := openConfig(t, newFile(t), Config{BusyTimeout: busyTimeout})
		h.prepare()
		release, done := h.hog()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := h.Append(ctx, noon(), lend(calls(acme, "x", 1)...), quiet)
		is(t, "Append", err, context.DeadlineExceeded)
		close(release)
		h.must("the other goroutine's Append", <-done)
		h.add(calls(acme, "x", 1)...)
		h.healthy()
	})
}

// hog has another goroutine in the middle of a write until release is closed; done says how that ended.
func (h *handle) hog() (release chan struct{}, done chan error) {
	inside := make(chan struct{})
	release, done = make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.Append(h.t.Context(), noon(), lend(calls(acme, "hog", 1)...), func(*store.Standing, []*store.Record) store.Judgement {
			close(inside)
			<-release
			return store.Judgement{}
		})
		done <- err
	}()
	<-inside
	return release, done
}

// A context may end at any point of a write; the connection is then fit for the next one.
func TestContextsThatEndAnywhereLeaveTheWriterFree(t *testing.T) {
	t.Parallel()
	h := open(t, newFile(t))
	h.prepare()
	records := len(h.state().Records)
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*time.Microsecond/2)
		batch := calls(acme, fmt.Sprintf("round-%d-", i), 10)
		if _, err := h.Append(ctx, noon(), lend(batch...), quiet); err == nil {
			records += len(batch)
		} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Fatalf("round %d: %v", i, err)
		}
		cancel()
	}
	h.add(calls(acme, "after-", 1)...)
	equal(t, "records", len(h.state().Records), records+1)
	h.healthy()
}

func TestClosing(t *testing.T) {
	t.Parallel()
	t.Run("folds the log into the file and leaves nothing else", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		h.must("Close", h.Close())
		files, err := os.ReadDir(filepath.Dir(path))
		h.must("ReadDir", err)
		var names []string
		for _, file := range files {
			names = append(names, file.Name())
		}
		equal(t, "files", names, []string{"usage.db"})
	})
	t.Run("lets the write that is under way commit, and tells the one that waits what became of it", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		release, done := h.hog()
		waiting, closing := make(chan error, 1), make(chan error, 1)
		before := h.writer.Stats().WaitCount
		go func() { waiting <- h.try(calls(acme, "late", 1)...) }()
		until(func() bool { return h.writer.Stats().WaitCount > before })
		go func() { closing <- h.Close() }()
		until(h.closed.Load)
		close(release)
		h.must("Close", <-closing)
		h.must("the Append under way", <-done)
		records := 21
		if err := <-waiting; err == nil {
			records++
		} else {
			is(t, "the Append that waited", err, store.ErrClosed)
		}
		after := open(t, path)
		equal(t, "records", len(after.state().Records), records)
		after.healthy()
	})
}

// until waits for what no channel tells.
func until(reached func() bool) {
	for !reached() {
		runtime.Gosched()
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	live := open(t, path)
	live.prepare()
	before := live.state()
	h := open(t, "file:"+path+"?mode=ro")
	equal(t, "what it reads", h.state(), before)
	is(t, "Append", h.try(calls(acme, "x", 1)...), store.ErrReadOnly)
	_, err := h.Hold(t.Context(), noon(), []store.Hold{holdOf(acme, "h", noon(), 1)}, admit)
	is(t, "Hold", err, store.ErrReadOnly)
	is(t, "Suspend", h.Suspend(t.Context(), noon(), acme, "unpaid"), store.ErrReadOnly)
	is(t, "Rebuild", h.Rebuild(t.Context(), acme), store.ErrReadOnly)
	equal(t, "the database", live.state(), before)
	live.add(calls(acme, "x", 1)...)
	equal(t, "what it reads of a later commit", h.state(), live.state())
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, path := range map[string]string{
		"a folder that does not exist": filepath.Join(folder, "missing", "usage.db"),
		"a path that is a folder":      folder,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, err := Open(t.Context(), path)
			is(t, "Open", err, store.ErrUnavailable)
			if st != nil {
				t.Error("there is a store besides the error")
			}
		})
	}
	t.Run("a folder that is made later is then found", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "later", "usage.db")
		_, err := Open(t.Context(), path)
		is(t, "Open", err, store.ErrUnavailable)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		open(t, path).prepare()
	})
}

func TestCorrupt(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"a text":              "this is not a database\n",
		"pages of garbage":    string(garbage(3 * 4096)),
		"a header and no end": "SQLite format 3\x00" + string(garbage(500)),
	} {
		t.Run(name+" is not opened and not changed", func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), path)
			is(t, "Open", err, store.ErrCorrupt)
			equal(t, "the file", string(read(t, path)), content)
		})
	}
	t.Run("a damaged page fails what needs it and nothing is half-written", damagedPage)
	for _, tt := range []struct{ name, statement string }{
		{"lines", "UPDATE usage_records SET lines = x'01ff'"},
		{"an unknown meter", "UPDATE usage_records SET lines = x'7f010101'"},
		{"an unknown rate", "UPDATE usage_records SET lines = x'01017e01'"},
		{"a rate", "UPDATE usage_texts SET value = 'not/a/rate' WHERE value = '1/1/0'"},
		{"tags", "UPDATE usage_records SET tags = '{'"},
		{"an unknown model", "UPDATE usage_records SET model = 99"},
		{"an unknown endpoint", "UPDATE usage_records SET endpoint = 99"},
		{"sums of a month", "UPDATE usage_months SET earlier = x'8080'"},
		{"sums of a month's last day", "UPDATE usage_days SET sums = x'01'"},
		{"sums of another day", "INSERT INTO usage_days VALUES (1, 1780000000000000, 1, x'80')"},
		{"an unknown model of a total", "UPDATE usage_months SET model = model + 98; UPDATE usage_days SET model = model + 98"},
		{"contacts", "UPDATE usage_tenants SET contacts = '['"},
		{"a quota", "UPDATE usage_tenants SET quota = '{'"},
		{"a time zone", "UPDATE usage_tenants SET time_zone = 'Mars/Olympus'"}, // also where a machine lacks its rules
	} {
		t.Run(tt.name+" that cannot be read are corrupt", func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			open(t, path).prepare()
			run(t, foreign(t, path), tt.statement)
			h := open(t, path)
			_, err := h.Verify(t.Context(), acme)
			is(t, "Verify", err, store.ErrCorrupt)
		})
	}
}

// What a table or its rows lack is no fault of the call that finds it: whoever sends it again later is to do so.
func TestASchemaThatIsNotWholeIsCorrupt(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"DROP TABLE usage_months", "DROP TABLE usage_tenants", "ALTER TABLE usage_records RENAME COLUMN lines TO line",
		"DELETE FROM usage_watermarks",
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			h := open(t, path)
			h.prepare()
			run(t, foreign(t, path), statement)
			is(t, "Append", h.try(calls(acme, "x", 3)...), store.ErrCorrupt)
		})
	}
}

// garbage is the same on each call and begins like no file that anybody knows.
func garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*167 + i>>8 + 201)
	}
	return b
}

// damagedPage damages the page that has the totals: the records beside them can still be read.
func damagedPage(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	h.prepare()
	h.add(calls("globex", "much-", 2000)...) // so that the file has pages on either side
	before := h.state()
	h.must("Close", h.Close())
	db := foreign(t, path)
	run(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	size := number(t, db, "PRAGMA page_size")
	page := number(t, db, "SELECT rootpage FROM sqlite_master WHERE name = 'usage_months'")
	db.Close()
	sound := read(t, path)
	damaged := append([]byte(nil), sound...)
	copy(damaged[(page-1)*size:page*size], garbage(int(size)))
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}

	h = open(t, path)
	is(t, "Append", h.try(calls(acme, "x", 3)...), store.ErrCorrupt)
	_, err := h.Verify(t.Context(), acme)
	is(t, "Verify", err, store.ErrCorrupt)
	records, err := h.Records(t.Context(), store.RecordQuery{TenantID: acme, Limit: 100})
	h.must("Records", err)
	equal(t, "records", len(records), 20)
	h.must("Close", h.Close())
	if err := os.WriteFile(path, sound, 0o600); err != nil {
		t.Fatal(err)
	}

	h = open(t, path)
	equal(t, "the mended database", h.state(), before)
	h.add(calls(acme, "x", 3)...)
	h.healthy()
}

func TestReadersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	s, err := OpenConfig(t.Context(), path, Config{Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	for range 8 { // each needs statements that nobody has used before
		wg.Go(func() {
			if _, err := s.Standing(t.Context(), "acme", time.Unix(1_800_000_000, 0)); err != nil {
				t.Error(err)
			}
			if _, err := s.Records(t.Context(), store.RecordQuery{TenantID: "acme", Limit: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpenRefusesWhatDoesNotLast(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "file:", "file::memory:", "file:q.db?mode=memory"} {
		s, err := Open(t.Context(), path)
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("open %q: %v", path, err)
		}
		if s != nil {
			s.Close()
		}
	}
}

func TestOpenNamesWhatItCannotOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "usage.db")
	_, err := Open(t.Context(), path)
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), strconv.Quote(path)) {
		t.Errorf("error %v, want ErrUnavailable with %q", err, path)
	}
}

func TestOpenRefusesNegativeNumbers(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]Config{"BusyTimeout": {BusyTimeout: -1}, "Readers": {Readers: -1}} {
		s, err := OpenConfig(t.Context(), ":memory:", cfg)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "Config."+field+" is negative") {
			t.Errorf("%s: %v", field, err)
		}
		if s != nil {
			s.Close()
		}
	}
}
