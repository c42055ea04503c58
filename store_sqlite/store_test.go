package storesqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/acf68eca/usage/store"
	"github.com/acf68eca/usage/store/storetest"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func newDB(t testing.TB) storetest.Open {
	path := filepath.Join(t.TempDir(), "usage.db")
	return func(t testing.TB) store.Store {
		st, err := storesqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func TestStore(t *testing.T) { storetest.Run(t, newDB) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, newDB) }
