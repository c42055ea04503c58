package storepostgres

import (
	"context"
	"testing"

	"github.com/acf68eca/usage/internal/pgtest"
)

// Server is the server of all tests of the package. TestMain sets it.
var Server *pgtest.Server

// Schema is a schema of its own in the server's database for one test. It does not exist yet.
func Schema(t testing.TB) (dsn, schema string) {
	t.Helper()
	schema = "test_" + pgtest.Name()
	t.Cleanup(func() {
		if err := Server.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Errorf("drop schema: %v", err)
		}
	})
	return Server.DSN(), schema
}
