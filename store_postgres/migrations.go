package storepostgres

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"

	"github.com/acf68eca/usage/store"
)

//go:embed migrations/*.sql
var embedded embed.FS

// versionTable is where goose notes which migrations have run.
const versionTable = "usage_schema_versions"

// migrationLock is the advisory lock under which the schema is changed. It is taken for a transaction and never for a
// session, which a pooler between us and the server would not keep. Migrations take it themselves.
const migrationLock = "SELECT pg_advisory_xact_lock(7598231467210053)"

// Migrations returns the schema as SQL files in goose's format, for hosts that run migrations with a tool of their own.
// They name tables without a schema. They are recorded in the table usage_schema_versions; Open and New run those that
// are missing there.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // only when the name above is wrong
	}
	return files
}

// migrate brings the schema up to date. Two processes may find the same migration missing: each runs in a transaction
// together with the note that it ran, and first takes the lock, so the second fails whole (a table exists already),
// looks again and finds it done.
func (s *Store) migrate(ctx context.Context) error {
	// A pool of another driver would get through the migrations and fail at the first call.
	connects := func() error { return s.onSession(ctx, func(*session) error { return nil }) }
	if err := s.retry(ctx, connects, transient); err != nil {
		return err
	}
	if err := s.createSchema(ctx); err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, s.db.DB, qualifiedFS{Migrations(), s.names},
		goose.WithTableName(s.names.qualify(versionTable)), goose.WithLogger(goose.NopLogger()),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return s.retry(ctx, func() error { return migrateOnce(ctx, provider) }, func(err error) bool {
		code := sqlState(err) // what exists already, as the table or as its row in the catalog, another process has made
		return code == "42P07" || code == "42710" || code == "23505" || transient(err)
	})
}

func migrateOnce(ctx context.Context, provider *goose.Provider) error {
	current, target, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case current > target:
		return fmt.Errorf("schema is at version %d and this store knows %d: %w", current, target, store.ErrSchema)
	case current < target:
		_, err = provider.Up(ctx)
	}
	return err
}

const selectSchema = `
SELECT EXISTS (
	SELECT
	FROM pg_namespace
	WHERE nspname = $1)`

// createSchema makes the schema that the configuration names, unless it is there: to make it takes a right on the
// database that the role need not have.
func (s *Store) createSchema(ctx context.Context) error {
	if s.names.schema == "" {
		return nil
	}
	create := func(tx *sql.Tx) error {
		var exists bool
		if err := tx.QueryRowContext(ctx, selectSchema, s.names.schema).Scan(&exists); err != nil || exists {
			return err
		}
		_, err := tx.ExecContext(ctx, "CREATE SCHEMA "+s.names.schema)
		return err
	}
	return s.retry(ctx, func() error { return s.ddl(ctx, create) }, transient)
}

// ddl runs fn in a transaction that alone changes the schema.
func (s *Store) ddl(ctx context.Context, fn func(*sql.Tx) error) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after a commit
	if _, err := tx.ExecContext(ctx, migrationLock); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// names puts the schema before the names of our tables, so that no session has to be told where to look for them.
type names struct {
	schema    string
	qualified *sync.Map // statement → statement with the schema
}

// of returns a statement as it is sent.
func (n names) of(statement string) string {
	if n.schema == "" {
		return statement
	}
	if known, ok := n.qualified.Load(statement); ok {
		return known.(string)
	}
	qualified := n.qualify(statement)
	n.qualified.Store(statement, qualified)
	return qualified
}

// prefix is what all names of ours begin with, and nothing else in our SQL does.
const prefix = "usage_"

func (n names) qualify(statement string) string {
	if n.schema == "" {
		return statement
	}
	qualified := n.schema + "." + prefix
	var b strings.Builder
	for rest := statement; ; {
		before, after, found := strings.Cut(rest, prefix)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		// The name of an index that is being made takes no schema: it goes where its table is.
		if strings.HasSuffix(before, "CREATE INDEX ") {
			b.WriteString(prefix)
		} else {
			b.WriteString(qualified)
		}
		rest = after
	}
}

// qualifiedFS is a file system of SQL files with qualified names.
type qualifiedFS struct {
	fs.FS
	names names
}

// Open implements fs.FS.
func (f qualifiedFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := fs.ReadFile(f.FS, name)
	if err != nil {
		return nil, err
	}
	return qualifiedFile{file, bytes.NewReader([]byte(f.names.qualify(string(text))))}, nil
}

type qualifiedFile struct {
	fs.File
	text *bytes.Reader
}

// Read implements fs.File.
func (f qualifiedFile) Read(b []byte) (int, error) { return f.text.Read(b) }
