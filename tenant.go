package usage

import (
	"slices"
	"strconv"

	"github.com/acf68eca/usage/store"
)

// Tenant is a customer of the host. Setting one replaces it, all but Suspended, Horizon and CreatedAt. Its fields are those of
// store.Tenant: an ID, and what has defaults (Name, TimeZone, BillingDay from 1 to 31, Contacts).
type Tenant = store.Tenant

// Period is a half-open stretch of time [Start, End) in UTC: End belongs to the next period. The
// days and months of a tenant begin at midnight in its zone, which Start.In(zone) shows.
type Period = store.Period

const maxContacts = 16

// validTenant returns the tenant with its defaults filled in: its id as its name, UTC, and the first of the month.
// It shares no memory with t.
func validTenant(t Tenant) (Tenant, error) {
	var f faults
	f.id("ID", t.ID)
	f.text("Name", t.Name, maxID)
	f.zone("TimeZone", t.TimeZone)
	if t.BillingDay < 0 || t.BillingDay > 31 {
		f.add("BillingDay", "is not from 1 to 31")
	}
	f.contacts("Contacts", t.Contacts)
	if err := f.err(); err != nil {
		return Tenant{}, err
	}
	if t.Name == "" {
		t.Name = t.ID
	}
	if t.TimeZone == "" {
		t.TimeZone = "UTC"
	}
	t.BillingDay = max(t.BillingDay, 1)
	t.Contacts = slices.Clone(t.Contacts)
	return t, nil
}

func (f *faults) zone(field, zone string) {
	if !f.text(field, zone, maxID) {
		return
	}
	if _, err := store.NewCalendar(zone, 0); err != nil {
		f.add(field, quote(zone)+" is not an IANA time zone")
	}
}

func (f *faults) contacts(field string, contacts []string) {
	if len(contacts) > maxContacts {
		f.add(field, "has more than "+strconv.Itoa(maxContacts)+" entries")
		return
	}
	for i, contact := range contacts {
		f.required(indexed(field, i), contact, maxID)
	}
}
