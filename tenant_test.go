package usage

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTenantDefaults(t *testing.T) {
	t.Parallel()
	got, err := validTenant(Tenant{ID: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Tenant{ID: "acme", Name: "acme", TimeZone: "UTC", BillingDay: 1}, got); diff != "" {
		t.Errorf("tenant (-want +got):\n%s", diff)
	}
}

func TestTenantIsKeptAsGiven(t *testing.T) {
	t.Parallel()
	want := Tenant{ID: "acme", Name: "Acme Corp", TimeZone: "Asia/Kolkata", BillingDay: 31, Contacts: []string{"ops@example.com"}}
	contacts := slices.Clone(want.Contacts)
	given := want
	given.Contacts = contacts
	got, err := validTenant(given)
	if err != nil {
		t.Fatal(err)
	}
	contacts[0] = "changed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tenant (-want +got):\n%s", diff)
	}
}

func TestTenantFaults(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		name   string
		tenant Tenant
		fields []string
	}{
		{"an empty id", Tenant{}, []string{"ID"}},
		{"an id over 255 bytes", Tenant{ID: long}, []string{"ID"}},
		{"a name with a control character", Tenant{ID: "a", Name: "a\x1b"}, []string{"Name"}},
		{"an unknown zone", Tenant{ID: "a", TimeZone: "Mars/Olympus"}, []string{"TimeZone"}},
		{"a zone of the machine", Tenant{ID: "a", TimeZone: "Local"}, []string{"TimeZone"}},
		{"a zone that is a path", Tenant{ID: "a", TimeZone: "../../etc/passwd"}, []string{"TimeZone"}},
		{"a zone with NUL", Tenant{ID: "a", TimeZone: "UTC\x00"}, []string{"TimeZone"}},
		{"a billing day of 32", Tenant{ID: "a", BillingDay: 32}, []string{"BillingDay"}},
		{"a negative billing day", Tenant{ID: "a", BillingDay: -1}, []string{"BillingDay"}},
		{"too many contacts", Tenant{ID: "a", Contacts: slices.Repeat([]string{"x"}, 17)}, []string{"Contacts"}},
		{"bad contacts", Tenant{ID: "a", Contacts: []string{"ok", "", long}}, []string{"Contacts[1]", "Contacts[2]"}},
		{"everything at once", Tenant{TimeZone: "x", BillingDay: 40}, []string{"ID", "TimeZone", "BillingDay"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := validTenant(tt.tenant)
			wantFaults(t, err, tt.fields...)
		})
	}
}
