// Package pgtest gives tests a real PostgreSQL server: the one that USAGE_POSTGRES_DSN names, or else a private one
// that is started from the installed binaries, listens on nothing but a Unix socket in a temporary folder, and is gone
// when the test binary ends, however it ends.
package pgtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
)

// Variable names a server that the tests are to use. Its role must be allowed to create databases.
const Variable = "USAGE_POSTGRES_DSN"

// ErrNotInstalled: there is no server to use and none to start. Its text is the command that mends that.
var ErrNotInstalled = errors.New("no PostgreSQL server: set " + Variable +
	", or install one: apt-get update && apt-get install -y postgresql")

// Server is a server for tests. It is safe for concurrent use.
type Server struct {
	dsn     string
	private *cluster
}

// Open returns the server that the environment names, and starts a private one if it names none. Close stops that one.
func Open() (*Server, error) {
	if dsn := os.Getenv(Variable); dsn != "" {
		return &Server{dsn: dsn}, nil
	}
	return Start(Config{})
}

// Config is how a private server differs from the one that most tests want.
type Config struct {
	// Durable syncs commits to disk, as a server that is measured has to. Without it a server that is stopped, in
	// whatever way, still loses nothing; only a crash of the machine would.
	Durable bool
	// Settings are lines of postgresql.conf.
	Settings []string
}

// Start starts a private server, whatever the environment says. It returns ErrNotInstalled when there are no binaries.
func Start(cfg Config) (*Server, error) {
	c, err := newCluster(cfg)
	if err != nil {
		return nil, err
	}
	return &Server{dsn: c.dsn(), private: c}, nil
}

// Close stops a private server and removes its files. Of any other it leaves all as it is.
func (s *Server) Close() error {
	if s.private == nil {
		return nil
	}
	return s.private.remove()
}

// DSN names the server's own database, which tests leave alone.
func (s *Server) DSN() string { return s.dsn }

// Socket returns the network and address of a private server, for a proxy before it.
func (s *Server) Socket() (network, address string) { return "unix", s.private.socket() }

// Crash stops a private server at once, as pg_ctl stop -m immediate does: its backends die where they are.
func (s *Server) Crash() error { return s.private.stop("immediate") }

// Restart starts a private server that was stopped. It recovers and then accepts connections.
func (s *Server) Restart() error { return s.private.start() }

// Database makes a database for one test and returns its DSN. It is dropped with the test, whoever uses it.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test_" + Name()
	if err := s.Exec(context.Background(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		for range 10 { // the server gives its sessions five seconds to end, which on a busy machine is little
			if err = s.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err == nil {
				return
			}
		}
		t.Errorf("drop database: %v", err)
	})
	dsn, err := WithDatabase(s.dsn, name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// Name is a name that nothing else has, of lower-case letters and digits.
func Name() string { return strings.ToLower(rand.Text()[:16]) }

// Exec runs one statement on the server's own database.
func (s *Server) Exec(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", s.dsn)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the statement's error tells
	_, err = db.ExecContext(ctx, statement)
	return err
}

// WithDatabase returns a DSN for another database of the same server.
func WithDatabase(dsn, name string) (string, error) { return With(dsn, "dbname", name) }

// With returns a DSN with one keyword, such as host or application_name, set to another value.
func With(dsn, keyword, value string) (string, error) {
	if _, err := pgx.ParseConfig(dsn); err != nil {
		return "", err
	}
	if !strings.Contains(dsn, "://") {
		return dsn + " " + keyword + "=" + value, nil // the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	query := u.Query()
	switch keyword {
	case "dbname":
		query.Del(keyword)
		u.Path = "/" + value
	default:
		query.Set(keyword, value) // counts more than what stands before it
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}
