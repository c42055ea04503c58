package usage_test

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func TestMain(m *testing.M) {
	proctest.Main(map[string]proctest.Role{
		"sharer":  onLedger(playSharer),
		"logger":  onLedger(playLogger),
		"spender": onLedger(playSpender),
		"hoarder": onLedger(playHoarder),
		"hurrier": onLedger(playHurrier),
	})
	os.Exit(m.Run())
}

// startProcess starts another process on a ledger, with a number that tells it from the others.
func startProcess(t *testing.T, role, path string, number int) *proctest.Process {
	t.Helper()
	return proctest.Start(t, role, path, strconv.Itoa(number))
}

// onLedger is what such a process does: it opens the ledger, waits until the others have too, and plays.
func onLedger(play func(ctx context.Context, tracker *usage.Tracker, number int) error) proctest.Role {
	return func(ctx context.Context, args []string) error {
		number, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		st, err := storesqlite.OpenConfig(ctx, args[0], storesqlite.Config{BusyTimeout: proctest.Limit})
		if err != nil {
			return err
		}
		defer st.Close()
		tracker, err := usage.New(st, usage.Config{Now: crashClock, CommitTimeout: proctest.Limit})
		if err != nil {
			return err
		}
		if err := proctest.Ready(); err != nil {
			return err
		}
		return play(ctx, tracker, number)
	}
}
