package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// ErrNoPooler: PgBouncer is not installed. Its text is the command that mends that.
var ErrNoPooler = errors.New("no pgbouncer: install it: apt-get update && apt-get install -y pgbouncer")

// Pooler starts a PgBouncer in transaction mode before a database, with so many connections to it, and returns the DSN of
// the database behind it. It ends with the test.
func (s *Server) Pooler(t testing.TB, dsn string, connections int) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // which is not on everybody's PATH
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatal(ErrNoPooler)
	}
	dir, err := os.MkdirTemp("", "pgtest") //nolint:usetesting // short, for the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // the system clears its folder for temporary files
	if err := startPooler(t, program, dir, dsn, connections); err != nil {
		t.Fatal(err)
	}
	for keyword, value := range map[string]string{"host": dir, "port": "6432"} {
		if dsn, err = With(dsn, keyword, value); err != nil {
			t.Fatal(err)
		}
	}
	return dsn
}

func startPooler(t testing.TB, program, dir, dsn string, connections int) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	as, err := unprivileged()
	if err != nil {
		return err
	}
	password := ""
	if cfg.Password != "" {
		password = "password='" + cfg.Password + "'"
	}
	text := fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s %s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = %d
logfile = %s
`, cfg.Database, cfg.Host, cfg.Port, cfg.User, password, dir, connections, filepath.Join(dir, "log"))
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if as != nil {
		if err := errors.Join(os.Chown(dir, int(as.Uid), int(as.Gid)), os.Chown(file, int(as.Uid), int(as.Gid))); err != nil {
			return err
		}
	}
	// A shell that ends it when its own standard input ends, however we do.
	cmd := exec.Command("/bin/sh", "-c", `"$@" </dev/null & cat; kill $!; wait`, "sh", program, "-q", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	tomb, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := errors.Join(tomb.Close(), cmd.Wait()); err != nil {
			t.Errorf("pgbouncer: %v", err)
		}
	})
	return nil
}
