package storepostgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// Append implements store.Store. A batch is few round trips, however many records and tenants it has: lock the tenants,
// write everything in one statement, commit; what the process does not remember of the tenants is read in between.
func (s *Store) Append(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	if len(records) == 0 {
		return nil, s.ready(ctx, "append")
	}
	b := &batch{records: records, order: byTenant(records), instants: make(map[string][]time.Time)}
	tenants := make([]string, len(records))
	for i := range records {
		tenants[i] = records[i].TenantID
		b.instant(records[i].TenantID, records[i].At)
	}
	prepare := func() error {
		words := s.newWords()
		for i := range records {
			words.model(records[i].Provider, records[i].Model)
			words.text(records[i].PriceVersion)
			words.text(records[i].Conditions)
			words.lines(records[i].Lines)
		}
		if err := s.number(ctx, words); err != nil {
			return err
		}
		return s.makePartitions(ctx, now, records)
	}
	b.looking = s.replaying.Load()
	write := func() error {
		return s.write(ctx, "append", now, func(t *tx) error {
			if err := t.lock(ctx, tenants, true); err != nil {
				return err
			}
			return t.append(ctx, b, judge)
		}, prepare)
	}
	err := write()
	if lacksPartition(err) { // somebody took it away
		s.partitions.forget()
		err = write()
	}
	if err != nil {
		return nil, err
	}
	return b.outcomes, nil
}

// batch is what one transaction adds or changes.
type batch struct {
	records []*store.Record
	// order are the indexes of the records by tenant, and as given within one.
	order []int
	// instants are when each tenant's records happened, one for each period or more.
	instants map[string][]time.Time
	outcomes []store.Outcome
	// looking says that the ledger is to be asked first which of the records it has. Mostly it has none, so that is found
	// out by inserting them, and the transaction is begun anew if it has some.
	looking bool
}

func byTenant(records []*store.Record) []int {
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(records[a].TenantID, records[b].TenantID) })
	return order
}

// instant notes when a record happened. Records of one tenant mostly happened within the same hour.
func (b *batch) instant(tenantID string, at time.Time) {
	known := b.instants[tenantID]
	if n := len(known); n > 0 && known[n-1].Truncate(time.Minute).Equal(at.Truncate(time.Minute)) {
		return
	}
	b.instants[tenantID] = append(known, at)
}

// append adds the records of a batch.
func (t *tx) append(ctx context.Context, b *batch, judge store.Judge) error {
	if err := t.load(ctx, b.instants); err != nil {
		return err
	}
	a, err := t.newAdder(ctx, b)
	if err != nil {
		return err
	}
	for _, i := range b.order {
		outcome, err := a.add(b.records[i])
		if err != nil {
			return err
		}
		b.outcomes[i] = outcome
	}
	changed, last := t.changed(b)
	t.store.replaying.Store(a.duplicates)
	if len(changed) == 0 {
		return nil
	}
	inserted, err := t.insertRecords(ctx, changed)
	if err != nil {
		return err
	}
	if inserted < len(changed) {
		if b.looking {
			return errDetached
		}
		b.looking = true
		return errAgain
	}
	if err := t.settle(ctx, changed); err != nil {
		return err
	}
	return t.judgeBatch(ctx, b, changed, last, judge)
}

// errDetached: an id is taken by a call whose record is in a partition that is not attached any more.
var errDetached = fmt.Errorf("a call's id is taken by one whose record is not there any more: %w", store.ErrInvalid)

// changed returns the records that were added or changed, by tenant, and the index of each tenant's last one.
func (t *tx) changed(b *batch) (changed []*store.Record, last map[string]int) {
	last = make(map[string]int, len(t.tenants))
	for _, i := range b.order {
		if o := &b.outcomes[i]; o.Err == nil && !o.Duplicate {
			changed = append(changed, o.Record)
			last[o.Record.TenantID] = i
		}
	}
	return changed, last
}

// judgeBatch has each tenant judged that got a record, and gives the alerts to its last one.
func (t *tx) judgeBatch(ctx context.Context, b *batch, changed []*store.Record, last map[string]int, judge store.Judge) error {
	var tenants []judged
	for i, r := range changed {
		if i == 0 || r.TenantID != changed[i-1].TenantID {
			tenants = append(tenants, judged{tenant: t.tenants[r.TenantID]})
		}
		j := &tenants[len(tenants)-1]
		j.added = append(j.added, r)
	}
	raised, err := t.judge(ctx, tenants, judge)
	for i, j := range tenants {
		b.outcomes[last[j.tenant.row.ID]].Alerts = raised[i]
	}
	return err
}

// adder takes the records of a batch in order.
type adder struct {
	*tx
	batch *batch
	// known are the records that the ledger is known to have, those added before in this batch among them.
	known map[recordKey]*store.Record
	holds map[holdKey]*holdRow
	// duplicates says that there was one.
	duplicates bool
}

func (t *tx) newAdder(ctx context.Context, b *batch) (a *adder, err error) {
	b.outcomes = make([]store.Outcome, len(b.records))
	a = &adder{tx: t, batch: b, known: make(map[recordKey]*store.Record, len(b.records))}
	if b.looking {
		if a.known, err = t.existing(ctx, b.records); err != nil {
			return nil, err
		}
	}
	a.holds, err = t.namedHolds(ctx, b.records)
	return a, err
}

// namedHolds returns the holds that records name: those that are live are remembered, and the others are asked for.
func (t *tx) namedHolds(ctx context.Context, records []*store.Record) (map[holdKey]*holdRow, error) {
	named := make(map[holdKey]bool)
	for i := range records {
		if records[i].HoldID != "" {
			named[holdKey{records[i].TenantID, records[i].HoldID}] = true
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	live := make(map[holdKey]*holdRow, len(named))
	var others []holdKey
	for key := range named {
		if n := t.tenants[key.tenantID]; n != nil && n.holds.byID[key.id] != nil {
			h := n.holds.byID[key.id]
			live[key] = &holdRow{Picods: int64(h.Cost), ExpiresAt: h.ExpiresAt}
		} else {
			others = append(others, key)
		}
	}
	rows, err := t.getHolds(ctx, others)
	for key, row := range rows {
		live[key] = row
	}
	return live, err
}

// add takes one record. The error is for the whole transaction, the outcome's for the record.
func (a *adder) add(r *store.Record) (store.Outcome, error) {
	if horizon := a.tenants[r.TenantID].row.Horizon; r.At.Before(horizon) {
		return refuse(r, &store.PrunedError{TenantID: r.TenantID, ID: r.ID, At: r.At, Horizon: horizon})
	}
	key := recordKey{r.TenantID, r.ID}
	if stored := a.known[key]; stored != nil {
		a.duplicates = true
		return compare(stored, r), nil
	}
	if r.HoldID != "" {
		r.Settlement, r.Overage = "", 0 // of the last try
		if err := a.settlement(a.holds[holdKey{r.TenantID, r.HoldID}], r); err != nil {
			return a.refuse(r, err)
		}
	}
	model, ok := a.store.dictionary.modelNumber(modelName{r.Provider, r.Model})
	if !ok {
		return store.Outcome{}, unnumbered(r.Model)
	}
	if err := a.tenants[r.TenantID].count(model, r, (*store.Total).Add); err != nil {
		return a.refuse(r, err)
	}
	if r.Settlement == store.Settled {
		a.holds[holdKey{r.TenantID, r.HoldID}].Record = r.ID
	}
	a.known[key] = r
	return store.Outcome{Record: r}, nil
}

// compare is the outcome of a record whose id is taken.
func compare(stored, r *store.Record) store.Outcome {
	if field := stored.Differs(r); field != "" {
		return store.Outcome{Record: stored, Err: &store.ConflictError{TenantID: r.TenantID, ID: r.ID, Field: field}}
	}
	return store.Outcome{Record: stored, Duplicate: true}
}

// refuse refuses a record, unless it may be in the ledger already, where nothing of this would matter.
func (a *adder) refuse(r *store.Record, err error) (store.Outcome, error) {
	if !a.batch.looking {
		a.batch.looking = true
		return store.Outcome{}, errAgain
	}
	return refuse(r, err)
}

// refuse puts what concerns one record into its outcome, and hands back what concerns the transaction.
func refuse(r *store.Record, err error) (store.Outcome, error) {
	var hold *store.HoldError
	if errors.As(err, &hold) || errors.Is(err, store.ErrOverflow) || errors.Is(err, store.ErrPruned) {
		r.Settlement, r.Overage = "", 0 // nothing has become of the hold
		return store.Outcome{Record: r, Err: err}, nil
	}
	return store.Outcome{}, err
}
