package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cluster is a private server and its folder. PostgreSQL refuses to run as root, so root runs it as somebody else.
type cluster struct {
	bin  string // the folder of initdb and pg_ctl
	dir  string // of data, socket and log
	as   *syscall.Credential
	tomb io.Closer // see watch
}

func newCluster(cfg Config) (*cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	c := &cluster{bin: bin, dir: dir, as: as}
	if err := c.begin(cfg); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

func (c *cluster) begin(cfg Config) error {
	if c.as != nil {
		if err := os.Chown(c.dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
			return err
		}
	}
	if err := c.watch(); err != nil {
		return err
	}
	if err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return err
	}
	if err := c.configure(cfg); err != nil {
		return err
	}
	return c.start()
}

func (c *cluster) configure(cfg Config) error {
	settings := []string{
		"listen_addresses = ''",
		"unix_socket_directories = '" + c.dir + "'",
		"max_connections = 300",
		"shared_buffers = 256MB",
		"max_wal_size = 4GB",
	}
	if !cfg.Durable {
		settings = append(settings, "fsync = off", "full_page_writes = off")
	}
	settings = append(settings, cfg.Settings...)
	file, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	return errors.Join(err, file.Close())
}

func (c *cluster) data() string   { return filepath.Join(c.dir, "data") }
func (c *cluster) socket() string { return filepath.Join(c.dir, ".s.PGSQL.5432") }

func (c *cluster) dsn() string {
	return "host=" + c.dir + " port=5432 user=postgres dbname=postgres sslmode=disable"
}

func (c *cluster) start() error {
	return c.run("pg_ctl", "start", "-w", "-t", "60", "-D", c.data(), "-l", filepath.Join(c.dir, "log"))
}

func (c *cluster) stop(mode string) error {
	return c.run("pg_ctl", "stop", "-w", "-t", "60", "-D", c.data(), "-m", mode)
}

// run runs one of the server's programs. Its own output goes to no pipe of ours: a server that it starts would keep
// that open, and with it whoever waits for the end of our output.
func (c *cluster) run(program string, args ...string) error {
	said, err := os.Create(filepath.Join(c.dir, program+".out"))
	if err != nil {
		return err
	}
	defer said.Close() //nolint:errcheck // it is read again below
	cmd := exec.CommandContext(context.Background(), filepath.Join(c.bin, program), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, said, said
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") }), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Setpgid: true}
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		return fmt.Errorf("pgtest: %s: %w\n%s%s", program, err, text, log[max(0, len(log)-2000):])
	}
	return nil
}

// watch starts a shell that outlives us, however we end: when its standard input ends, it stops the server and removes
// the folder.
func (c *cluster) watch() error {
	const script = `cat
if pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null); then
	kill -QUIT "$pid" 2>/dev/null
	while kill -0 "$pid" 2>/dev/null && test -e "$1/data/postmaster.pid"; do sleep 0.1; done
fi
rm -rf "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", c.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what is sent to our group does not end it
	tomb, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	c.tomb = closer(func() error { return errors.Join(tomb.Close(), cmd.Wait()) })
	return cmd.Start()
}

type closer func() error

func (c closer) Close() error { return c() }

// remove has the watching shell do what it does when we die, and waits for it.
func (c *cluster) remove() error {
	if c.tomb == nil {
		return os.RemoveAll(c.dir)
	}
	return c.tomb.Close()
}

// binaries finds the folder with the server's programs: the one on PATH, or the newest that Debian has installed.
func binaries() (string, error) {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	found = slices.DeleteFunc(found, func(dir string) bool { return !complete(dir) })
	if len(found) == 0 {
		return "", ErrNotInstalled
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
}

func complete(dir string) bool {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // 0 for a name that is no number: the oldest
	return n
}

// unprivileged is who runs the server when we are root: nil when we are not.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgtest: the server does not run as root, and there is nobody else to run it")
}

// Log returns what a private server has logged.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.private.dir, "log"))
	return string(bytes.TrimSpace(text))
}
