package storepostgres

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/acf68eca/usage/internal/pgtest"
)

// server is the server of all tests of the package.
var server *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if server, err = pgtest.Open(); err != nil {
		fmt.Fprintln(os.Stderr, err) //nolint:errcheck // the exit code tells too
		return 1
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err) //nolint:errcheck // the exit code tells too
		return 1
	}
	return code
}

// Database makes an empty database and returns its DSN.
func Database(t testing.TB) string {
	t.Helper()
	return server.Database(t)
}

// Schema is a schema of its own in the server's database for one test, which does not exist yet.
func Schema(t testing.TB) (dsn, schema string) {
	t.Helper()
	schema = "test_" + pgtest.Name()
	t.Cleanup(func() {
		if err := server.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Errorf("drop schema: %v", err)
		}
	})
	return server.DSN(), schema
}
