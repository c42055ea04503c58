package storesqlite

import (
	"context"
	"database/sql/driver"
)

// statement numbers the statements that are kept prepared on the writer's connection.
type statement int

const (
	begin statement = iota
	dataVersion
	commit
	insertRecord
	insertTotal
	updateTotal
	statements
)

func (s statement) sql() string {
	return [statements]string{
		begin:        "BEGIN IMMEDIATE",
		dataVersion:  "PRAGMA data_version",
		commit:       "COMMIT",
		insertRecord: insertRecordSQL,
		insertTotal:  insertTotalSQL,
		updateTotal:  updateTotalSQL,
	}[s]
}

// prepared are the statements of one driver connection.
type prepared struct {
	conn  any
	stmts [statements]driver.Stmt
}

// prepare sees to it that the statements belong to the connection at hand: the pool may have replaced it.
func (t *tx) prepare(ctx context.Context) error {
	return t.Raw(func(conn any) error {
		if t.store.prepared != nil && t.store.prepared.conn == conn {
			return nil
		}
		p := &prepared{conn: conn}
		for i := range statements {
			stmt, err := conn.(driver.ConnPrepareContext).PrepareContext(ctx, i.sql())
			if err != nil {
				return err
			}
			p.stmts[i] = stmt
		}
		t.store.prepared = p
		t.store.cache.reset() // data_version counts by connection
		return nil
	})
}

// run executes a prepared statement that has no arguments. When ctx can end, the driver starts a goroutine to watch it.
func (t *tx) run(ctx context.Context, s statement) error {
	return t.Raw(func(any) error {
		_, err := t.store.prepared.stmts[s].(driver.StmtExecContext).ExecContext(ctx, nil)
		return err
	})
}

// exec executes a prepared statement. No context is handed on, for the sake of that goroutine; write looks at it before
// the commit.
func (t *tx) exec(s statement, args ...driver.Value) (result driver.Result, err error) {
	t.args = t.args[:0]
	for i, value := range args {
		t.args = append(t.args, driver.NamedValue{Ordinal: i + 1, Value: value})
	}
	err = t.Raw(func(any) error {
		result, err = t.store.prepared.stmts[s].(driver.StmtExecContext).ExecContext(context.Background(), t.args)
		return err
	})
	return result, err
}

// number executes a prepared statement that returns one number.
func (t *tx) number(s statement) (n int64, err error) {
	err = t.Raw(func(any) error {
		rows, err := t.store.prepared.stmts[s].(driver.StmtQueryContext).QueryContext(context.Background(), nil)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // it has been read
		value := make([]driver.Value, 1)
		if err := rows.Next(value); err != nil {
			return err
		}
		n, _ = value[0].(int64)
		return nil
	})
	return n, err
}
