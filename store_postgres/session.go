package storepostgres

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx/reflectx"

	"github.com/acf68eca/usage/store"
)

// session is a connection that a transaction has to itself. Statements that are queued go to the server together, in one
// round trip. When one fails, those after it are not run.
type session struct {
	conn   *pgx.Conn
	names  names
	mapper *reflectx.Mapper
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
		return fn(&session{conn: driver.Conn(), names: s.names, mapper: s.db.Mapper})
	})
}

// queue adds a statement whose rows go to dest: a pointer to a slice, to one struct or value, or nil for none.
func (c *session) queue(dest any, query string, args ...any) {
	c.queued.Queue(c.names.of(query), args...).Query(func(rows pgx.Rows) error {
		if dest == nil {
			rows.Close()
			return rows.Err()
		}
		return c.scan(rows, dest)
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

// scan reads all rows of a slice, or the first one.
func (c *session) scan(rows pgx.Rows, dest any) error {
	defer rows.Close()
	if err := rows.Err(); err != nil { // then it has no columns
		return err
	}
	to := reflect.ValueOf(dest).Elem()
	row, many := to, to.Kind() == reflect.Slice && to.Type().Elem().Kind() == reflect.Struct
	if many {
		row = reflect.New(to.Type().Elem()).Elem()
	}
	fields, err := c.fields(rows, row)
	if err != nil {
		return err
	}
	found := 0
	for ; (many || found == 0) && rows.Next(); found++ {
		if err := rows.Scan(fields...); err != nil {
			return err
		}
		if many {
			to.Grow(1)
			to.SetLen(to.Len() + 1)
			to.Index(to.Len() - 1).Set(row)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	if !many && found == 0 {
		return sql.ErrNoRows
	}
	return nil
}

// fields are pointers to where the columns of a row go: the fields of those names if it is a struct. They are looked for once
// and not for each row, which for the rows of many totals is most of the work.
func (c *session) fields(rows pgx.Rows, row reflect.Value) ([]any, error) {
	if row.Kind() != reflect.Struct {
		return []any{row.Addr().Interface()}, nil
	}
	columns := rows.FieldDescriptions()
	names := make([]string, len(columns))
	for i := range columns {
		names[i] = columns[i].Name
	}
	fields := make([]any, len(columns))
	for i, path := range c.mapper.TraversalsByName(row.Type(), names) {
		if len(path) == 0 {
			return nil, fmt.Errorf("%s has no field for column %s: %w", row.Type(), names[i], store.ErrInvalid)
		}
		fields[i] = reflectx.FieldByIndexes(row, path).Addr().Interface()
	}
	return fields, nil
}
