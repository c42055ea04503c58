// Package prices is the embedded table of what the built-in providers charged and charge: one row per price and
// interval, each with its source. It is data and the loader that refuses bad data; what a row means for a call is the
// business of the package above it.
//
// openai.csv and elevenlabs.csv hold the published prices, retired models included, so that a call of last year stays
// priceable. rules.csv holds what the providers say in words, such as that a model's cached input is billed as input.
package prices

import (
	"embed"
	"time"

	"github.com/shopspring/decimal"
)

// Date is the day up to which the embedded table was brought, and what the version of every book made from it starts
// with. It changes with each change of the table.
const Date = "2026-11-24"

//go:embed *.csv
var files embed.FS

// Row is a line of the table. It has either an Amount or a Rule.
type Row struct {
	// File and Line say where the row stands.
	File string
	Line int

	Provider string
	// Model is an exact id, "*" for every model of the provider, "tool:name" for what is charged beside any model, or
	// "*:released>=YYYY-MM-DD" in a multiplier row.
	Model string
	// Meter and Unit are words of the table, such as "input_cached" and "token".
	Meter, Unit string
	// Amount is US dollars for Per units, or the ratio itself when Unit is "ratio".
	Amount decimal.Decimal
	Per    int64
	// Rule is "" for a price. "billed_as": Meter is charged at the price of the meter Value. "also_with": the price of
	// Meter holds under the conditions too.
	Rule, Value string
	// From and Until bound the row: [From, Until), midnight UTC. A zero Until is open.
	From, Until time.Time
	// Conditions must all hold. The value "a|b" is either of the two.
	Conditions map[string]string
	// AboveInputTokens is the size that a prompt must exceed. 0 is no threshold.
	AboveInputTokens int64
	Source           string
	// FactDate is when the source said so.
	FactDate time.Time
}

// The rules of a Row.
const (
	BilledAs = "billed_as"
	AlsoWith = "also_with"
)

// Default returns the rows of the embedded table, in the order of its files. The error is always nil in a released
// version: a test loads the table.
func Default() ([]Row, error) { return Load(files) }
