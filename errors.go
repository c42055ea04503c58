package usage

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// What went wrong, for errors.Is. Every error of this package wraps one of these, or the error of the caller's context.
var (
	// ErrInvalid: an input breaks a rule of its type. Nothing was written, and sending it again will not help. What the
	// tracker refuses is a *InvalidError.
	ErrInvalid = store.ErrInvalid
	// ErrConflict: the tenant has another call under this id. The first one stands. Always a *ConflictError.
	ErrConflict = store.ErrConflict
	// ErrNotFound: the tenant, record, reservation or alert does not exist.
	ErrNotFound = store.ErrNotFound
	// ErrOverflow: a total would pass what the ledger can hold. Nothing of the call was written.
	ErrOverflow = store.ErrOverflow
	// ErrPruned: the call happened before its tenant's horizon, or the period asked about did, and the records of that time were
	// dropped. Nothing was written. Always a *PrunedError.
	ErrPruned = store.ErrPruned
	// ErrBusy: the store was locked for too long. Nothing was written; trying again may work.
	ErrBusy = store.ErrBusy
	// ErrFull: the store has no room. Nothing was written; trying again works when there is room.
	ErrFull = store.ErrFull
	// ErrReadOnly: the store does not accept writes. Nothing was written.
	ErrReadOnly = store.ErrReadOnly
	// ErrCorrupt: the store is damaged or is not one. Nothing was written.
	ErrCorrupt = store.ErrCorrupt
	// ErrUnavailable: the store cannot be reached or read. Nothing was written; trying again may work.
	ErrUnavailable = store.ErrUnavailable
	// ErrSchema: the store was written by a newer version of this package.
	ErrSchema = store.ErrSchema
	// ErrClosed: the store has been closed.
	ErrClosed = store.ErrClosed
	// ErrUnknownOutcome: whether the write was committed is not known. Send it again with the same id. For a call it is
	// always a *UnknownOutcomeError.
	ErrUnknownOutcome = store.ErrUnknownOutcome
	// ErrReservationSettled: another call has settled the reservation. Always a *ReservationError.
	ErrReservationSettled = store.ErrHoldSettled
	// ErrReservationReleased: the reservation was released. Always a *ReservationError.
	ErrReservationReleased = store.ErrHoldReleased
	// ErrQuotaExceeded: a hard limit leaves no room for the call now. Always a *QuotaError.
	ErrQuotaExceeded = errors.New("quota exceeded")
	// ErrExceedsBurst: the call asks for more than a rate limit ever gives at once. Waiting will not help. Always a
	// *QuotaError, which is no ErrQuotaExceeded then.
	ErrExceedsBurst = errors.New("more than the rate gives at once")
	// ErrSuspended: the tenant is suspended and may not start calls. Always a *SuspendedError.
	ErrSuspended = errors.New("suspended")
)

// ConflictError names the call whose id is taken (TenantID, ID), and the first field that differs (Field: "Model", "Lines").
// Of a reservation Field is "ID". It unwraps to ErrConflict.
type ConflictError = store.ConflictError

// ReservationError says that a reservation (TenantID, HoldID) can no longer be settled or released: RecordID is the ID of the
// call that settled it, or empty. It unwraps to ErrReservationSettled or ErrReservationReleased.
type ReservationError = store.HoldError

// PrunedError says that a call (TenantID, ID, At) lies before the Horizon up to which Prune has dropped records, or a part of
// a day that a period needs, which begins At and has no ID. It unwraps to ErrPruned.
type PrunedError = store.PrunedError

// InvalidError names everything that is wrong with an input, not only what was found first. It unwraps to ErrInvalid.
type InvalidError struct {
	Faults []Fault
}

// Fault is one thing that is wrong with an input.
type Fault struct {
	// Field is the input's field as it is written in Go: "InputTokens", "Limits[2].Max", `Tags["team"]`.
	Field string
	// Problem says what is wrong with it, as the rest of a sentence that starts with the field. Of the input's text it
	// quotes names only, and at most 64 bytes of each.
	Problem string
}

// Error lists the faults on one line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString(ErrInvalid.Error())
	separator := ": "
	for _, fault := range e.Faults {
		b.WriteString(separator + fault.Field + " " + fault.Problem)
		separator = "; "
	}
	return b.String()
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// notFound names what a store has not found. Any other error stays as it is.
func notFound(err error, what, id, tenantID string) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s %s of tenant %s: %w", what, quote(id), quote(tenantID), ErrNotFound)
	}
	return err
}

// QuotaError says which hard limit refuses a call, by what numbers, and when to come back: enough for a response with
// the status 429 and Retry-After. It unwraps to ErrQuotaExceeded, or to ErrExceedsBurst when the call asks for more than a
// rate limit ever gives at once.
type QuotaError struct {
	TenantID string
	Limit    Limit
	// Used is what the period's calls have used, Held what live reservations hold besides, and Asked what the refused
	// call would need, all in the unit of Limit.Max. Of a rate, Used is what of its burst is taken, a started unit whole,
	// and Held is zero.
	Used, Held, Asked decimal.Decimal
	// Remaining is what a call could still have.
	Remaining decimal.Decimal
	// Period is the one whose room is used up. That of a rate is from now until all of its burst is there again.
	Period Period
	// ResetsAt is when there is room again: of a period, when the next one begins, in UTC; of a rate, when the refused call
	// fits if nobody takes anything before. It is the zero time for ErrExceedsBurst. A call that asks for more than the
	// whole limit of a period (Asked above Limit.Max) does not fit then either.
	ResetsAt time.Time
	// RetryAfter is how long that is from when the call was refused; zero for ErrExceedsBurst. The header Retry-After has
	// whole seconds: round up.
	RetryAfter time.Duration
}

// Error names the tenant, the limit, the numbers and when there will be room again.
func (e *QuotaError) Error() string {
	text := fmt.Sprintf("tenant %s: %s: %s: used %s, held %s, asked %s, of %s a %s", quote(e.TenantID), e.Unwrap().Error(),
		e.Limit.metric(), e.Used, e.Held, e.Asked, e.Limit.Max, e.Limit.window())
	switch {
	case e.exceedsBurst():
		return fmt.Sprintf("%s, at most %d at once", text, e.Limit.burst())
	case e.Limit.Per.IsRate():
		return fmt.Sprintf("%s; try again in %s", text, e.RetryAfter)
	case e.Asked.GreaterThan(e.Limit.Max):
		return text + ", which is more than the limit ever allows"
	}
	return text + "; resets at " + e.ResetsAt.UTC().Format(time.RFC3339)
}

// Unwrap returns ErrQuotaExceeded or ErrExceedsBurst.
func (e *QuotaError) Unwrap() error {
	if e.exceedsBurst() {
		return ErrExceedsBurst
	}
	return ErrQuotaExceeded
}

func (e *QuotaError) exceedsBurst() bool {
	return e.Limit.Per.IsRate() && e.Asked.GreaterThan(decimal.NewFromInt(e.Limit.burst()))
}

// SuspendedError says why a tenant may not start calls. It unwraps to ErrSuspended.
type SuspendedError struct {
	TenantID string
	// Reason is what the host gave when it suspended the tenant.
	Reason string
}

// Error names the tenant and the reason.
func (e *SuspendedError) Error() string {
	return fmt.Sprintf("tenant %s: %s: %s", quote(e.TenantID), ErrSuspended.Error(), quote(e.Reason))
}

// Unwrap returns ErrSuspended.
func (e *SuspendedError) Unwrap() error { return ErrSuspended }

// UnknownOutcomeError says that nobody can tell yet whether a call was committed: the caller stopped waiting, or the
// connection broke during the commit. Send the call again with this ID: it is counted once whichever it was, and the
// answer tells. Of a reservation, release the ID. It unwraps to ErrUnknownOutcome and to Err.
type UnknownOutcomeError struct {
	TenantID string
	// ID is the call's id, the one that the tracker made when the caller gave none.
	ID string
	// Err is what ended the wait.
	Err error
}

// Error names the call and what ended the wait.
func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("call %s of tenant %s: %s: %v", quote(e.ID), quote(e.TenantID), ErrUnknownOutcome.Error(), e.Err)
}

// Unwrap returns ErrUnknownOutcome and Err.
func (e *UnknownOutcomeError) Unwrap() []error { return []error{ErrUnknownOutcome, e.Err} }
