// Package storesqlite keeps the ledger in one SQLite file. It needs no service and no cgo.
//
// Every commit is synced to disk before a method returns, unless Config.SynchronousNormal says otherwise. Any number of
// goroutines and processes may use one file; its folder must be on a local disk, for SQLite's locks do not hold over network
// file systems.
//
// # Errors
//
// What is returned, by SQLite's result code and never by a message:
//
//   - retryable, nothing was written: store.ErrBusy (another process wrote for longer than Config.BusyTimeout) and
//     store.ErrUnavailable (the file cannot be opened or read, no memory);
//   - ambiguous: store.ErrUnknownOutcome, when the log could not be synced at the commit. The same ids may be sent again;
//   - full: store.ErrFull, when the disk is;
//   - permanent: store.ErrReadOnly (a file or folder without the right to write), store.ErrCorrupt, store.ErrSchema,
//     store.ErrInvalid.
package storesqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/acf68eca/usage/store"
)

// Store is a store.Store on a SQLite database. It is safe for concurrent use.
type Store struct {
	// One connection writes and a few read: SQLite has one writer at a time anyway, and waiting for a connection is
	// fair where waiting for its lock is not. In memory both are the same.
	writer, reader *sqlx.DB
	// Used by whoever has the writer's connection.
	prepared *prepared
	cache    *cache
	// Whether the last record of an Append was there already.
	replaying bool
	// All that has been read of the dictionaries: their rows never change.
	known dictionaries
	// The readers' prepared statements, by query.
	queries map[string]*sqlx.Stmt
	// How long to wait for another process's write.
	busyTimeout time.Duration
	// So many records are filed by time at once.
	fileAt int64
	closed atomic.Bool
	close  sync.Once
}

var _ store.Store = (*Store)(nil)

// Config sets what has a good default.
type Config struct {
	// SynchronousNormal syncs the write-ahead log only at checkpoints. Commits are then several times cheaper for a
	// lone caller and survive the process's death; a power cut or a crash of the operating system may take back
	// the last of them, after their callers were told that they are durable. Defaults to false: every commit is synced.
	SynchronousNormal bool
	// BusyTimeout is how long a method waits for another process's write before it returns store.ErrBusy.
	// Defaults to 10 seconds.
	BusyTimeout time.Duration
	// Readers is the number of connections that read. Defaults to 4.
	Readers int
}

// Open opens the database at a path, and makes it when it does not exist; the folder must. ":memory:" is a database
// of its own that lives as long as the Store, for tests. A "file:" URI is handed to SQLite, with its parameters.
//
// Open brings the schema up to date. It returns store.ErrSchema when the schema is newer than this version knows,
// store.ErrCorrupt when the file is no database, store.ErrUnavailable when it cannot be opened, as in a folder that does not
// exist, and store.ErrInvalid for a path of no lasting database ("", "file::memory:"): what is logged there would be gone.
func Open(ctx context.Context, path string) (*Store, error) {
	return OpenConfig(ctx, path, Config{})
}

// OpenConfig is Open with a Config, of which no number may be negative (store.ErrInvalid).
func OpenConfig(ctx context.Context, path string, cfg Config) (*Store, error) {
	op := "open " + strconv.Quote(path)
	if err := errors.Join(checkPath(path), cfg.check()); err != nil {
		return nil, wrap(op, err)
	}
	if cfg.BusyTimeout == 0 {
		cfg.BusyTimeout = 10 * time.Second
	}
	if cfg.Readers == 0 {
		cfg.Readers = 4
	}
	s := &Store{cache: newCache(), busyTimeout: cfg.BusyTimeout, fileAt: fileAt}
	if err := s.open(ctx, path, cfg); err != nil {
		s.Close() //nolint:errcheck // the first error is the one to tell
		return nil, wrap(op, err)
	}
	return s, nil
}

func (c Config) check() error {
	var faults []error
	if c.BusyTimeout < 0 {
		faults = append(faults, fmt.Errorf("%w: Config.BusyTimeout is negative", store.ErrInvalid))
	}
	if c.Readers < 0 {
		faults = append(faults, fmt.Errorf("%w: Config.Readers is negative", store.ErrInvalid))
	}
	return errors.Join(faults...)
}

func (s *Store) open(ctx context.Context, path string, cfg Config) (err error) {
	// Who makes the file first locks it for a moment as no busy handler waits for.
	err = s.retry(ctx, func() (err error) {
		s.writer, err = connect(ctx, dataSource(path, cfg, false), 1)
		return err
	}, store.ErrBusy)
	if err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if path == ":memory:" {
		s.reader = s.writer
		return nil
	}
	if s.reader, err = connect(ctx, dataSource(path, cfg, true), cfg.Readers); err != nil {
		return err
	}
	return s.prepareReads(ctx)
}

func connect(ctx context.Context, dsn string, connections int) (*sqlx.DB, error) {
	db, err := sqlx.ConnectContext(ctx, "sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// checkPath refuses what SQLite takes for a database that nobody else sees, and that is gone with its connection: a host
// whose setting is missing would lose what it was told is durable.
func checkPath(path string) error {
	memory := strings.HasPrefix(path, "file:") && (strings.Contains(path, ":memory:") || strings.Contains(path, "mode=memory"))
	if path == "" || path == "file:" || memory {
		return fmt.Errorf("%w: the path is of no lasting database (\":memory:\" is one for tests)", store.ErrInvalid)
	}
	return nil
}

// dataSource returns the driver's name for the database. Each pragma runs on every new connection.
func dataSource(path string, cfg Config, readOnly bool) string {
	pragmas := []string{
		"busy_timeout(" + strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10) + ")",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		// A checkpoint each 64 MB of log: pages that many commits touch are then copied once for all of them.
		"wal_autocheckpoint(16000)",
	}
	if cfg.SynchronousNormal {
		pragmas[2] = "synchronous(NORMAL)"
	}
	if readOnly {
		pragmas = append(pragmas, "query_only(1)")
	} else {
		// A large batch dirties more pages than the default cache holds. Spilling them to the log before the commit
		// would write some of them twice and checksum the log anew.
		pragmas = append(pragmas, "cache_size(-32768)", "cache_spill(0)")
	}
	values := url.Values{"_pragma": pragmas}
	if strings.HasPrefix(path, "file:") {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		return path + separator + values.Encode()
	}
	if path != ":memory:" {
		path = filepath.Clean(path) // two slashes at its start would make a host of what follows
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: values.Encode()}).String()
}

// Close closes the store's connections.
func (s *Store) Close() (err error) {
	s.closed.Store(true)
	s.close.Do(func() {
		if s.writer != nil {
			s.finalize()
			err = s.writer.Close()
		}
		if s.reader != nil && s.reader != s.writer {
			if e := s.reader.Close(); err == nil {
				err = e
			}
		}
	})
	return wrap("close", err)
}

// finalize closes the writer's own statements, when the write under way is done: SQLite keeps a connection, with its
// files, for as long as it has one.
func (s *Store) finalize() {
	conn, err := s.writer.Conn(context.Background())
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	if s.prepared != nil {
		s.prepared.close()
	}
}

// ready is called first by every method.
func (s *Store) ready(ctx context.Context, op string) error {
	if s.closed.Load() {
		return fmt.Errorf("usage: %s: %w", op, store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("usage: %s: %w", op, err)
	}
	return nil
}

// tx is the one write transaction. Statements that run for every record go to the driver directly: database/sql's
// share in so short a statement is a fifth of it.
type tx struct {
	*sqlx.Conn
	store *Store
	now   time.Time
	// What is needed again and again, to be used once more: a tenant's standing, and values packed for the next statement.
	shown  store.Standing
	packed []byte
	replay replay
	// lastRecord is the number of the record that was added last, even if it was taken back; 0 when none was.
	lastRecord int64
}

// write runs fn in a transaction that has the write lock from its start, so that it never fails half-way for another
// process's commit, and that is durable when write returns nil.
func (s *Store) write(ctx context.Context, op string, now time.Time, fn func(*tx) error) error {
	if err := s.ready(ctx, op); err != nil {
		return err
	}
	conn, err := s.writer.Connx(ctx) // the pool has one: this is the lock among our goroutines
	if err != nil {
		return wrap(op, s.whenClosed(err))
	}
	defer conn.Close()   //nolint:errcheck // goes back to the pool
	if s.closed.Load() { // while it waited
		return wrap(op, store.ErrClosed)
	}
	t := &tx{Conn: conn, store: s, now: now, packed: make([]byte, 0, 256)}
	if err := t.lock(ctx); err != nil {
		return wrap(op, err)
	}
	committed := false
	defer func() {
		if !committed { // also when fn panics
			s.cache.reset()
			conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") //nolint:errcheck // SQLite may have done it itself
		}
	}()
	if err := fn(t); err != nil {
		return wrap(op, err)
	}
	if err := ctx.Err(); err != nil {
		return wrap(op, err)
	}
	if err := t.run(commit); err != nil {
		return wrap(op, commitError(err))
	}
	committed = true
	return nil
}

// retry calls try until it fails with none of the given sentinels, which are other processes' doing, for as long as the
// store may wait. The wait for a lock is here and not in SQLite's busy handler, so that ctx ends it without a goroutine
// to watch ctx in every transaction.
func (s *Store) retry(ctx context.Context, try func() error, passing ...error) error {
	const longest = 20 * time.Millisecond
	for wait, until := time.Millisecond, time.Now().Add(s.busyTimeout); ; wait = min(2*wait, longest) {
		err := try()
		if err == nil || !slices.Contains(passing, classify(err)) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// lock takes the write lock, and forgets what is cached when anybody else has written since we did.
func (t *tx) lock(ctx context.Context) error {
	if err := t.prepare(ctx); err != nil {
		return err
	}
	if err := t.store.retry(ctx, func() error { return t.run(begin) }, store.ErrBusy); err != nil {
		return err
	}
	values := make([]driver.Value, 1)
	if err := t.row(dataVersion, values); err != nil {
		t.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") //nolint:errcheck // the first error is the one to tell
		return err
	}
	if version, _ := values[0].(int64); version != t.store.cache.version {
		t.store.cache.reset()
		t.store.cache.version = version
	}
	// Not while a transaction runs: it has totals of theirs that are yet to be written.
	if len(t.store.cache.tenants) > maxTenants {
		clear(t.store.cache.tenants)
	}
	return nil
}
