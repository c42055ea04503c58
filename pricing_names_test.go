package usage

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// remembered counts the names that a book remembers.
func remembered(b *PriceBook) (n int) {
	for i := range b.names.slots {
		if b.names.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

// priced is what a name's calls cost: of each meter and of all together.
func priced(t testing.TB, n *namedModel, provider, model string) (said []string) {
	t.Helper()
	q := PriceQuery{Provider: provider, Model: model, At: day("2026-10-20")}
	for _, pairs := range [][]any{
		{InputTokens, 1_000}, {InputCachedTokens, 1_000}, {OutputTokens, 300}, {Characters, 40}, {WebSearches, 2},
		{InputTokens, 86, InputCachedTokens, 1_920, OutputTokens, 300},
	} {
		cost, err := n.price(&q, linesOf(pairs...))
		said = append(said, fmt.Sprint(cost, err))
	}
	return said
}

var namesToFind = []string{
	"gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-2031-01-01", "gpt-6-sol-2026-09-22", "ft:gpt-4.1-2025-04-14:acme::x",
	"ft:gpt-4.1-2025-04-14:", "ft:gpt-9:acme", "deployed", "deployed-2026-01-01", "gpt-9", "", "gpt-4.1 ", "-2026-01-01",
}

func TestANameLeadsToTheSamePricesWheneverItIsAskedFor(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(mustBook(t)(DefaultPrices().With(
		Price{Provider: "azure", Model: "gpt-4.1", Meter: InputTokens, Amount: usd("9"), Per: PerMillion},
		Price{Provider: OpenAI, Model: "ft:*", Meter: Characters, Amount: usd("3"), Per: PerMillion},
		Price{Provider: "local", Meter: InputTokens, Per: PerMillion},
	)).WithAlias(OpenAI, "deployed", "ft:gpt-4.1-2025-04-14:acme::y"))
	for _, provider := range []string{OpenAI, "azure", "local", "nobody"} {
		for _, model := range namesToFind {
			found := book.search(provider, model)
			want := priced(t, &found, provider, model)
			for range 2 { // when it is searched for, and when it is known
				if diff := cmp.Diff(want, priced(t, book.named(provider, model, new(namedModel)), provider, model)); diff != "" {
					t.Errorf("%s %q (-want +got):\n%s", provider, model, diff)
				}
			}
		}
	}
}

func TestABookRemembersListedNamesOnly(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(NewPriceBook(
		Price{Provider: "p", Model: "m", Meter: InputTokens, Amount: usd("1"), Per: PerMillion},
		Price{Provider: "p", Model: "ft:*", Meter: InputTokens, Amount: usd("2"), Per: PerMillion},
		Price{Provider: "p", Meter: WebSearches, Amount: usd("3"), Per: PerThousand},
	))
	for _, name := range []string{"m", "m-2026-01-01", "ft:x"} {
		book.named("p", name, new(namedModel))
		if !book.named("p", name, new(namedModel)).known {
			t.Errorf("%q is not remembered", name)
		}
	}
	for _, name := range []string{"", "made up", "ft:\x00", "ft:x ", "ft:\xff", "m-2026-1-1"} {
		book.named("p", name, new(namedModel))
		if book.named("p", name, new(namedModel)).known {
			t.Errorf("%q is remembered", name)
		}
	}
	if book.named("q", "m", new(namedModel)).known {
		t.Error("a model is remembered of a provider that has none")
	}
	if n := remembered(book); n != 3 {
		t.Errorf("%d names are remembered", n)
	}
	if n := remembered(mustBook(t)(book.With())); n != 0 {
		t.Errorf("%d names are remembered of another book", n)
	}
}

func TestABookRemembersABoundedNumberOfNames(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(NewPriceBook(Price{Provider: "p", Model: "ft:*", Meter: InputTokens, Amount: usd("2"), Per: PerMillion}))
	lines := linesOf(InputTokens, 7)
	for i := range 40 << knownBits {
		cost, err := book.Price(PriceQuery{Provider: "p", Model: fmt.Sprint("ft:", i)}, lines)
		if err != nil || !cost.Equal(usd("0.000014")) {
			t.Fatal(cost, err)
		}
	}
	if n := remembered(book); n != 1<<knownBits {
		t.Errorf("%d names are remembered", n)
	}
}

func TestNamesAreFoundSideBySide(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(DefaultPrices().With(
		Price{Provider: "azure", Model: "gpt-4.1", Meter: InputTokens, Amount: usd("9"), Per: PerMillion}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2_000 {
				model := []string{"gpt-4.1", "gpt-6-sol-2026-09-22", fmt.Sprintf("ft:gpt-4.1-2025-04-14:acme::%d", i%500)}[i%3]
				for _, provider := range []string{OpenAI, "azure"} {
					found := book.search(provider, model)
					if n := book.named(provider, model, new(namedModel)); n.model != found.model || n.id != found.id {
						t.Errorf("%s %s leads to %q", provider, model, n.id)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestPricingAllocatesNothingButTheSum(t *testing.T) {
	book := DefaultPrices()
	for _, model := range namesToFind[:5] {
		q, lines := PriceQuery{Provider: OpenAI, Model: model, At: day("2026-10-20")}, linesOf(InputTokens, 86, OutputTokens, 300)
		for want, price := range []func() error{
			0: func() error { _, err := book.price(&q, lines); return err },
			2: func() error { _, err := book.Price(q, lines); return err },
		} {
			if price == nil {
				continue
			}
			if n := testing.AllocsPerRun(100, func() {
				if err := price(); err != nil {
					t.Error(err)
				}
			}); n != float64(want) {
				t.Errorf("%s: %v allocations, want %d", model, n, want)
			}
		}
	}
}
