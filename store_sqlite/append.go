package storesqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	return s.change(ctx, "append", now, records, func(t *tx, b *batch) error {
		n, err := t.tenant(ctx, b.tenantID)
		if err != nil {
			return err
		}
		return t.change(ctx, n, b, t.append, judge)
	})
}

// Reprice implements store.Store.
func (s *Store) Reprice(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	return s.change(ctx, "reprice", now, records, func(t *tx, b *batch) error {
		n, err := t.knownTenant(ctx, b.tenantID)
		if err != nil {
			return err
		}
		if n == nil {
			for _, i := range b.indexes {
				b.outcomes[i] = store.Outcome{Record: b.records[i], Err: store.ErrNotFound}
			}
			return nil
		}
		return t.change(ctx, n, b, t.reprice, judge)
	})
}

// batch is what one transaction has for one tenant: the indexes of its records, in the order given, and where their
// outcomes go.
type batch struct {
	tenantID string
	indexes  []int
	records  []*store.Record
	outcomes []store.Outcome
}

// change runs a transaction that takes the records one tenant after the other, in the order of the tenants' ids.
func (s *Store) change(
	ctx context.Context, op string, now time.Time, records []*store.Record, each func(*tx, *batch) error,
) ([]store.Outcome, error) {
	if len(records) == 0 {
		return nil, s.ready(ctx, op)
	}
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(records[a].TenantID, records[b].TenantID) })
	b := &batch{records: records, outcomes: make([]store.Outcome, len(records))}
	err := s.write(ctx, op, now, func(t *tx) error {
		t.replay = replay{records: records, order: order}
		for first, last := 0, 0; first < len(order); first = last {
			b.tenantID = records[order[first]].TenantID
			for last < len(order) && records[order[last]].TenantID == b.tenantID {
				last++
			}
			b.indexes = order[first:last]
			if err := each(t, b); err != nil {
				return err
			}
		}
		if t.lastRecord == 0 {
			return nil
		}
		return t.file(ctx, t.lastRecord)
	})
	if err != nil {
		return nil, err
	}
	return b.outcomes, nil
}

// change takes the records of one tenant, writes the totals they changed and has the tenant judged.
func (t *tx) change(
	ctx context.Context, n *tenant, b *batch,
	one func(context.Context, *tenant, *store.Record) (store.Outcome, error), judge store.Judge,
) (err error) {
	changed, last := t.changed[:0], 0
	for _, i := range b.indexes {
		outcome := &b.outcomes[i]
		if *outcome, err = one(ctx, n, b.records[i]); err != nil {
			return err
		}
		t.replay.next()
		if outcome.Err == nil && !outcome.Duplicate {
			changed, last = append(changed, outcome.Record), i
		}
	}
	t.changed = changed
	if len(changed) == 0 {
		return nil
	}
	if err := t.writeTotals(ctx, n); err != nil {
		return err
	}
	b.outcomes[last].Alerts, err = t.judge(ctx, n, changed, judge)
	return err
}

// append adds one record. The error is for the whole transaction, the outcome's for the record.
func (t *tx) append(ctx context.Context, n *tenant, r *store.Record) (store.Outcome, error) {
	if r.At.Before(n.row.Horizon) {
		err := &store.PrunedError{TenantID: r.TenantID, ID: r.ID, At: r.At, Horizon: n.row.Horizon}
		return store.Outcome{Record: r, Err: err}, nil
	}
	if r.HoldID != "" || t.store.replaying || len(t.replay.looked) > 0 {
		// What becomes of a hold stands in the row, so it is asked first; but a record that is there changes nothing.
		if outcome, found, err := t.before(ctx, n, r); found || err != nil {
			return outcome, err
		}
	}
	if r.HoldID != "" {
		if err := t.settlement(ctx, n, r); err != nil {
			return refuse(r, err)
		}
	}
	model, err := t.modelNumber(ctx, modelName{r.Provider, r.Model})
	if err != nil {
		return store.Outcome{}, err
	}
	inserted, err := t.insertRecord(ctx, n, model, r)
	if err != nil {
		return store.Outcome{}, err
	}
	if !inserted {
		outcome, _, err := t.existing(ctx, n, r)
		return outcome, err
	}
	if err := t.count(ctx, n, model, r, (*store.Total).Add); err != nil {
		if err := t.deleteRecord(ctx, n, r.ID); err != nil {
			return store.Outcome{}, err
		}
		return refuse(r, err)
	}
	if err := t.settle(ctx, n, r); err != nil {
		return store.Outcome{}, err
	}
	return store.Outcome{Record: r}, nil
}

// refuse puts what concerns one record into its outcome, and hands back what concerns the transaction.
func refuse(r *store.Record, err error) (store.Outcome, error) {
	var hold *store.HoldError
	if errors.As(err, &hold) || errors.Is(err, store.ErrOverflow) {
		r.Settlement, r.Overage = "", 0 // nothing has become of the hold
		return store.Outcome{Record: r, Err: err}, nil
	}
	return store.Outcome{}, err
}

const insertRecordSQL = `
INSERT INTO usage_records (
	tenant, id, at, recorded_at, at_given, model, lines, cost, unpriced, prices, conditions,
	endpoint, status, latency, error, user, ip, tags, hold, settlement, overage)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING`

// Most records have a price, no hold and none of the texts that need not be there. What they lack is in the statement: to
// bind a value costs a twentieth of the whole insert.
const insertPlainSQL = `
INSERT INTO usage_records (
	tenant, id, at, recorded_at, at_given, model, lines, cost, prices, conditions, endpoint, status, latency, overage)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
ON CONFLICT DO NOTHING`

// isPlain reports whether insertPlainSQL has all of a record.
func isPlain(r *store.Record) bool {
	return r.Unpriced == "" && r.Error == "" && r.User == "" && r.IP == "" && len(r.Tags) == 0 && r.HoldID == "" &&
		r.Settlement == "" && r.Overage == 0
}

// insertRecord reports false when the tenant has a record of that id.
func (t *tx) insertRecord(ctx context.Context, n *tenant, model int64, r *store.Record) (bool, error) {
	lines, err := t.packLines(ctx, r.Lines)
	if err != nil {
		return false, err
	}
	var numbers [3]int64
	for i, text := range [...]string{r.PriceVersion, r.Conditions, r.Endpoint} {
		if numbers[i], err = t.textNumber(ctx, text); err != nil {
			return false, err
		}
	}
	var result driver.Result
	if isPlain(r) {
		result, err = t.exec(insertPlain, n.number, r.ID, r.At.UnixMicro(), r.RecordedAt.UnixMicro(), r.AtGiven, model,
			lines, int64(r.Cost), numbers[0], numbers[1], numbers[2], int64(r.Status), r.Latency.Microseconds())
	} else {
		result, err = t.exec(insertRecord, n.number, r.ID, r.At.UnixMicro(), r.RecordedAt.UnixMicro(), r.AtGiven, model,
			lines, costColumn(r), text(r.Unpriced), numbers[0], numbers[1], numbers[2], int64(r.Status), r.Latency.Microseconds(),
			text(r.Error), text(r.User), text(r.IP), text(packTags(r.Tags)), text(r.HoldID), text(string(r.Settlement)),
			int64(r.Overage))
	}
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	if rows == 0 || err != nil {
		return false, err
	}
	t.lastRecord, err = result.LastInsertId()
	return err == nil, err
}

// costColumn is NULL for a record without a price, which costs something and not nothing.
func costColumn(r *store.Record) any {
	if r.Unpriced != "" {
		return nil
	}
	return int64(r.Cost)
}

// text is NULL for a text that is not there.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func packTags(tags map[string]string) string {
	if len(tags) == 0 {
		return ""
	}
	packed, err := json.Marshal(tags)
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	return string(packed)
}

func (t *tx) packLines(ctx context.Context, lines []store.Line) ([]byte, error) {
	packed := t.packed[:0]
	for i := range lines {
		meter, err := t.textNumber(ctx, string(lines[i].Meter))
		if err != nil {
			return nil, err
		}
		rate, err := t.rateNumber(ctx, lines[i].Rate)
		if err != nil {
			return nil, err
		}
		packed = pack.AppendLine(packed, pack.Line{
			Meter: meter, Quantity: lines[i].Quantity, Rate: rate, Cost: int64(lines[i].Cost), Unbilled: lines[i].Unbilled,
		})
	}
	t.packed = packed
	return packed, nil
}

const deleteRecordSQL = `
DELETE FROM usage_records
WHERE id = ?
  AND tenant = ?`

func (t *tx) deleteRecord(ctx context.Context, n *tenant, id string) error {
	_, err := t.ExecContext(ctx, deleteRecordSQL, id, n.number)
	return err
}

const updateRecordPrice = `
UPDATE usage_records
SET lines = ?,
    cost = ?,
    unpriced = NULL,
    prices = ?,
    overage = ?
WHERE id = ?
  AND tenant = ?`

// reprice gives one record its price, unless it has one.
func (t *tx) reprice(ctx context.Context, n *tenant, r *store.Record) (store.Outcome, error) {
	stored, err := t.findRecord(ctx, n, r.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Outcome{Record: r, Err: store.ErrNotFound}, nil
	}
	if err != nil {
		return store.Outcome{}, err
	}
	if stored.Unpriced == "" {
		return store.Outcome{Record: stored, Duplicate: true}, nil
	}
	stored.Lines, stored.Cost, stored.Unpriced, stored.PriceVersion = r.Lines, r.Cost, "", r.PriceVersion
	if stored.Settlement == store.Settled {
		hold, err := t.getHold(ctx, n, stored.HoldID)
		if err != nil {
			return store.Outcome{}, err
		}
		stored.Overage = hold.overage(stored.Cost)
	}
	model, err := t.modelNumber(ctx, modelName{stored.Provider, stored.Model})
	if err != nil {
		return store.Outcome{}, err
	}
	if err := t.count(ctx, n, model, stored, (*store.Total).Price); err != nil {
		return refuse(r, err)
	}
	lines, err := t.packLines(ctx, stored.Lines)
	if err != nil {
		return store.Outcome{}, err
	}
	version, err := t.textNumber(ctx, stored.PriceVersion)
	if err != nil {
		return store.Outcome{}, err
	}
	_, err = t.ExecContext(ctx, updateRecordPrice, lines, int64(stored.Cost), version, int64(stored.Overage), stored.ID, n.number)
	return store.Outcome{Record: stored}, err
}
