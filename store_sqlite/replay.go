package storesqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/acf68eca/usage/store"
)

// replay is what a transaction knows of records that are in the ledger already. Who sends one call again mostly sends
// many: after a duplicate (Store.replaying) the next records are looked up before they are inserted, several in one query.
type replay struct {
	// records are those of the batch from the one at hand on.
	records []*store.Record
	// looked are what is stored under the ids of the first of them, nil where there was nothing when they were looked up.
	looked []*store.Record
}

// next is called after each record.
func (r *replay) next() {
	r.records = r.records[1:]
	if len(r.looked) > 0 {
		r.looked = r.looked[1:]
	}
}

const wantedAtOnce = 64

const withWanted = `
WITH wanted (number, id, tenant) AS (
	VALUES (0, ?, ?), (1, ?, ?), (2, ?, ?), (3, ?, ?), (4, ?, ?), (5, ?, ?), (6, ?, ?), (7, ?, ?),
	       (8, ?, ?), (9, ?, ?), (10, ?, ?), (11, ?, ?), (12, ?, ?), (13, ?, ?), (14, ?, ?), (15, ?, ?),
	       (16, ?, ?), (17, ?, ?), (18, ?, ?), (19, ?, ?), (20, ?, ?), (21, ?, ?), (22, ?, ?), (23, ?, ?),
	       (24, ?, ?), (25, ?, ?), (26, ?, ?), (27, ?, ?), (28, ?, ?), (29, ?, ?), (30, ?, ?), (31, ?, ?),
	       (32, ?, ?), (33, ?, ?), (34, ?, ?), (35, ?, ?), (36, ?, ?), (37, ?, ?), (38, ?, ?), (39, ?, ?),
	       (40, ?, ?), (41, ?, ?), (42, ?, ?), (43, ?, ?), (44, ?, ?), (45, ?, ?), (46, ?, ?), (47, ?, ?),
	       (48, ?, ?), (49, ?, ?), (50, ?, ?), (51, ?, ?), (52, ?, ?), (53, ?, ?), (54, ?, ?), (55, ?, ?),
	       (56, ?, ?), (57, ?, ?), (58, ?, ?), (59, ?, ?), (60, ?, ?), (61, ?, ?), (62, ?, ?), (63, ?, ?)
)`

const ofWanted = `
FROM wanted
CROSS JOIN usage_records AS r
WHERE r.id = wanted.id
  AND r.tenant = wanted.tenant`

const selectWanted = withWanted + `
SELECT wanted.number,` + plainColumns + `,` + rarerColumns + ofWanted

// Plain calls that are sent again are mostly found with a plain record, and each column costs something to read, be it NULL or
// not: here only those that plain records have. A record that is not plain is found when its call is inserted.
const selectPlainWanted = withWanted + `
SELECT wanted.number,` + plainColumns + ofWanted + `
  AND r.unpriced IS NULL
  AND r.error IS NULL
  AND r.user IS NULL
  AND r.ip IS NULL
  AND r.tags IS NULL
  AND r.hold IS NULL
  AND r.settlement IS NULL
  AND r.overage = 0`

// before compares a record with the one that has its id, before it is inserted. It may fail to find one that came with an
// earlier record of the batch, unless a hold depends on it: inserting will find it.
func (t *tx) before(ctx context.Context, n *tenant, r *store.Record) (outcome store.Outcome, found bool, err error) {
	if t.store.replaying && len(t.replay.looked) == 0 && len(t.replay.records) > 1 {
		if err := t.lookAhead(ctx); err != nil {
			return outcome, false, err
		}
	}
	looked := t.replay.looked
	switch {
	case len(looked) > 0 && looked[0] != nil:
		t.store.replaying = true
		return compare(looked[0], r), true, nil
	case len(looked) == 0, r.HoldID != "":
		return t.existing(ctx, n, r)
	}
	t.store.replaying = false
	return outcome, false, nil
}

// existing compares a record with the one that has its id.
func (t *tx) existing(ctx context.Context, n *tenant, r *store.Record) (outcome store.Outcome, found bool, err error) {
	stored, err := t.findRecord(ctx, n, r.ID)
	t.store.replaying = err == nil
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

// lookAhead looks up the record at hand and those after it. What is left of the list of what is wanted is NULL, which finds
// nothing.
func (t *tx) lookAhead(ctx context.Context) error {
	next := t.replay.records[:min(len(t.replay.records), wantedAtOnce)]
	tenants, args := make([]*tenant, len(next)), make([]driver.Value, 2*wantedAtOnce)
	statement, values := findPlain, make([]driver.Value, 1+plainColumnCount)
	for i, record := range next {
		n, err := t.knownTenant(ctx, record.TenantID)
		if err != nil {
			return err
		}
		if n != nil {
			tenants[i], args[2*i], args[2*i+1] = n, record.ID, n.number
		}
		if !isPlain(record) {
			statement, values = findRecords, make([]driver.Value, 1+plainColumnCount+rarerColumnCount)
		}
	}
	t.replay.looked = make([]*store.Record, len(next))
	stored := make([]store.Record, len(next))
	return t.rows(statement, values, args, func() (err error) {
		i, _ := values[0].(int64)
		row := recordRowOf(next[i].ID, values[1:])
		row.given = next[i].Lines
		stored[i], err = t.store.record(ctx, t, tenants[i], &row)
		t.replay.looked[i] = &stored[i]
		return err
	})
}
