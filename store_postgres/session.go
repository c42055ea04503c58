package storepostgres

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/store"
)

// session is a connection that a transaction has to itself. Statements that are queued go to the server together, in one
// round trip. When one fails, those after it are not run.
type session struct {
	conn   *pgx.Conn
	names  names
	queued pgx.Batch
}

// onSession runs fn on a session of a connection of the pool.
func (s *Store) onSession(ctx context.Context, fn func(*session) error) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool
	return conn.Raw(func(of any) error {
		driver, ok := of.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("the pool's connections are %T and not those of pgx: %w", of, store.ErrInvalid)
		}
		return fn(&session{conn: driver.Conn(), names: s.names})
	})
}

// queue adds a statement whose rows go to dest: a pointer to a slice, to one struct or value, or nil for none.
func (c *session) queue(dest any, query string, args ...any) {
	c.queued.Queue(c.names.of(query), args...).Query(func(rows pgx.Rows) error {
		if dest == nil {
			rows.Close()
			return rows.Err()
		}
		return scan(rows, dest)
	})
}

// send sends what is queued and waits for all of it.
func (c *session) send(ctx context.Context) error {
	if c.queued.Len() == 0 {
		return nil
	}
	queued := c.queued
	c.queued = pgx.Batch{}
	return c.conn.SendBatch(ctx, &queued).Close()
}

// scan reads all rows.
func scan(rows pgx.Rows, dest any) error {
	defer rows.Close()
	if err := rows.Err(); err != nil { // then it has no columns
		return err
	}
	to := reflect.ValueOf(dest).Elem()
	if to.Kind() == reflect.Slice && to.Type().Elem().Kind() == reflect.Struct {
		return sqlx.StructScan(sqlRows{rows}, dest)
	}
	if to.Kind() == reflect.Struct {
		all := reflect.New(reflect.SliceOf(to.Type()))
		if err := sqlx.StructScan(sqlRows{rows}, all.Interface()); err != nil {
			return err
		}
		if all.Elem().Len() == 0 {
			return sql.ErrNoRows
		}
		to.Set(all.Elem().Index(0))
		return nil
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := rows.Scan(dest); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// sqlRows are pgx's rows in the shape of database/sql's, which sqlx fills structs from.
type sqlRows struct{ pgx.Rows }

// Close implements what sqlx needs.
func (r sqlRows) Close() error {
	r.Rows.Close()
	return r.Err()
}

// Columns implements what sqlx needs.
func (r sqlRows) Columns() ([]string, error) {
	fields := r.FieldDescriptions()
	columns := make([]string, len(fields))
	for i := range fields {
		columns[i] = fields[i].Name
	}
	return columns, nil
}
