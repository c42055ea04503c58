package storesqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/acf68eca/usage/internal/proctest"
)

func TestMain(m *testing.M) {
	proctest.Main(map[string]proctest.Role{"opener": openAndAppend})
	os.Exit(m.Run())
}

// openAndAppend opens a database that others open at the same moment, and adds a record of its own.
func openAndAppend(ctx context.Context, args []string) error {
	if err := proctest.Ready(); err != nil {
		return err
	}
	st, err := OpenConfig(ctx, args[0], Config{BusyTimeout: proctest.Limit})
	if err != nil {
		return err
	}
	id := fmt.Sprint("process-", os.Getpid())
	outcomes, err := st.Append(ctx, noon(), lend(call(acme, id, noon(), 1)), quiet)
	for _, o := range outcomes {
		err = errors.Join(err, o.Err)
	}
	if err = errors.Join(err, st.Close()); err != nil {
		return err
	}
	proctest.Say("%s", id)
	return nil
}
