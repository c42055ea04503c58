package storepostgres_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

func TestMain(m *testing.M) {
	proctest.Main(map[string]proctest.Role{
		"sharer":  onLedger(playSharer, crashClock),
		"spender": onLedger(playSpender, crashClock),
		"logger":  onLedger(playLogger, crashClock),
		"hurrier": onLedger(playHurrier, time.Now),
		"bencher": bench,
	})
	os.Exit(run(m))
}

func run(m *testing.M) int {
	server, err := pgtest.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	storepostgres.Server = server
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// onLedger is what another process does: it opens the ledger, waits until the others have too, and plays.
func onLedger(play func(ctx context.Context, tracker *usage.Tracker, number int) error, clock func() time.Time) proctest.Role {
	return func(ctx context.Context, args []string) error {
		number, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		tracker, done, err := openTracker(ctx, args[0], args[1], clock)
		if err != nil {
			return err
		}
		defer done()
		if err := proctest.Ready(); err != nil {
			return err
		}
		return play(ctx, tracker, number)
	}
}
