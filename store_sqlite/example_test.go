package storesqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/acf68eca/usage/store"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "usage")
	check(err)
	defer os.RemoveAll(dir) //nolint:errcheck // the system clears its folder for temporary files

	ctx := context.Background()
	st, err := storesqlite.Open(ctx, filepath.Join(dir, "usage.db"))
	check(err)
	fmt.Println(st.Close())

	_, err = st.Tenants(ctx, "", 10)
	fmt.Println(errors.Is(err, store.ErrClosed))
	// Output:
	// <nil>
	// true
}

func ExampleOpenConfig() {
	// For a ledger that may lose its last moments in a power cut, but in nothing less.
	st, err := storesqlite.OpenConfig(context.Background(), ":memory:", storesqlite.Config{SynchronousNormal: true})
	check(err)
	fmt.Println(st.Close())
	// Output: <nil>
}

func ExampleMigrations() {
	files, err := fs.Glob(storesqlite.Migrations(), "*.sql")
	fmt.Println(files[0], err)
	// Output: 0001_ledger.sql <nil>
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
