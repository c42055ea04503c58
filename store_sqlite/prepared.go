package storesqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// statement numbers the statements that are kept prepared on the writer's connection.
type statement int

const (
	begin statement = iota
	dataVersion
	commit
	insertRecord
	insertPlain
	findRecord
	findRecords
	findPlain
	selectFiledRow
	upsertMonthRow
	insertDayRow
	updateDayRow
	insertHoldRow
	selectHoldRow
	settleHoldRow
	releaseHoldRow
	upsertArrivalRow
	statements
)

func (s statement) sql() string {
	return [statements]string{
		begin:            "BEGIN IMMEDIATE",
		dataVersion:      "PRAGMA data_version",
		commit:           "COMMIT",
		insertRecord:     insertRecordSQL,
		insertPlain:      insertPlainSQL,
		findRecord:       selectRecord,
		findRecords:      selectWanted,
		findPlain:        selectPlainWanted,
		selectFiledRow:   selectFiled,
		upsertMonthRow:   upsertMonth,
		insertDayRow:     insertDay,
		updateDayRow:     updateDay,
		insertHoldRow:    insertHold,
		selectHoldRow:    selectHold,
		settleHoldRow:    updateHoldSettled,
		releaseHoldRow:   updateHoldReleased,
		upsertArrivalRow: upsertArrival,
	}[s]
}

// prepared are the statements of one driver connection.
type prepared struct {
	conn  any
	stmts [statements]preparedStmt
	// args are those of the statement at hand, in memory that is used again.
	args []driver.NamedValue
}

// preparedStmt is what the driver's statements are.
type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func (p *prepared) close() {
	for _, stmt := range p.stmts {
		if stmt != nil {
			stmt.Close() //nolint:errcheck // nothing is lost with a statement
		}
	}
}

// prepare sees to it that the statements belong to the connection at hand: the pool may have replaced it.
func (t *tx) prepare(ctx context.Context) error {
	return t.Raw(func(conn any) error {
		if t.store.prepared != nil && t.store.prepared.conn == conn {
			return nil
		}
		if t.store.prepared != nil {
			t.store.prepared.close()
		}
		p := &prepared{conn: conn}
		for i := range statements {
			stmt, err := conn.(driver.ConnPrepareContext).PrepareContext(ctx, i.sql())
			if err != nil {
				return err
			}
			p.stmts[i] = stmt.(preparedStmt)
		}
		// Waiting for the write lock is beginImmediate's part.
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "PRAGMA busy_timeout = 0", nil); err != nil {
			return err
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

// exec executes a prepared statement. No context is handed on: the driver would start a goroutine for each statement to
// watch it. write looks at it before the commit. Nor is it done within Conn.Raw: that takes three allocations and a lock,
// which keeps others from a connection that is nobody else's until write gives it back.
func (t *tx) exec(s statement, args ...driver.Value) (driver.Result, error) {
	p := t.store.prepared
	return p.stmts[s].ExecContext(context.Background(), p.bind(args))
}

// insert executes a prepared statement that adds a row, and returns the row's number.
func (t *tx) insert(s statement, args ...driver.Value) (rowid int64, err error) {
	result, err := t.exec(s, args...)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// row executes a prepared statement and reads its first row into values. It returns sql.ErrNoRows when there is none.
func (t *tx) row(s statement, values []driver.Value, args ...driver.Value) error {
	found := false
	err := t.rows(s, values, args, func() error {
		found = true
		return io.EOF
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// rows executes a prepared statement and calls each for every row of it, which is then in values, until that returns
// io.EOF.
func (t *tx) rows(s statement, values, args []driver.Value, each func() error) error {
	p := t.store.prepared
	rows, err := p.stmts[s].QueryContext(context.Background(), p.bind(args))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // it has been read
	for err == nil {
		if err = rows.Next(values); err == nil {
			err = each()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *prepared) bind(args []driver.Value) []driver.NamedValue {
	p.args = p.args[:0]
	for i, value := range args {
		p.args = append(p.args, driver.NamedValue{Ordinal: i + 1, Value: value})
	}
	return p.args
}
