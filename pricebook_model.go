package usage

import "strings"

// Model returns the entry of the book that a call to a model is priced by: the model itself, what an alias stands for,
// the model without the date of a snapshot, or the pattern with the longest prefix, as PriceBook finds them. ok is false
// when only prices of every model ("*") could apply, or none.
func (b *PriceBook) Model(provider, model string) (entry string, ok bool) {
	var c pricedCall
	c.ask(b, &PriceQuery{Provider: provider, Model: model})
	if c.model != nil {
		return c.model.model, true
	}
	if c.provider == nil {
		return "", false
	}
	for _, pattern := range c.provider.patterns {
		if pattern.prefix() != "" && strings.HasPrefix(c.id, pattern.prefix()) {
			return pattern.model, true
		}
	}
	return "", false
}
