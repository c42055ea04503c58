package usage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acf68eca/usage/prices"
)

// tableMeters maps the meters of the embedded table to ours.
func tableMeters(meter, model string) (Meter, bool) {
	switch meter {
	case "input":
		return InputTokens, true
	case "input_cached":
		return InputCachedTokens, true
	case "input_cache_write":
		return InputCacheWriteTokens, true
	case "input_cache_write_12h":
		return InputCacheWrite12hTokens, true
	case "input_audio":
		return InputAudioTokens, true
	case "input_audio_cached":
		return InputAudioCachedTokens, true
	case "input_image":
		return InputImageTokens, true
	case "input_image_cached":
		return InputImageCachedTokens, true
	case "output":
		return OutputTokens, true
	case "output_audio":
		return OutputAudioTokens, true
	case "output_image":
		return OutputImageTokens, true
	case "input_characters":
		return Characters, true
	case "credits":
		return Credits, true
	case "audio_duration":
		return AudioTime, true
	case "call_duration", "billable_duration":
		return CallTime, true
	case "image":
		return Images, true
	case "generation":
		return Generations, true
	case "reported_cost":
		return ReportedCost, true
	}
	switch model {
	case "tool:web_search":
		return WebSearches, true
	case "tool:file_search":
		return FileSearches, true
	case "tool:code_interpreter_container":
		return ContainerSessions, true
	}
	return "", false
}

// table turns rows of the embedded table into prices.
type table struct {
	prices   []Price
	released map[modelKey]time.Time // when the first price of a model began
}

// pricesOf returns the prices that the rows state, and those that follow from what they state in words: fine-tuned
// models, characters under a plan that sells credits, regional processing, and the rules.
func pricesOf(rows []prices.Row) ([]Price, error) {
	t := table{released: map[modelKey]time.Time{}}
	var derived []prices.Row
	for _, row := range rows {
		if row.Rule != "" || row.Unit == "ratio" {
			derived = append(derived, row)
			continue
		}
		if err := t.state(row); err != nil {
			return nil, err
		}
	}
	t.lendTiers()
	stated := slices.Clone(t.prices)
	for _, row := range derived {
		if err := t.derive(row, stated); err != nil {
			return nil, err
		}
	}
	return t.prices, nil
}

// state adds the prices of one row: one for each of its model's names and each choice of its conditions.
func (t *table) state(row prices.Row) error {
	meter, ok := tableMeters(row.Meter, row.Model)
	if !ok {
		return fmt.Errorf("%s:%d: no meter for %s of %s", row.File, row.Line, row.Meter, row.Model)
	}
	p := Price{
		Provider: row.Provider, Meter: meter, Amount: row.Amount, Per: row.Per * unitSize(row.Unit),
		AboveInputTokens: row.AboveInputTokens, From: row.From, Until: row.Until, Source: row.Source,
	}
	pulse, err := pulseOf(row)
	if err != nil {
		return err
	}
	p.RoundUpTo = pulse
	for _, model := range tableModels(row.Model) {
		key := modelKey{row.Provider, model}
		if known, ok := t.released[key]; !ok || row.From.Before(known) {
			t.released[key] = row.From
		}
		for _, conditions := range choices(row.Conditions) {
			p.Model, p.Conditions = model, conditions
			t.prices = append(t.prices, p)
		}
	}
	return nil
}

func unitSize(unit string) int64 {
	switch unit {
	case "minute":
		return PerMinute
	case "hour":
		return PerHour
	}
	return PerUnit
}

func pulseOf(row prices.Row) (int64, error) {
	text, ok := row.Conditions["pulse_seconds"]
	if !ok {
		return 0, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s:%d: pulse_seconds: %w", row.File, row.Line, err)
	}
	return seconds * PerSecond, nil
}

// tableModels returns the models that a row is about: a tool is charged beside any model, and a fine-tuned model is
// named after its base with the organisation, a suffix and an id behind.
func tableModels(model string) []string {
	switch {
	case strings.HasPrefix(model, "tool:"):
		return []string{"*"}
	case strings.HasPrefix(model, "ft:"):
		return []string{model, model + ":*"}
	}
	return []string{model}
}

// choices spells out a condition such as "size=1024x1792|1792x1024". The pulse is no condition of ours.
func choices(conditions map[string]string) []Conditions {
	all := []Conditions{{}}
	for _, key := range slices.Sorted(maps.Keys(conditions)) {
		if key == "pulse_seconds" {
			continue
		}
		var next []Conditions
		for value := range strings.SplitSeq(conditions[key], "|") {
			for _, c := range all {
				next = append(next, c.with(key, value))
			}
		}
		all = next
	}
	return all
}

func (c Conditions) with(key, value string) Conditions {
	more := maps.Clone(c)
	if more == nil {
		more = Conditions{}
	}
	more[key] = value
	return more
}

// lendTiers gives dated snapshots the tiers that the table lists only for the model without the date, where the two have
// the same standard price. Providers return the snapshot's name, whatever name was asked for, so a call of a tier
// would otherwise have no price. Where the standard prices differ, the model's name stood for another snapshot then, and
// its tiers say nothing about this one.
func (t *table) lendTiers() {
	byModel := make(map[modelKey][]Price)
	for _, p := range t.prices {
		byModel[modelKey{p.Provider, p.Model}] = append(byModel[modelKey{p.Provider, p.Model}], p)
	}
	for _, key := range slices.SortedFunc(maps.Keys(byModel), func(a, b modelKey) int { return cmp.Compare(a.model, b.model) }) {
		base := modelKey{key.provider, withoutSnapshot(key.model)}
		if base == key {
			continue
		}
		for _, p := range byModel[base] {
			if len(p.Conditions) > 0 && !slices.ContainsFunc(byModel[key], p.sameKey) {
				t.lend(p, key.model, byModel[base], byModel[key])
			}
		}
	}
}

// lend adds a price of the base to the snapshot for the times at which both have the same standard price.
func (t *table) lend(p Price, snapshot string, base, own []Price) {
	for _, b := range base {
		for _, o := range own {
			lent := p
			same := b.isStandard(p.Meter) && o.isStandard(p.Meter) && b.Amount.Equal(o.Amount) && b.Per == o.Per
			if same && lent.limitTo(b.From, b.Until) && lent.limitTo(o.From, o.Until) {
				lent.Model = snapshot
				lent.Source += " | listed for " + p.Model + ", whose standard price is the same"
				t.prices = append(t.prices, lent)
			}
		}
	}
}

func (p Price) isStandard(m Meter) bool {
	return p.Meter == m && len(p.Conditions) == 0 && p.AboveInputTokens == 0
}

func (p Price) sameKey(other Price) bool {
	return p.Meter == other.Meter && p.AboveInputTokens == other.AboveInputTokens && maps.Equal(p.Conditions, other.Conditions)
}

func (t *table) derive(row prices.Row, stated []Price) error {
	switch {
	case row.Rule == prices.BilledAs:
		return t.billAs(row)
	case row.Rule == prices.AlsoWith:
		return t.repeat(row, stated)
	case row.Meter == "credits_per_character":
		t.chargeCredits(row, stated)
		return nil
	case row.Meter == "multiplier":
		return t.multiply(row, stated)
	}
	return fmt.Errorf("%s:%d: a ratio of %s", row.File, row.Line, row.Meter)
}

func (t *table) billAs(row prices.Row) error {
	meter, ok := tableMeters(row.Meter, row.Model)
	as, okAs := tableMeters(row.Value, row.Model)
	if !ok || !okAs {
		return fmt.Errorf("%s:%d: no meter for %s or %s", row.File, row.Line, row.Meter, row.Value)
	}
	for _, model := range tableModels(row.Model) {
		t.prices = append(t.prices, Price{
			Provider: row.Provider, Model: model, Meter: meter, BilledAs: as, From: row.From, Until: row.Until, Source: row.Source,
		})
	}
	return nil
}

// repeat adds the stated prices of a meter once more, under conditions.
func (t *table) repeat(row prices.Row, stated []Price) error {
	meter, ok := tableMeters(row.Meter, row.Model)
	if !ok {
		return fmt.Errorf("%s:%d: no meter for %s of %s", row.File, row.Line, row.Meter, row.Model)
	}
	for _, p := range stated {
		if p.Provider != row.Provider || p.Meter != meter || !slices.Contains(tableModels(row.Model), p.Model) {
			continue
		}
		if !p.limitTo(row.From, row.Until) {
			continue
		}
		for key, value := range row.Conditions {
			p.Conditions = p.Conditions.with(key, value)
		}
		t.add(p, row)
	}
	return nil
}

// chargeCredits prices the characters of a model under each plan: credits per character × dollars per credit.
func (t *table) chargeCredits(row prices.Row, stated []Price) {
	for _, p := range stated {
		if p.Provider != row.Provider || p.Meter != Credits || p.Model != "*" && p.Model != row.Model || !p.limitTo(row.From, row.Until) {
			continue
		}
		p.Model, p.Meter, p.Amount = row.Model, Characters, p.Amount.Mul(row.Amount)
		t.add(p, row)
	}
}

// multiply adds, for the models released since a day, the token prices under the row's condition.
func (t *table) multiply(row prices.Row, stated []Price) error {
	day, ok := strings.CutPrefix(row.Model, "*:released>=")
	since, err := time.Parse(time.DateOnly, day)
	if !ok || err != nil {
		return fmt.Errorf("%s:%d: %q names no release", row.File, row.Line, row.Model)
	}
	for _, p := range stated {
		if p.Provider != row.Provider || !countsTokens(p.Meter) || t.released[modelKey{p.Provider, p.Model}].Before(since) || !p.limitTo(row.From, row.Until) {
			continue
		}
		for key, value := range row.Conditions {
			p.Conditions = p.Conditions.with(key, value)
		}
		p.Amount = p.Amount.Mul(row.Amount)
		t.add(p, row)
	}
	return nil
}

// limitTo cuts the price to an interval, and reports whether anything is left.
func (p *Price) limitTo(from, until time.Time) bool {
	if from.After(p.From) {
		p.From = from
	}
	if p.Until.IsZero() || !until.IsZero() && until.Before(p.Until) {
		p.Until = until
	}
	return p.Until.IsZero() || p.From.Before(p.Until)
}

func (t *table) add(p Price, because prices.Row) {
	if p.Source != because.Source {
		p.Source += " × " + because.Source
	}
	t.prices = append(t.prices, p)
}
