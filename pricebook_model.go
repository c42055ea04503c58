package usage

// Model returns the entry of the book that a call to a model is priced by: the model itself, what an alias stands for,
// the model without the date of a snapshot, or the pattern with the longest prefix, as PriceBook finds them. ok is false
// when only prices of every model ("*") could apply, or none.
func (b *PriceBook) Model(provider, model string) (entry string, ok bool) {
	n := b.search(provider, model)
	if n.model != nil {
		return n.model.model, true
	}
	if pattern := n.pattern(); pattern != nil {
		return pattern.model, true
	}
	return "", false
}
