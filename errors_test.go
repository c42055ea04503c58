package usage

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

func TestErrorsUnwrapAndRead(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 3, 31, 18, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		err  error
		is   []error
		text string
	}{
		{
			&InvalidError{Faults: []Fault{{"TenantID", "is missing"}, {"InputTokens", "is negative"}}},
			[]error{ErrInvalid},
			`invalid: TenantID is missing; InputTokens is negative`,
		},
		{
			&QuotaError{
				TenantID: "acme", Limit: Limit{Provider: OpenAI, Model: "gpt-4", Meter: Tokens, Max: decimal.NewFromInt(1_000)},
				Used: decimal.NewFromInt(1_020), Asked: decimal.NewFromInt(1), Period: Period{End: end}, ResetsAt: end,
			},
			[]error{ErrQuotaExceeded},
			`tenant "acme": quota exceeded: openai "gpt-4" tokens: used 1020, held 0, asked 1, of 1000 a month; resets at 2026-03-31T18:30:00Z`,
		},
		{
			&QuotaError{
				TenantID: "acme", Limit: Limit{Meter: Cost, Max: decimal.NewFromInt(1)}, Asked: decimal.NewFromInt(2),
				Period: Period{End: end}, ResetsAt: end,
			},
			[]error{ErrQuotaExceeded},
			`tenant "acme": quota exceeded: cost: used 0, held 0, asked 2, of 1 a month, which is more than the limit ever allows`,
		},
		{
			&SuspendedError{TenantID: "acme", Reason: "unpaid"},
			[]error{ErrSuspended},
			`tenant "acme": suspended: "unpaid"`,
		},
		{
			&UnknownOutcomeError{TenantID: "acme", ID: "chatcmpl-1", Err: context.Canceled},
			[]error{ErrUnknownOutcome, context.Canceled},
			`call "chatcmpl-1" of tenant "acme": outcome is unknown: context canceled`,
		},
		{&ConflictError{TenantID: "acme", ID: "1", Field: "Model"}, []error{ErrConflict}, `call "1" of tenant "acme": id is taken by one with other content: Model differs`},
		{&ReservationError{TenantID: "acme", HoldID: "1"}, []error{ErrReservationReleased}, `reservation "1" of tenant "acme": reservation is already released`},
	} {
		for _, target := range tt.is {
			if !errors.Is(tt.err, target) {
				t.Errorf("%T is not %v", tt.err, target)
			}
		}
		if got := tt.err.Error(); got != tt.text {
			t.Errorf("got  %s\nwant %s", got, tt.text)
		}
	}
}
