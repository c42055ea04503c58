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
	return s.change(ctx, "append", now, records, judge, (*tx).tenant, (*tx).append)
}

// Reprice implements store.Store.
func (s *Store) Reprice(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	return s.change(ctx, "reprice", now, records, judge, (*tx).knownTenant, (*tx).reprice)
}

// change runs a transaction that takes the records one after the other, in the order given and not by tenant: callers come
// to a batch in about the order in which their ids were made, and what is added in the order of an index goes to its end,
// where it splits no page. The function for one record gets no tenant when find knows none.
func (s *Store) change(
	ctx context.Context, op string, now time.Time, records []*store.Record, judge store.Judge,
	find func(*tx, context.Context, string) (*tenant, error),
	one func(*tx, context.Context, *tenant, *store.Record) (store.Outcome, error),
) (outcomes []store.Outcome, err error) {
	if len(records) == 0 {
		return nil, s.ready(ctx, op)
	}
	err = s.write(ctx, op, now, func(t *tx) error {
		outcomes = make([]store.Outcome, len(records))
		var changed []*tenant
		t.replay.records = records
		for i, r := range records {
			n, err := find(t, ctx, r.TenantID)
			if err != nil {
				return err
			}
			if outcomes[i], err = one(t, ctx, n, r); err != nil {
				return err
			}
			t.replay.next()
			if outcomes[i].Err != nil || outcomes[i].Duplicate {
				continue
			}
			if len(n.counted) == 0 {
				changed = append(changed, n)
			}
			n.counted = append(n.counted, i)
		}
		if err := t.conclude(ctx, changed, outcomes, judge); err != nil {
			return err
		}
		return t.file(ctx)
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// conclude writes the totals of tenants that have changed, in about the order of their rows, and has the tenants judged.
func (t *tx) conclude(ctx context.Context, changed []*tenant, outcomes []store.Outcome, judge store.Judge) (err error) {
	slices.SortFunc(changed, func(a, b *tenant) int { return cmp.Compare(a.number, b.number) })
	var records []*store.Record
	for _, n := range changed {
		if err := t.writeTotals(ctx, n); err != nil {
			return err
		}
		records = records[:0]
		for _, i := range n.counted {
			records = append(records, outcomes[i].Record)
		}
		last := n.counted[len(n.counted)-1]
		n.counted = n.counted[:0]
		if outcomes[last].Alerts, err = t.judge(ctx, n, records, judge); err != nil {
			return err
		}
	}
	return nil
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
		if err := t.settlement(n, r); err != nil {
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
	if err := t.settle(n, r); err != nil {
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
	if n == nil {
		return store.Outcome{Record: r, Err: store.ErrNotFound}, nil
	}
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
		hold, err := t.getHold(n, stored.HoldID)
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
