package storesqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

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
// together with the note that it ran, so the second fails whole (with the class of a table that exists already), looks
// again and finds it done.
func (s *Store) migrate(ctx context.Context) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer.DB, Migrations(),
		goose.WithTableName(versionTable), goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return s.retry(ctx, func() error { return migrateOnce(ctx, provider) }, store.ErrBusy, errTables)
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
