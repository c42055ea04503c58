package usage

import (
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acf68eca/usage/store"
)

// standings remember where tenants stand, for CheckQuota. Only tenants that were asked about are remembered.
//
// What this process writes is seen where it is decided: inside the store's transaction, with the tenant's standing as it
// will be (witness). It is published when it is committed. Transactions on one tenant come one after the other, so the
// numbers that they are given inside order them, in whatever order their callers come back. A standing that was read is
// published only if no write was meanwhile.
type standings struct {
	maxAge time.Duration
	// writes numbers what was decided or forgotten.
	writes atomic.Uint64
	seed   maphash.Seed
	// Whoever asks reads a bucket without a lock; a bucket that changes is replaced.
	buckets [buckets]atomic.Pointer[[]*memory]
	adding  sync.Mutex
}

// A tenant takes up some hundred bytes, and a hundred more for each limit.
const (
	buckets   = 4096
	maxBucket = 5
)

// memory is what is remembered of one tenant.
type memory struct {
	tenantID string
	current  atomic.Pointer[stand] // nil when that is not known
	reading  chan struct{}         // held by who reads it from the store

	mu   sync.Mutex
	last uint64 // the number of the last write that was published, or for which it was forgotten
}

func (s *standings) bucket(tenantID string) *atomic.Pointer[[]*memory] {
	return &s.buckets[maphash.String(s.seed, tenantID)%buckets]
}

// find returns nil when nothing is remembered of a tenant.
func (s *standings) find(tenantID string) *memory {
	bucket := s.bucket(tenantID).Load()
	if bucket == nil {
		return nil
	}
	for _, m := range *bucket {
		if m.tenantID == tenantID {
			return m
		}
	}
	return nil
}

// of returns the memory of a tenant, a new one when there is none. Of too many in a bucket, the oldest is forgotten.
func (s *standings) of(tenantID string) *memory {
	s.adding.Lock()
	defer s.adding.Unlock()
	if m := s.find(tenantID); m != nil {
		return m
	}
	m := &memory{tenantID: strings.Clone(tenantID), reading: make(chan struct{}, 1)}
	next := []*memory{m}
	if old := s.bucket(tenantID).Load(); old != nil {
		next = append(next, (*old)[:min(len(*old), maxBucket-1)]...)
	}
	s.bucket(tenantID).Store(&next)
	return m
}

// fresh returns where a tenant stands at an instant, nil when that is not known.
func (m *memory) fresh(now time.Time) *stand {
	if m == nil {
		return nil
	}
	if stand := m.current.Load(); stand.isFresh(now) {
		return stand
	}
	return nil
}

// forget makes the next who asks read the tenant's standing. It is called after a write.
func (s *standings) forget(tenantID string) { s.publish(tenantID, s.writes.Add(1), nil) }

func (s *standings) publish(tenantID string, number uint64, stand *stand) {
	m := s.find(tenantID)
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if number > m.last {
		m.last = number
		m.current.Store(stand)
	}
}

func (m *memory) version() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// offer publishes a standing that was read since the memory had a version, unless a write has come between.
func (m *memory) offer(version uint64, s *stand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == version {
		m.current.Store(s)
	}
}

// witness sees the standings of one commit. It is not safe for concurrent use.
type witness struct {
	*standings
	seen []sighting
}

// sighting is where a tenant stands when the commit has come about. It is nil of a tenant that nobody had asked about;
// who does so while the commit is under way may read what was before it, and has to read again.
type sighting struct {
	tenantID string
	number   uint64
	stand    *stand
}

func (s *standings) witness() *witness { return &witness{standings: s} }

func (w *witness) saw(tenantID string, s *stand) {
	if s != nil {
		s.freshUntil(w.maxAge)
	}
	w.seen = append(w.seen, sighting{tenantID, w.writes.Add(1), s})
}

// forget makes the commit one after which the tenant's standing has to be read.
func (w *witness) forget(tenantID string) { w.saw(tenantID, nil) }

// cameAbout is told what became of the items that were committed. A store that has to try again shows standings that do not
// come about: a tenant of which nothing did in the end has to be read.
func (w *witness) cameAbout(items int, of func(i int) (tenantID string, did bool)) {
	all := true
	for i := 0; i < items && all; i++ {
		_, all = of(i)
	}
	if all {
		return
	}
	changed := make(map[string]bool)
	for i := range items {
		if tenantID, did := of(i); did {
			changed[tenantID] = true
		}
	}
	for i := range w.seen {
		if !changed[w.seen[i].tenantID] {
			w.seen[i].stand = nil
		}
	}
}

// recordsCameAbout is cameAbout of records that were appended or got their price.
func (w *witness) recordsCameAbout(outcomes []store.Outcome) {
	w.cameAbout(len(outcomes), func(i int) (string, bool) {
		o := &outcomes[i]
		return o.Record.TenantID, o.Err == nil && !o.Duplicate
	})
}

// done publishes what was seen last of each tenant, or forgets the tenants when the commit failed or may have.
func (w *witness) done(err error) {
	for i := range slices.Backward(w.seen) {
		saw := &w.seen[i]
		if err != nil {
			saw.stand = nil
		}
		w.publish(saw.tenantID, saw.number, saw.stand)
	}
}

// judge is the store.Judge of calls that were logged.
func (w *witness) judge(s *store.Standing, added []*store.Record) store.Judgement {
	judgement := store.Judgement{Alerts: append(reached(s, false), unpricedAlerts(s, added)...)}
	asked, rates := w.find(s.Tenant.ID) != nil, s.Quota.HasRates()
	if !asked && !rates {
		w.saw(s.Tenant.ID, nil)
		return judgement
	}
	stand := standOf(s)
	if rates {
		arrivals, alerts := stand.count(s.At, added)
		judgement.Arrivals, judgement.Alerts = arrivals, append(judgement.Alerts, fresh(s, alerts)...)
	}
	w.saw(s.Tenant.ID, stand)
	return judgement
}

// judgeRepriced is the store.Judge of calls that got their price, which have been counted before.
func (w *witness) judgeRepriced(s *store.Standing, added []*store.Record) store.Judgement {
	w.saw(s.Tenant.ID, standOf(s))
	return store.Judgement{Alerts: append(reached(s, false), unpricedAlerts(s, added)...)}
}

// judgeQuota is the store.Judge of a quota that was just set.
func (w *witness) judgeQuota(s *store.Standing, _ []*store.Record) store.Judgement {
	w.saw(s.Tenant.ID, standOf(s))
	return store.Judgement{Alerts: reached(s, true)}
}

// decide is the store.Decide of a hold; unpriced is why a limit on cost refuses it, nil if none does.
func (w *witness) decide(s *store.Standing, h *store.Hold, unpriced error) store.Verdict {
	stand := standOf(s)
	asked := demandOf(h)
	verdict := store.Verdict{Refusal: stand.refusal(s.At, asked, unpriced)}
	var quota *QuotaError
	if verdict.Refusal == nil || errors.As(verdict.Refusal, &quota) && quota.Limit.Per.IsRate() {
		verdict.Alerts = fresh(s, stand.passed(s.At, asked))
	}
	if verdict.Refusal == nil {
		verdict.Arrivals = stand.take(s.At, h)
		w.saw(s.Tenant.ID, stand)
	}
	return verdict
}

// fresh returns the alerts that were not raised before.
func fresh(s *store.Standing, alerts []store.Alert) []store.Alert {
	return slices.DeleteFunc(alerts, func(a store.Alert) bool { return raised(s, a.AlertKey) })
}
