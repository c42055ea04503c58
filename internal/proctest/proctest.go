// Package proctest runs a test's own binary again, as other processes: on the same ledger as the test, to be killed, or to race
// with each other.
package proctest

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

// Limit ends a process that nobody ended, whatever became of the test.
const Limit = 10 * time.Minute

// variable names the role of a process that is none of the test's own.
const variable = "USAGE_TEST_ROLE"

// Role is what a process does, with the arguments that Start was given.
type Role func(ctx context.Context, args []string) error

// Main is for TestMain: it plays the role that this process was started for and ends it. In the test's own process it returns.
func Main(roles map[string]Role) {
	name := os.Getenv(variable)
	if name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	role, ok := roles[name]
	err := fmt.Errorf("there is no role %q", name)
	if ok {
		err = role(ctx, os.Args[1:])
	}
	if err != nil {
		Say("failed: %v", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Ready says that this process may begin, and waits until it is told to.
func Ready() error {
	Say("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// Say writes one line at once; what a process has said stays said when it is killed.
func Say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...) //nolint:errcheck // the parent sees that it is missing
}

// Process is another process of the test binary.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

// Start starts a process and waits until it is Ready.
func Start(t testing.TB, role string, args ...string) *Process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Limit)
	t.Cleanup(cancel)
	p := &Process{t: t, cmd: exec.CommandContext(ctx, executable, args...)}
	p.cmd.Env = append(os.Environ(), variable+"="+role)
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.lines = stdin, bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, ok := p.Next(); line != "ready" {
		t.Fatalf("a %s begins with %q, %v", role, line, ok)
	}
	return p
}

// Begin lets the process go on that is Ready; that it is gone is noticed by who reads from it.
func (p *Process) Begin() { p.stdin.Close() }

// Next is the next line that the process says; false when it has ended.
func (p *Process) Next() (string, bool) {
	if !p.lines.Scan() {
		return "", false
	}
	return p.lines.Text(), true
}

// Kill ends the process as kill -9 does, in whatever it is doing, and returns what else it had said.
func (p *Process) Kill() (said []string) {
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

// End waits for a process that ends by itself, and returns what else it said.
func (p *Process) End() (said []string) {
	p.t.Helper()
	said = p.rest()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("process: %v, saying %s", err, strings.Join(said, "; "))
	}
	return said
}

func (p *Process) rest() (said []string) {
	for line, ok := p.Next(); ok; line, ok = p.Next() {
		said = append(said, line)
	}
	return said
}
