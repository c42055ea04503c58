package usage

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acf68eca/usage/prices"
	"github.com/acf68eca/usage/store"
)

// PriceBook is what the host's providers charge, over time. It never changes: With and its like return a book of their
// own, which shares what stayed the same, so that a book per tenant is cheap. It is safe for concurrent use.
//
// A call's model is found by, in this order: its exact id; an alias; the id without the "-YYYY-MM-DD" of a snapshot, if
// that is an id or alias; the pattern with the longest prefix. What is not found is unpriced. A meter that the found
// model does not list at all is looked up in the patterns that match, so that a price of every model ("*"), such as a
// web search, applies beside the model's own.
type PriceBook struct {
	date    string // of the embedded table, empty for a book of the host's own
	version string
	models  map[modelKey]*modelPrices
	aliases map[modelKey]string
	rates   map[string][]ExchangeRate // by currency, in order of From

	providers map[string]*providerPrices
	names     *knownNames // nil in the zero book
}

type modelKey struct{ provider, model string }

func (k modelKey) compare(other modelKey) int {
	return cmp.Or(strings.Compare(k.provider, other.provider), strings.Compare(k.model, other.model))
}

// modelPrices are the prices of one model or pattern. Books share them.
type modelPrices struct {
	model  string
	prices []Price // canonical, sorted by key and then From, disjoint in each key
	digest priceDigest
	meters []meterPrices
}

// prefix is what an id starts with to match a pattern.
func (m *modelPrices) prefix() string { return strings.TrimSuffix(m.model, "*") }

func (m *modelPrices) isPattern() bool { return strings.HasSuffix(m.model, "*") }

// DefaultPrices returns the embedded prices of OpenAI and ElevenLabs, retired models and past prices included. They are
// a snapshot of what was published up to the date that its version starts with; Price.Source says where each was read.
// Smartflo publishes no price: add the contract's with With.
//
// The book is loaded once. It panics if the embedded table is broken, which a test of this package rules out.
func DefaultPrices() *PriceBook { return defaultPrices() }

var defaultPrices = sync.OnceValue(func() *PriceBook {
	rows, err := prices.Default()
	if err != nil {
		panic(err)
	}
	table, err := pricesOf(rows)
	if err != nil {
		panic(err)
	}
	book, err := (&PriceBook{date: prices.Date}).With(table...)
	if err != nil {
		panic(err)
	}
	return book
})

// NewPriceBook returns a book of only these prices. See With for what is refused.
func NewPriceBook(prices ...Price) (*PriceBook, error) { return new(PriceBook).With(prices...) }

// With returns a book in which the given prices replace what b says for the same provider, model, meter, conditions
// and threshold within their own [From, Until); before and after, the old price stays. Prices of other conditions stay
// too: a call in another service tier, with a plan or with regional processing is charged the price of that condition,
// also where the plain price was replaced.
//
// The error is a *InvalidError that names all faults of all prices: a missing or malformed field, a negative amount or
// one with more than 12 fraction digits, a unit that the meter is not counted in, an amount that is absurd for its unit
// (over 1 USD for one token, character or credit, 1,000 USD a minute, 10,000 USD for one of anything else), an empty
// interval, two given prices that overlap, a meter that is billed as itself in the end.
func (b *PriceBook) With(prices ...Price) (*PriceBook, error) {
	added, f := canonicalPrices(prices)
	if err := f.err(); err != nil {
		return nil, err
	}
	next := b.clone()
	groups := byModel(added)
	for _, key := range slices.SortedFunc(maps.Keys(groups), modelKey.compare) {
		old := next.models[key]
		if old == nil {
			old = &modelPrices{model: key.model}
		}
		merged := overlay(old.prices, groups[key])
		next.models[key] = &modelPrices{
			model: key.model, prices: merged, digest: digestPrices(merged), meters: compileModel(&f, merged, next.rates),
		}
	}
	circularRedirects(&f, added, next.models)
	return next.finish(f)
}

// WithAlias returns a book in which a call to alias costs what a call to model does: the name of an Azure deployment,
// for one. An alias given again is replaced; the id of a listed model cannot be one. Model has to be one that the book
// finds without aliases, or the error is a *InvalidError.
func (b *PriceBook) WithAlias(provider, alias, model string) (*PriceBook, error) {
	var f faults
	key := modelKey{provider, alias}
	f.provider("provider", provider)
	f.id("alias", alias)
	f.model("alias", alias)
	if b.models[key] != nil || strings.HasSuffix(alias, "*") {
		f.add("alias", quote(alias)+" is a listed model or pattern")
	}
	if _, ok := b.target(provider, model); !ok {
		f.add("model", quote(model)+" is not a listed model of the provider")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	next := b.clone()
	next.aliases[key] = model
	return next.finish(nil)
}

// WithExchangeRates returns a book in which prices in other currencies than USD have a value from the first rate of
// their currency on; before, they are unpriced. A rate given again for the same instant is replaced. The error is a
// *InvalidError: a malformed currency or "USD", a rate that is not positive, two rates for one instant, or a rate at
// which a price has more than 12 fraction digits in USD, since prices are never rounded.
func (b *PriceBook) WithExchangeRates(rates ...ExchangeRate) (*PriceBook, error) {
	added, f := canonicalRates(rates)
	if err := f.err(); err != nil {
		return nil, err
	}
	next := b.clone()
	for _, rate := range added {
		next.rates[rate.Currency] = replaceRate(next.rates[rate.Currency], rate)
	}
	for _, key := range next.modelKeys() {
		if old := next.models[key]; old.isForeign() {
			model := *old
			model.meters = compileModel(&f, model.prices, next.rates)
			next.models[key] = &model
		}
	}
	return next.finish(f)
}

// Version names the content of the book: books of equal prices, aliases and rates have equal versions, in whatever
// order they were put together, and others have not. It is stored with each record. A book made from the embedded
// table starts with the table's date: "2026-11-23+3f9a0c5be121".
func (b *PriceBook) Version() string { return b.version }

// Prices returns all prices in the order of provider, model, meter, threshold, conditions and time. Where prices were
// overlaid it returns what applies: trimmed, split, and joined again where nothing changed. Changing what it returns
// does not change the book.
func (b *PriceBook) Prices() iter.Seq[Price] {
	return func(yield func(Price) bool) {
		for _, key := range b.modelKeys() {
			for _, p := range b.models[key].prices {
				p.Conditions = maps.Clone(p.Conditions)
				if !yield(p) {
					return
				}
			}
		}
	}
}

func (b *PriceBook) modelKeys() []modelKey {
	return slices.SortedFunc(maps.Keys(b.models), modelKey.compare)
}

func (b *PriceBook) clone() *PriceBook {
	next := &PriceBook{
		date: b.date, models: maps.Clone(b.models), aliases: maps.Clone(b.aliases), rates: maps.Clone(b.rates),
	}
	if next.models == nil {
		next.models = map[modelKey]*modelPrices{}
	}
	if next.aliases == nil {
		next.aliases = map[modelKey]string{}
	}
	if next.rates == nil {
		next.rates = map[string][]ExchangeRate{}
	}
	return next
}

// finish makes what is derived from models, aliases and rates.
func (b *PriceBook) finish(f faults) (*PriceBook, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	b.providers = map[string]*providerPrices{}
	for _, key := range b.modelKeys() {
		p := b.providers[key.provider]
		if p == nil {
			p = &providerPrices{name: key.provider, models: map[string]listedModel{}}
			b.providers[key.provider] = p
		}
		if model := b.models[key]; model.isPattern() {
			p.patterns = append(p.patterns, model)
		} else {
			p.models[key.model] = listedModel{modelPrices: model}
		}
	}
	for _, p := range b.providers {
		slices.SortStableFunc(p.patterns, func(x, y *modelPrices) int { return cmp.Compare(len(y.model), len(x.model)) })
	}
	for key, model := range b.aliases {
		if _, listed := b.models[key]; !listed {
			target, _ := b.target(key.provider, model)
			b.providers[key.provider].models[key.model] = listedModel{modelPrices: target, id: model}
		}
	}
	b.names = &knownNames{seed: maphash.MakeSeed()}
	b.version = b.hash()
	return b, nil
}

// target returns the model that an alias stands for. One that only patterns list has no prices of its own.
func (b *PriceBook) target(provider, model string) (*modelPrices, bool) {
	for _, id := range []string{model, withoutSnapshot(model)} {
		if found := b.models[modelKey{provider, id}]; found != nil && !found.isPattern() {
			return found, true
		}
	}
	for key, pattern := range b.models {
		if key.provider == provider && pattern.isPattern() && pattern.model != "*" && strings.HasPrefix(model, pattern.prefix()) {
			return &modelPrices{model: model}, true
		}
	}
	return nil, false
}

func byModel(prices []Price) map[modelKey][]Price {
	groups := map[modelKey][]Price{}
	for _, p := range prices {
		key := modelKey{p.Provider, p.Model}
		groups[key] = append(groups[key], p)
	}
	return groups
}

func (m *modelPrices) isForeign() bool {
	return slices.ContainsFunc(m.prices, func(p Price) bool { return p.BilledAs == "" && p.Currency != "USD" })
}

func (r *ExchangeRate) micros() int64 {
	if r.From.IsZero() {
		return math.MinInt64
	}
	return r.From.UnixMicro()
}

func canonicalRates(rates []ExchangeRate) ([]ExchangeRate, faults) {
	type instant struct {
		currency string
		from     time.Time
	}
	var f faults
	canonical := slices.Clone(rates)
	seen := map[instant]bool{}
	for i := range canonical {
		r, field := &canonical[i], indexed("rates", i)
		checkCurrency(&f, field+".Currency", r.Currency)
		if r.Currency == "USD" {
			f.add(field+".Currency", "is that of the ledger")
		}
		n, ok := store.ScaledInt(r.USD, moneyDigits)
		if r.USD.Sign() <= 0 || !ok {
			f.add(field+".USD", "is not positive, has more than 12 fraction digits or is too large")
		}
		r.USD = store.Money(n).Decimal()
		r.From = priceTime(&f, field+".From", r.From)
		if at := (instant{r.Currency, r.From}); seen[at] {
			f.add(field+".From", "is that of another rate of the currency")
		} else {
			seen[at] = true
		}
	}
	return canonical, f
}

// replaceRate returns a new list, in order of From: books share the old one.
func replaceRate(rates []ExchangeRate, added ExchangeRate) []ExchangeRate {
	kept := slices.DeleteFunc(slices.Clone(rates), func(r ExchangeRate) bool { return r.micros() == added.micros() })
	kept = append(kept, added)
	slices.SortFunc(kept, func(a, b ExchangeRate) int { return cmp.Compare(a.micros(), b.micros()) })
	return kept
}
