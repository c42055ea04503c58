package usage

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// overlay returns the prices of one model after added ones, which do not overlap each other, replaced the old ones of
// their key within their intervals.
func overlay(old, added []Price) []Price {
	byKey := map[string][]Price{}
	var merged []keyedPrice
	for _, p := range added {
		key := p.key()
		byKey[key] = append(byKey[key], p)
		merged = append(merged, keyedPrice{key, p})
	}
	for _, p := range old {
		key := p.key()
		for _, rest := range p.without(byKey[key]) {
			merged = append(merged, keyedPrice{key, rest})
		}
	}
	slices.SortFunc(merged, func(a, b keyedPrice) int {
		return cmp.Or(strings.Compare(a.key, b.key), compareFrom(&a.price, &b.price))
	})
	return joinPrices(merged)
}

type keyedPrice struct {
	key   string
	price Price
}

// without returns what is left of a price when others of its key take their intervals out of it.
func (p Price) without(others []Price) []Price {
	left := []Price{p}
	for _, other := range others {
		var rest []Price
		for _, part := range left {
			rest = append(rest, part.outside(&other)...)
		}
		left = rest
	}
	return left
}

func (p Price) outside(other *Price) []Price {
	from, until := p.interval()
	otherFrom, otherUntil := other.interval()
	if otherUntil <= from || until <= otherFrom {
		return []Price{p}
	}
	var parts []Price
	if from < otherFrom {
		before := p
		before.Until = other.From
		parts = append(parts, before)
	}
	if otherUntil < until {
		after := p
		after.From = other.Until
		parts = append(parts, after)
	}
	return parts
}

// joinPrices joins neighbours that differ in nothing but their interval, so that equal content has one form.
func joinPrices(sorted []keyedPrice) []Price {
	var joined []Price
	for i, keyed := range sorted {
		n := len(joined)
		if i > 0 && sorted[i-1].key == keyed.key && joined[n-1].continuesAs(&keyed.price) {
			joined[n-1].Until = keyed.price.Until
		} else {
			joined = append(joined, keyed.price)
		}
	}
	return joined
}

func (p Price) continuesAs(next *Price) bool {
	if p.Until.IsZero() || !p.Until.Equal(next.From) {
		return false
	}
	p.From, p.Until = next.From, next.Until
	return bytes.Equal(p.appendTo(nil), next.appendTo(nil))
}

type priceDigest [sha256.Size]byte

func digestPrices(prices []Price) priceDigest {
	var text []byte
	for i := range prices {
		text = prices[i].appendTo(text)
	}
	return sha256.Sum256(text)
}

// appendTo writes everything that a price says, each field quoted, so that no two prices read the same.
func (p *Price) appendTo(b []byte) []byte {
	for _, s := range []string{
		p.Provider, p.Model, string(p.Meter), p.Amount.String(), p.Conditions.String(), string(p.BilledAs), p.Currency, p.Source,
	} {
		b = strconv.AppendQuote(b, s)
	}
	for _, n := range []int64{p.Per, p.RoundUpTo, p.AboveInputTokens} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	return appendTime(appendTime(b, p.From), p.Until)
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, ' '), time.RFC3339Nano), '\n')
}

// hashDigits is how much of the hash a version shows: 48 bits, plenty to tell the books of one host apart.
const hashDigits = 12

// hash is the version: of the models' digests, the aliases and the rates, each in a fixed order.
func (b *PriceBook) hash() string {
	var text []byte
	for _, key := range b.modelKeys() {
		text = append(text, b.models[key].digest[:]...)
	}
	for _, key := range slices.SortedFunc(maps.Keys(b.aliases), modelKey.compare) {
		for _, s := range []string{"alias", key.provider, key.model, b.aliases[key]} {
			text = strconv.AppendQuote(text, s)
		}
	}
	for _, currency := range slices.Sorted(maps.Keys(b.rates)) {
		for _, rate := range b.rates[currency] {
			for _, s := range []string{"rate", currency, rate.USD.String()} {
				text = strconv.AppendQuote(text, s)
			}
			text = appendTime(text, rate.From)
		}
	}
	sum := sha256.Sum256(text)
	version := hex.EncodeToString(sum[:])[:hashDigits]
	if b.date != "" {
		version = b.date + "+" + version
	}
	return version
}
