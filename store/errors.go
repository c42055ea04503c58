package store

import (
	"errors"
	"fmt"
	"time"
)

// What went wrong, for errors.Is. A store wraps the driver's error with one of these; it classifies by the
// driver's code and never by a message.
var (
	// ErrNotFound: the tenant, record, hold or alert does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the id is taken by a record with other content, or by a hold. Always a *ConflictError.
	ErrConflict = errors.New("id is taken")
	// ErrInvalid: the store was given something that it cannot hold.
	ErrInvalid = errors.New("invalid")
	// ErrOverflow: a total would pass an int64. Nothing of the record was written.
	ErrOverflow = errors.New("total is too large")
	// ErrHoldSettled: another record has settled the hold. Always a *HoldError.
	ErrHoldSettled = errors.New("reservation is already settled")
	// ErrHoldReleased: the hold was released. Always a *HoldError.
	ErrHoldReleased = errors.New("reservation is already released")

	// ErrPruned: the time asked about lies before the tenant's horizon, and its records were dropped. Always a *PrunedError.
	ErrPruned = errors.New("before the horizon of what was pruned")

	// ErrBusy: a lock or a connection was not to be had in time. Nothing was written; trying again may work.
	ErrBusy = errors.New("store is busy")
	// ErrFull: no room on the disk. Nothing was written; the store works again when there is room.
	ErrFull = errors.New("store is full")
	// ErrReadOnly: the database does not accept writes. Nothing was written.
	ErrReadOnly = errors.New("store is read-only")
	// ErrCorrupt: the database is damaged or is not one. Nothing was written.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrUnavailable: the database cannot be reached or read (an I/O error, a missing folder). Nothing was written.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrSchema: the database's schema is newer than this version of the store knows.
	ErrSchema = errors.New("schema is newer than this store")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrUnknownOutcome: whether the write was committed is not known. Sending it again with the same ids is safe
	// and tells.
	ErrUnknownOutcome = errors.New("outcome is unknown")
)

// ConflictError says that the id of a record is taken by a record with other content, or that of a hold by a hold.
// It unwraps to ErrConflict.
type ConflictError struct {
	TenantID, ID string
	// Field is the first field of the record that differs, named as in Record: "Model", "Lines", "At", … It is "ID" for a
	// hold.
	Field string
}

// Error names the id and the field.
func (e *ConflictError) Error() string {
	if e.Field == "ID" {
		return fmt.Sprintf("reservation %q of tenant %q: %s", e.ID, e.TenantID, ErrConflict.Error())
	}
	return fmt.Sprintf("call %q of tenant %q: %s by one with other content: %s differs",
		e.ID, e.TenantID, ErrConflict.Error(), e.Field)
}

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// HoldError says that a hold can no longer be settled or released. It unwraps to ErrHoldSettled or ErrHoldReleased.
type HoldError struct {
	TenantID, HoldID string
	// RecordID is the record that settled the hold; empty when it was released.
	RecordID string
}

// Error names the hold and, where there is one, the record that settled it.
func (e *HoldError) Error() string {
	if e.RecordID == "" {
		return fmt.Sprintf("reservation %q of tenant %q: %s", e.HoldID, e.TenantID, ErrHoldReleased.Error())
	}
	return fmt.Sprintf("reservation %q of tenant %q: %s by record %q", e.HoldID, e.TenantID, ErrHoldSettled.Error(), e.RecordID)
}

// Unwrap returns ErrHoldSettled or ErrHoldReleased.
func (e *HoldError) Unwrap() error {
	if e.RecordID == "" {
		return ErrHoldReleased
	}
	return ErrHoldSettled
}

// PrunedError says that a call happened before its tenant's horizon: it may have been counted and dropped, so it is not
// counted. It unwraps to ErrPruned.
type PrunedError struct {
	// ID is the call's; it is empty when a period was asked about.
	TenantID, ID string
	// At is when the call happened, or the part of a day that was asked about began.
	At time.Time
	// Horizon is the instant before which records were dropped.
	Horizon time.Time
}

// Error names the call, its time and the horizon.
func (e *PrunedError) Error() string {
	at, horizon := e.At.UTC().Format(time.RFC3339Nano), e.Horizon.UTC().Format(time.RFC3339Nano)
	if e.ID == "" {
		return fmt.Sprintf("a part of a day of tenant %q from %s is %s, %s: only whole days can be had there",
			e.TenantID, at, ErrPruned.Error(), horizon)
	}
	return fmt.Sprintf("call %q of tenant %q at %s is %s, %s", e.ID, e.TenantID, at, ErrPruned.Error(), horizon)
}

// Unwrap returns ErrPruned.
func (e *PrunedError) Unwrap() error { return ErrPruned }
