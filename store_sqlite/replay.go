package storesqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/acf68eca/usage/store"
)

// replay is what a transaction knows of records that are in the ledger already. Who sends one call again mostly sends
// many: after a duplicate, the next records are looked up before they are inserted, several in one query.
type replay struct {
	on bool
	// records are those of the batch, and order their order, from the one at hand on.
	records []*store.Record
	order   []int
	// looked has the records that were looked up, each with the stored one of its id, nil when there was none then.
	looked map[*store.Record]*store.Record
}

const wantedAtOnce = 32

const selectWanted = `
WITH wanted (number, id, tenant) AS (
	VALUES (0, ?, ?), (1, ?, ?), (2, ?, ?), (3, ?, ?), (4, ?, ?), (5, ?, ?), (6, ?, ?), (7, ?, ?),
	       (8, ?, ?), (9, ?, ?), (10, ?, ?), (11, ?, ?), (12, ?, ?), (13, ?, ?), (14, ?, ?), (15, ?, ?),
	       (16, ?, ?), (17, ?, ?), (18, ?, ?), (19, ?, ?), (20, ?, ?), (21, ?, ?), (22, ?, ?), (23, ?, ?),
	       (24, ?, ?), (25, ?, ?), (26, ?, ?), (27, ?, ?), (28, ?, ?), (29, ?, ?), (30, ?, ?), (31, ?, ?)
)
SELECT` + recordColumns + `, wanted.number
FROM wanted
CROSS JOIN usage_records AS r
WHERE r.id = wanted.id
  AND r.tenant = wanted.tenant`

// before compares a record with the one that has its id, before it is inserted. It may fail to find one that came with an
// earlier record of the batch, unless a hold depends on it: inserting will find it.
func (t *tx) before(ctx context.Context, n *tenant, r *store.Record) (outcome store.Outcome, found bool, err error) {
	if _, looked := t.replay.looked[r]; !looked && t.replay.on {
		if err := t.lookAhead(ctx); err != nil {
			return outcome, false, err
		}
	}
	stored := t.replay.looked[r]
	switch {
	case stored != nil:
		return compare(stored, r), true, nil
	case r.HoldID != "":
		return t.existing(ctx, n, r)
	}
	t.replay.on = false
	return outcome, false, nil
}

// existing compares a record with the one that has its id.
func (t *tx) existing(ctx context.Context, n *tenant, r *store.Record) (outcome store.Outcome, found bool, err error) {
	stored, err := t.findRecord(ctx, n, r.ID)
	t.replay.on = err == nil
	if errors.Is(err, sql.ErrNoRows) {
		return outcome, false, nil
	}
	if err != nil {
		return outcome, false, err
	}
	return compare(stored, r), true, nil
}

// compare tells a duplicate of a stored record from a conflict with it.
func compare(stored, r *store.Record) store.Outcome {
	outcome := store.Outcome{Record: stored}
	if field := stored.Differs(r); field != "" {
		outcome.Err = &store.ConflictError{TenantID: r.TenantID, ID: r.ID, Field: field}
		return outcome
	}
	outcome.Duplicate = true
	return outcome
}

// lookAhead looks up the record at hand and those after it.
func (t *tx) lookAhead(ctx context.Context) error {
	next := t.replay.order[:min(len(t.replay.order), wantedAtOnce)]
	tenants := make([]*tenant, len(next))
	args := make([]driver.Value, 0, 2*wantedAtOnce)
	for i, at := range next {
		record := t.replay.records[at]
		n, err := t.knownTenant(ctx, record.TenantID)
		if err != nil {
			return err
		}
		if n == nil {
			n = &tenant{} // a number that no row has
		}
		tenants[i], args = n, append(args, record.ID, n.number)
	}
	for len(args) < 2*wantedAtOnce {
		args = append(args, "", int64(0))
	}
	t.replay.looked = make(map[*store.Record]*store.Record, len(next))
	for _, at := range next {
		t.replay.looked[t.replay.records[at]] = nil
	}
	rows, numbers, err := t.wanted(args)
	for i := range rows {
		of := numbers[i]
		stored, err := t.store.record(ctx, t, tenants[of], &rows[i])
		if err != nil {
			return err
		}
		t.replay.looked[t.replay.records[next[of]]] = stored
	}
	return err
}

// wanted reads the rows of wantedAtOnce ids and tenants, each with the number of what it was wanted for.
func (t *tx) wanted(args []driver.Value) (rows []recordRow, numbers []int64, err error) {
	rows, numbers = make([]recordRow, 0, wantedAtOnce), make([]int64, 0, wantedAtOnce)
	values := make([]driver.Value, recordColumnCount+1)
	err = t.rows(findRecords, values, args, func() error {
		number, _ := values[recordColumnCount].(int64)
		rows, numbers = append(rows, recordRowOf(values)), append(numbers, number)
		return nil
	})
	return rows, numbers, err
}
