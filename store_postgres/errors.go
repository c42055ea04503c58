package storepostgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/acf68eca/usage/store"
)

// wrap names the operation and classifies the driver's errors; nil stays nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	class := classify(err)
	if class == nil || errors.Is(err, class) {
		return fmt.Errorf("usage: %s: %w", op, err)
	}
	return fmt.Errorf("usage: %s: %w: %w", op, class, err)
}

// sqlState returns the server's code for an error, or "" when it is none of the server's.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// classify returns the sentinel for an error, by SQLSTATE or type, or nil when it speaks for itself.
func classify(err error) error {
	switch {
	case errors.Is(err, store.ErrUnknownOutcome), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrBusy):
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case sqlState(err) != "":
		return classifyState(sqlState(err))
	case unconnected(err):
		return store.ErrUnavailable
	}
	return nil
}

// classifyState follows the classes of PostgreSQL's appendix A.
func classifyState(code string) error {
	switch code {
	case "53100": // disk_full
		return store.ErrFull
	case "40001", "40P01", "55P03", "57014", "53300": // serialization, deadlock, lock or statement timeout, connections
		return store.ErrBusy
	case "25006", "42501": // read_only_sql_transaction, insufficient_privilege
		return store.ErrReadOnly
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return store.ErrCorrupt
	case "42P01", "42703": // undefined_table, undefined_column
		return errTables
	}
	switch code[:2] {
	case "08", "57", "53", "58", "28", "3D", "25": // connection, operator, resources, system, login, database, state
		return store.ErrUnavailable
	}
	return store.ErrInvalid
}

// errTables is the class of a statement that does not fit the tables: all statements are the store's own, so the tables are
// not those that it made.
var errTables = fmt.Errorf("schema is not the store's: %w", store.ErrCorrupt)

// lacksPartition reports whether a row had no partition to go to: the check that failed is none that has a name.
func lacksPartition(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23514" && e.ConstraintName == ""
}

// transient reports whether the same transaction may succeed when it is tried again. It is asked only of errors that
// came before the commit was sent, or for which the server has said that nothing was committed.
func transient(err error) bool {
	if errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrUnknownOutcome) {
		return false
	}
	switch code := sqlState(err); code {
	case "40001", "40P01", "57P01", "57P02", "57P03", "57P05", "53300", "25P03":
		return true
	case "":
		return unconnected(err)
	default:
		return code[:2] == "08"
	}
}

// unconnected reports whether an error is that of a connection which is not there or broke.
func unconnected(err error) bool {
	var network *net.OpError
	var connect *pgconn.ConnectError
	for _, broken := range []error{
		driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err)
}

// decided reports whether an error of COMMIT says that the transaction is not there: the server has answered, and its
// answer was no. A server that is going down may have committed before it said so, and a pooler that lost it does not know.
func decided(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(e.Code, "08") ||
		errors.Is(err, errRolledBack)
}
