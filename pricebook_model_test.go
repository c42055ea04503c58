package usage

import "testing"

func TestTheEntryThatACallIsPricedBy(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(DefaultPrices().WithAlias(OpenAI, "prod-chat-eu", "gpt-4o-2024-08-06"))
	for _, tt := range []struct{ provider, model, want string }{
		{OpenAI, "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"},
		{OpenAI, "prod-chat-eu", "gpt-4o-2024-08-06"},
		{OpenAI, "gpt-6.1-sol-2026-09-29", "gpt-6.1-sol"},
		{OpenAI, "ft:gpt-4o-mini-2024-07-18:acme::AbC12345", "ft:gpt-4o-mini-2024-07-18:*"},
		{OpenAI, "gpt-9-imaginary-2031-01-01", ""},
		{"nobody", "gpt-4o", ""},
	} {
		if got, ok := book.Model(tt.provider, tt.model); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s %s is priced by %q, %t; want %q", tt.provider, tt.model, got, ok, tt.want)
		}
	}
}
