package prices

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

// meter is a word of the table with the units that it may be counted in.
type meter struct {
	name  string
	units []string
}

var meters = []meter{
	{"input", []string{"token"}},
	{"input_cached", []string{"token"}},
	{"input_cache_write", []string{"token"}},
	{"input_cache_write_12h", []string{"token"}},
	{"input_audio", []string{"token"}},
	{"input_audio_cached", []string{"token"}},
	{"input_image", []string{"token"}},
	{"input_image_cached", []string{"token"}},
	{"output", []string{"token"}},
	{"output_audio", []string{"token"}},
	{"output_image", []string{"token"}},
	{"input_characters", []string{"character"}},
	{"credits", []string{"credit"}},
	{"credits_per_character", []string{"ratio"}},
	{"multiplier", []string{"ratio"}},
	{"audio_duration", []string{"minute", "hour"}},
	{"call_duration", []string{"minute", "hour"}},
	{"billable_duration", []string{"minute", "hour"}},
	{"image", []string{"image"}},
	{"generation", []string{"generation"}},
	{"call", []string{"call"}},
	{"session", []string{"session"}},
	{"reported_cost", []string{"picodollar"}},
}

// most is what one unit may cost at most, in dollars. No price comes near; a slip of a factor of 1,000 or 1,000,000
// in Per passes it.
var most = map[string]int64{
	"token": 1, "character": 1, "credit": 1, "ratio": 100, "minute": 1_000, "hour": 60_000,
	"image": 10_000, "generation": 10_000, "call": 10_000, "session": 10_000,
	"picodollar": 1,
}

func (p *parser) unit(row *Row) {
	i := slices.IndexFunc(meters, func(m meter) bool { return m.name == row.Meter })
	if i < 0 {
		p.fault("meter: unknown meter %q", row.Meter)
		return
	}
	if !slices.Contains(meters[i].units, row.Unit) {
		p.fault("unit: %q is not a unit of %s", row.Unit, row.Meter)
		return
	}
	if row.Amount.GreaterThan(decimal.New(most[row.Unit]*row.Per, 0)) {
		p.fault("unit_price_usd: %s per %d is more than %d for one %s", row.Amount, row.Per, most[row.Unit], row.Unit)
	}
}

// overlaps names each row whose interval overlaps another one of the same price: which of the two applies would
// depend on their order.
func overlaps(rows []Row) []error {
	byKey := map[string][]Row{}
	for _, row := range rows {
		byKey[row.key()] = append(byKey[row.key()], row)
	}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		same := byKey[key]
		slices.SortStableFunc(same, func(a, b Row) int { return a.From.Compare(b.From) })
		for i, row := range same[1:] {
			before := same[i]
			if before.Until.IsZero() || row.From.Before(before.Until) {
				faults = append(faults, fmt.Errorf("%s:%d: overlaps %s:%d", row.File, row.Line, before.File, before.Line))
			}
		}
	}
	return faults
}

func (r Row) key() string {
	var conditions []string
	for key, value := range r.Conditions {
		conditions = append(conditions, key+"="+value)
	}
	slices.SortFunc(conditions, cmp.Compare[string])
	parts := []string{r.Provider, r.Model, r.Meter, r.Rule, fmt.Sprint(r.AboveInputTokens), strings.Join(conditions, ";")}
	return strings.Join(parts, "\x00")
}
