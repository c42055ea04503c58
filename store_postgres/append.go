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

// Writers implements store.Writers: while the server writes one batch and syncs it, another can be prepared and sent. Where
// other processes write for the same tenants, batches wait for their locks anyway, and a large one costs less than two.
func (s *Store) Writers() int {
	if s.alone.Load() {
		return 2
	}
	return 1
}

// Append implements store.Store. A batch is one round trip, or a few, however many records and tenants it has: see tx.
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
	write := func() error {
		return s.write(ctx, change{
			op: "append", now: now, tenants: tenants, create: true, quick: !s.replaying.Load(), prepare: prepare,
			ask: b.ask, instants: b.instants,
			apply: func(t *tx) error { return t.append(ctx, b, judge) },
		})
	}
	err := write()
	for tries := 0; tries < 3 && lacksPartition(err); tries++ { // somebody took it away, or a session has not noticed it
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
	// What a full transaction has read: those of the records that are there, and the holds that they name.
	stored []recordRow
	held   []holdRow
}

func (b *batch) ask(t *tx) {
	b.stored, b.held = nil, nil
	t.queueExisting(&b.stored, b.records)
	t.queueHolds(&b.held, namedHolds(b.records))
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
	t.writes.records = changed
	t.settle(changed)
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
	// known are the records that the ledger is known to have, those added before in this batch among them.
	known map[recordKey]*store.Record
	holds map[holdKey]*holdRow
	// duplicates says that there was one.
	duplicates bool
}

// newAdder reads what has to be known of the batch.
func (t *tx) newAdder(ctx context.Context, b *batch) (*adder, error) {
	b.outcomes = make([]store.Outcome, len(b.records))
	a := &adder{tx: t, known: make(map[recordKey]*store.Record, len(b.records))}
	if err := t.load(ctx, b.instants); err != nil {
		return nil, err
	}
	if t.quick {
		return a, a.nameLiveHolds(b.records)
	}
	records, err := t.store.records(ctx, t, b.stored)
	for i := range records {
		a.known[recordKey{records[i].TenantID, records[i].ID}] = &records[i]
	}
	a.holds = holdsByKey(b.held)
	return a, err
}

// namedHolds are the identities of the holds that records name.
func namedHolds(records []*store.Record) (keys []holdKey) {
	for _, r := range records {
		if r.HoldID != "" {
			keys = append(keys, holdKey{r.TenantID, r.HoldID})
		}
	}
	return keys
}

// nameLiveHolds finds the holds that records name among those that are live, and asks for no others.
func (a *adder) nameLiveHolds(records []*store.Record) error {
	named := namedHolds(records)
	a.holds = make(map[holdKey]*holdRow, len(named))
	for _, key := range named {
		h := a.tenants[key.tenantID].holds.Get(key.id)
		if h == nil {
			return errAsk
		}
		a.holds[key] = &holdRow{Picods: int64(h.Cost), ExpiresAt: h.ExpiresAt}
	}
	return nil
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
	if a.quick {
		return store.Outcome{}, errAsk
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
