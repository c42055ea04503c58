package storesqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// One test needs other processes: the test binary runs itself with this variable set, and is then one that opens a
// database and adds a record.
const openerVariable = "USAGE_STORE_SQLITE_TEST_OPENER"

func TestMain(m *testing.M) {
	if os.Getenv(openerVariable) == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := openAndAppend(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stdout, "failed:", err) //nolint:errcheck // the parent sees that it is missing
		os.Exit(1)
	}
}

// ready says that the process has started, and waits until it may go on.
func ready() error {
	fmt.Fprintln(os.Stdout, "ready") //nolint:errcheck // the parent sees that it is missing
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a process of ours that waits to be let go on.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
}

func start(t testing.TB, path string) *child {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c := &child{t: t, cmd: exec.CommandContext(ctx, executable, path)}
	c.cmd.Env = append(os.Environ(), openerVariable+"=yes")
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin, c.stdout = stdin, bufio.NewReader(stdout)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := c.stdout.ReadString('\n')
	if line != "ready\n" || err != nil {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return c
}

func (c *child) goOn() { c.stdin.Close() }

// end waits for the process and returns what it printed.
func (c *child) end() string {
	c.t.Helper()
	out, err := io.ReadAll(c.stdout)
	if err = errors.Join(err, c.cmd.Wait()); err != nil {
		c.t.Errorf("process: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// openAndAppend opens a database that others open at the same moment, and adds a record of its own.
func openAndAppend(ctx context.Context, path string) error {
	if err := ready(); err != nil {
		return err
	}
	st, err := Open(ctx, path)
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
	fmt.Fprintln(os.Stdout, id) //nolint:errcheck // the parent sees that it is missing
	return nil
}
