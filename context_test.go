package usage

import (
	"context"
	"testing"
)

func TestTheTenantOfAContext(t *testing.T) {
	t.Parallel()
	acme := WithTenant(t.Context(), "acme")
	for _, tt := range []struct {
		name string
		ctx  context.Context
		want string
	}{
		{"a context without one has none", t.Context(), ""},
		{"it is what was put in", acme, "acme"},
		{"the last one stands", WithTenant(acme, "globex"), "globex"},
		{"an empty one takes it away", WithTenant(acme, ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := TenantFromContext(tt.ctx)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %t", got, ok)
			}
		})
	}
}
