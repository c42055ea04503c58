package storesqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

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

// classify returns the sentinel for an error, by SQLite's result code, or nil when it speaks for itself.
func classify(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return store.ErrClosed
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code() & 0xff { // the low byte is the primary result code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return store.ErrBusy
	case sqlite3.SQLITE_FULL:
		return store.ErrFull
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return store.ErrReadOnly
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return store.ErrCorrupt
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return store.ErrUnavailable
	case sqlite3.SQLITE_INTERRUPT:
		return context.Canceled
	case sqlite3.SQLITE_ERROR:
		return errTables
	}
	return store.ErrInvalid
}

// errTables is the class of a statement that does not fit the tables: all statements are the store's own, so the tables are
// not those that it made.
var errTables = fmt.Errorf("schema is not the store's: %w", store.ErrCorrupt)

// commitError marks the one failure after which a commit may be there all the same: the log could not be synced, so
// whether the operating system wrote it before a crash cannot be known.
func commitError(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_IOERR {
		return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return err
}
