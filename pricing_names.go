package usage

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// namedModel is where the prices of a model are looked for: all that its name decides.
type namedModel struct {
	provider *providerPrices // nil when the book has no price of it
	model    *modelPrices    // nil when the name is in no list
	// first is where most meters are found: the model, or the closest pattern. It may be nil of a model that only patterns list.
	first *modelPrices
	// id is what patterns are matched with: the name, or the target of an alias.
	id string
	// patterns has all of the provider's that match, the longest prefix first. It may have others too.
	patterns []*modelPrices
	// known says that the names of provider and model are well-formed. It may be false of such ones too.
	known bool
}

// knownNames remembers where names led to, so that a name is searched for once. Only well-formed names of listed models
// and of patterns are: a name that is made up takes no room. None is ever replaced, so whoever reads needs no lock, and
// calls of many models write nothing; a name that finds no room is searched for each time.
type knownNames struct {
	seed  maphash.Seed
	slots [1 << knownBits]atomic.Pointer[knownName]
}

type knownName struct {
	name string
	namedModel
}

const (
	knownBits = 8 // 2 KB in each book
	maxProbes = 4 // slots in which a name may be
)

// named returns where the prices of a provider's model are looked for. Where that is not known it is put into own, so that
// no search makes an allocation.
func (b *PriceBook) named(provider, model string, own *namedModel) *namedModel {
	if b.names != nil {
		first := maphash.String(b.names.seed, model)
		for i := range uint64(maxProbes) {
			slot := &b.names.slots[(first+i)%(1<<knownBits)]
			known := slot.Load()
			if known == nil {
				return b.learn(slot, provider, model, own)
			}
			if known.name == model && known.provider.name == provider {
				return &known.namedModel
			}
		}
	}
	*own = b.search(provider, model)
	return own
}

// learn searches for a name and puts it into a slot that was empty. Where somebody else was faster, the next call does.
func (b *PriceBook) learn(slot *atomic.Pointer[knownName], provider, model string, own *namedModel) *namedModel {
	*own = b.search(provider, model)
	var f faults
	if f.model("Model", model); !own.isListed() || len(f) > 0 {
		return own
	}
	known := &knownName{strings.Clone(model), *own}
	known.id, known.patterns, known.known = strings.Clone(own.id), own.matching(), true
	if known.first == nil {
		known.first = known.patterns[0]
	}
	slot.CompareAndSwap(nil, known)
	return &known.namedModel
}

// search finds a model by its exact id or alias, and else by its id without the date of a snapshot.
func (b *PriceBook) search(provider, model string) namedModel {
	p := b.providers[provider]
	if p == nil {
		return namedModel{id: model}
	}
	found, ok := p.models[model]
	if !ok {
		found = p.models[withoutSnapshot(model)]
	}
	n := namedModel{provider: p, model: found.modelPrices, first: found.modelPrices, id: model, patterns: p.patterns}
	if found.id != "" {
		n.id = found.id
	}
	return n
}

// matching returns the patterns that the id matches.
func (n *namedModel) matching() (patterns []*modelPrices) {
	for _, p := range n.patterns {
		if strings.HasPrefix(n.id, p.prefix()) {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// isListed reports whether the book knows the model: by its id, or by a pattern that does not stand for every model.
func (n *namedModel) isListed() bool { return n.model != nil || n.pattern() != nil }

// pattern returns the closest pattern that does not stand for every model, nil when there is none.
func (n *namedModel) pattern() *modelPrices {
	for _, p := range n.patterns {
		if p.prefix() != "" && strings.HasPrefix(n.id, p.prefix()) {
			return p
		}
	}
	return nil
}

// snapshot is the layout of what withoutSnapshot cuts.
const snapshot = "-2006-01-02"

// withoutSnapshot cuts "-YYYY-MM-DD" from the end of an id.
func withoutSnapshot(id string) string {
	base := len(id) - len(snapshot)
	if base <= 0 {
		return id
	}
	for i, c := range []byte(id[base:]) {
		dash := i == 0 || i == 5 || i == 8
		if dash != (c == '-') || !dash && (c < '0' || c > '9') {
			return id
		}
	}
	return id[:base]
}
