package storesqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/acf68eca/usage/store"
)

//go:embed migrations/*.sql
var embedded embed.FS

// versionTable is where goose notes which migrations have run.
const versionTable = "usage_schema_versions"

// Migrations returns the schema as SQL files in goose's format, for hosts that run migrations with a tool of their own.
// They are recorded in the table usage_schema_versions; Open runs those that are missing there.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // only when the name above is wrong
	}
	return files
}

// migrate brings the schema up to date. Two processes may find the same migration missing: each runs in a transaction
// together with the note that it ran, so the second fails whole, looks again and finds it done.
func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, Migrations(),
		goose.WithTableName(versionTable), goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	const tries = 20
	for try := range tries {
		var done bool
		if done, err = migrateOnce(ctx, provider); done || errors.Is(err, store.ErrSchema) {
			return err
		}
		if class := classify(err); class != nil && !errors.Is(class, store.ErrBusy) && !errors.Is(class, store.ErrInvalid) {
			return err // no other process's doing
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try+1) * 5 * time.Millisecond):
		}
	}
	return err
}

func migrateOnce(ctx context.Context, provider *goose.Provider) (done bool, err error) {
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return false, err
	}
	if current > target {
		return false, fmt.Errorf("schema is at version %d and this store knows %d: %w", current, target, store.ErrSchema)
	}
	if current == target {
		return true, nil
	}
	_, err = provider.Up(ctx)
	return err == nil, err
}
