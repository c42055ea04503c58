package storesqlite

import (
	"context"
	"database/sql/driver"
)

// statement numbers the statements that are kept prepared on the writer's connection.
type statement int

const (
	commit statement = iota
	insertRecord
	insertTotal
	updateTotal
	statements
)

func (s statement) sql() string {
	return [statements]string{
		commit:       "COMMIT",
		insertRecord: insertRecordSQL,
		insertTotal:  insertTotalSQL,
		updateTotal:  updateTotalSQL,
	}[s]
}

// prepared are the statements of one driver connection.
type prepared struct {
	conn  any
	stmts [statements]driver.StmtExecContext
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
			p.stmts[i] = stmt.(driver.StmtExecContext)
		}
		t.store.prepared = p
		t.store.cache.reset() // data_version counts by connection
		return nil
	})
}

// run executes a prepared statement that has no arguments.
func (t *tx) run(s statement) error {
	_, err := t.exec(s)
	return err
}

// exec executes a prepared statement. The context is not handed on: the driver would start a goroutine for each
// statement to watch it. write looks at it before the commit.
func (t *tx) exec(s statement, args ...driver.Value) (result driver.Result, err error) {
	t.args = t.args[:0]
	for i, value := range args {
		t.args = append(t.args, driver.NamedValue{Ordinal: i + 1, Value: value})
	}
	err = t.Raw(func(any) error {
		result, err = t.store.prepared.stmts[s].ExecContext(context.Background(), t.args)
		return err
	})
	return result, err
}
