package storesqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
	"github.com/acf68eca/usage/store/storetest"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func newDB(t testing.TB) storetest.Open {
	path := filepath.Join(t.TempDir(), "usage.db")
	return func(t testing.TB) store.Store {
		st, err := storesqlite.OpenConfig(t.Context(), path, storesqlite.Config{BusyTimeout: proctest.Limit})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func TestStore(t *testing.T) { storetest.Run(t, newDB) }

// TestStoreThatFilesOften has all promises kept where records are filed by time over and over, in the middle of
// everything, and not after the thousands that no test of the suite comes to.
func TestStoreThatFilesOften(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open {
		open := newDB(t)
		return func(t testing.TB) store.Store {
			st := open(t)
			st.(*storesqlite.Store).FileAt(3)
			return st
		}
	})
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, newDB) }
