package usage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// Some tests need other processes on the same ledger: the test binary runs itself with this variable set to a role.
const roleVariable = "USAGE_TEST_ROLE"

// processLimit ends a process that nobody ended, whatever became of the test.
const processLimit = 2 * time.Minute

// roles are what a process can be run as: on a ledger, with a number that tells it from the others.
var roles = map[string]func(ctx context.Context, tracker *usage.Tracker, number int) error{
	"sharer":  playSharer,
	"logger":  playLogger,
	"spender": playSpender,
	"hoarder": playHoarder,
	"hurrier": playHurrier,
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := play(role, os.Args[1], os.Args[2]); err != nil {
		say("failed: %v", err)
		os.Exit(1)
	}
}

// play opens the ledger, waits for its standard input to end, so that processes begin together, and plays the role.
func play(role func(context.Context, *usage.Tracker, int) error, path, number string) error {
	ctx, cancel := context.WithTimeout(context.Background(), processLimit)
	defer cancel()
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	st, err := storesqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{Now: crashClock})
	if err != nil {
		return err
	}
	say("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return role(ctx, tracker, n)
}

// say writes one line at once; what a process has said stays said when it is killed.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...) //nolint:errcheck // the parent sees that it is missing
}

// process is another process of the test binary.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

// startProcess starts a process and waits until it is ready to begin.
func startProcess(t *testing.T, role, path string, number int) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), processLimit)
	t.Cleanup(cancel)
	p := &process{t: t, cmd: exec.CommandContext(ctx, executable, path, strconv.Itoa(number))}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(stdout)
	if line, ok := p.next(); line != "ready" {
		t.Fatalf("a %s begins with %q, %v", role, line, ok)
	}
	return p
}

func (p *process) begin() { p.stdin.Close() }

// next is the next line that the process says; false when it has ended.
func (p *process) next() (string, bool) {
	if !p.lines.Scan() {
		return "", false
	}
	return p.lines.Text(), true
}

// kill ends the process as kill -9 does, in whatever it is doing, and returns what else it had said.
func (p *process) kill() (said []string) {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill: %v", err)
	}
	said = p.rest()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		p.t.Errorf("the process was to be killed and has ended itself: %v, saying %s", err, strings.Join(said, "; "))
	}
	return said
}

// end waits for a process that ends by itself, and returns what else it said.
func (p *process) end() (said []string) {
	p.t.Helper()
	said = p.rest()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("process: %v, saying %s", err, strings.Join(said, "; "))
	}
	return said
}

func (p *process) rest() (said []string) {
	for line, ok := p.next(); ok; line, ok = p.next() {
		said = append(said, line)
	}
	return said
}
