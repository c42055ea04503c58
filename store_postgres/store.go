// Package storepostgres keeps the ledger in PostgreSQL, 13 or later, for hosts that run more than one process. It gives the
// same answers as package storesqlite.
//
// A method returns nil only after its transaction is committed, under synchronous_commit = on even where the server's
// default is off. Any number of goroutines, processes and hosts may use one database; each transaction locks the rows
// of the tenants that it writes for, in the order of their ids, so writers wait for each other and never deadlock. Limits,
// per minute and second too, are decided under that lock, and so hold between all processes.
// Nothing depends on a session: PgBouncer may stand between, in transaction mode.
//
// # Errors
//
// What a passing trouble may have caused is tried again inside the store, for Config.BusyTimeout: serialization
// failures and deadlocks (40001, 40P01), a server that shuts down or starts (57P01 to 57P03), lost connections (08,
// network errors) and too many connections (53300). What is returned then, by SQLSTATE and never by a message:
//
//   - retryable, nothing was written: store.ErrBusy (those of 40, 53300, lock_timeout 55P03, statement_timeout 57014, no
//     free connection in the pool) and store.ErrUnavailable (no connection, a server that is down, 08, 57, 58);
//   - ambiguous: store.ErrUnknownOutcome, when the connection broke during the commit and the server could not be asked
//     afterwards what became of it, or could not tell: of a hold, because another process had written for its tenant by
//     then; of settings, prices and pruning, because two others had. The same may be sent again;
//   - full: store.ErrFull (53100);
//   - permanent: store.ErrReadOnly (25006, 42501), store.ErrCorrupt (XX001, XX002, tables or columns that are not there:
//     42P01, 42703), store.ErrSchema, store.ErrInvalid.
package storepostgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// Store is a store.Store on a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	db    *sqlx.DB
	owned bool // whether Close closes it
	names names
	// What this process knows of the database: see each.
	cache       *cache
	dictionary  *dictionary
	partitions  *partitions
	busyTimeout time.Duration
	// server tells the server that the dictionary was read from and the run of it: another one, after a failover, may lack
	// what the last one had committed. It is never nil.
	server atomic.Pointer[string]
	// replaying says that the last batch had a duplicate: who sends calls again mostly sends many.
	replaying atomic.Bool
	// alone says that of what was remembered of the tenants last locked, nothing had been changed by another store since.
	// Where it was, quick transactions are not worth trying.
	alone  atomic.Bool
	closed atomic.Bool
	close  sync.Once
}

var _ store.Store = (*Store)(nil)

// Config sets what has a good default.
type Config struct {
	// Schema is the PostgreSQL schema of the tables: lower-case letters, digits and '_'. It is made if it does not exist.
	// Defaults to the first schema of the connection's search_path, which has to be the same for all connections.
	Schema string
	// BusyTimeout is how long a method waits for a connection, and how long it goes on trying after errors that may pass,
	// before it returns the error. How long it waits for another's lock is up to its context. Defaults to 10 seconds.
	BusyTimeout time.Duration
	// Connections is the most connections that Open's pool has. NewConfig leaves the host's pool alone. Defaults to 16.
	Connections int
}

// Open connects to the database that a DSN names ("postgres://…" or "host=… dbname=…", as pgx and libpq read it) and brings
// its schema up to date. The pool is the store's own and closed with it.
//
// Statements are sent without names, as a pooler in transaction mode requires. Without one between,
// default_query_exec_mode=cache_statement in the DSN has the server keep them prepared, which makes lone calls faster.
//
// It returns store.ErrInvalid for a DSN that cannot be read, store.ErrSchema when the schema is newer than this version
// knows, store.ErrUnavailable when the server refuses the connection or cannot be reached for Config.BusyTimeout, and
// store.ErrReadOnly when the role may not make the tables: it needs CREATE on the schema, or on the database for a schema that
// does not exist. PostgreSQL 15 and later give that on "public" to the database's owner alone.
func Open(ctx context.Context, dsn string) (*Store, error) {
	return OpenConfig(ctx, dsn, Config{})
}

// OpenConfig is Open with a Config, of which no number may be negative (store.ErrInvalid).
func OpenConfig(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	connection, err := parse(dsn)
	if err := errors.Join(err, cfg.check()); err != nil {
		return nil, wrap("open", err)
	}
	if cfg.Connections == 0 {
		cfg.Connections = 16
	}
	db := stdlib.OpenDB(*connection)
	db.SetMaxOpenConns(cfg.Connections)
	db.SetMaxIdleConns(cfg.Connections)
	s, err := open(ctx, db, cfg)
	if err != nil {
		db.Close() //nolint:errcheck // the first error is the one to tell
		return nil, wrap("open", err)
	}
	s.owned = true
	return s, nil
}

// New returns a store on the host's own pool, which has to be one of pgx ("pgx" of database/sql), and brings the schema up
// to date. The pool stays the host's: its settings are left as they are, and Close does not close it. A method uses one
// connection at a time. The errors are those of Open.
func New(ctx context.Context, db *sql.DB) (*Store, error) {
	return NewConfig(ctx, db, Config{})
}

// NewConfig is New with a Config, of which no number may be negative (store.ErrInvalid).
func NewConfig(ctx context.Context, db *sql.DB, cfg Config) (*Store, error) {
	if db == nil {
		return nil, wrap("open", fmt.Errorf("the pool is nil: %w", store.ErrInvalid))
	}
	if err := cfg.check(); err != nil {
		return nil, wrap("open", err)
	}
	s, err := open(ctx, db, cfg)
	if err != nil {
		return nil, wrap("open", err)
	}
	return s, nil
}

func (c Config) check() error {
	var faults []error
	if !isSchema(c.Schema) {
		faults = append(faults, fmt.Errorf("%w: Config.Schema %q is not made of lower-case letters, digits and '_'", store.ErrInvalid, c.Schema))
	}
	if c.BusyTimeout < 0 {
		faults = append(faults, fmt.Errorf("%w: Config.BusyTimeout is negative", store.ErrInvalid))
	}
	if c.Connections < 0 {
		faults = append(faults, fmt.Errorf("%w: Config.Connections is negative", store.ErrInvalid))
	}
	return errors.Join(faults...)
}

func open(ctx context.Context, db *sql.DB, cfg Config) (*Store, error) {
	if cfg.BusyTimeout == 0 {
		cfg.BusyTimeout = 10 * time.Second
	}
	s := &Store{
		db: sqlx.NewDb(db, "pgx"), names: names{cfg.Schema, new(sync.Map)}, busyTimeout: cfg.BusyTimeout,
		cache: newCache(), dictionary: newDictionary(), partitions: new(partitions),
	}
	s.server.Store(new(string))
	return s, s.migrate(ctx)
}

// parse reads a DSN. Where it does not say how statements are sent, they are sent without names.
func parse(dsn string) (*pgx.ConnConfig, error) {
	connection, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%w: the DSN: %w", store.ErrInvalid, err) // pgx leaves the password out of its message
	}
	if connection.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && !strings.Contains(dsn, "default_query_exec_mode") {
		connection.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return connection, nil
}

// isSchema reports whether a name needs no quotes, which leaves no doubt how any tool spells it.
func isSchema(name string) bool {
	const first, others = "abcdefghijklmnopqrstuvwxyz_", "abcdefghijklmnopqrstuvwxyz_0123456789"
	return len(name) <= 63 && strings.Trim(name, others) == "" && (name == "" || strings.Contains(first, name[:1]))
}

// sameServer reports whether a transaction has locked its tenants at the server that it was prepared for. If not, what was
// read from the other one is forgotten, before any transaction can take it for what this one has.
func (s *Store) sameServer(t *tx, server string) bool {
	if *t.server == server {
		return true
	}
	if s.server.Load() == t.server {
		s.dictionary.reset()
		s.partitions.forget()
		s.cache.forget()
		s.server.CompareAndSwap(t.server, &server)
	}
	return false
}

// Close closes the pool, if it is the store's own.
func (s *Store) Close() (err error) {
	s.closed.Store(true)
	s.close.Do(func() {
		if s.owned {
			err = s.db.Close()
		}
	})
	return wrap("close", err)
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

// whenClosed names the reason for an error of a store that was closed meanwhile.
func (s *Store) whenClosed(err error) error {
	if err != nil && s.closed.Load() && !errors.Is(err, store.ErrClosed) {
		return fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	return err
}
