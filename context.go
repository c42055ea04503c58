package usage

import "context"

type tenantKey struct{}

// WithTenant returns a context that says whose calls are made with it. Package meter reads it, and it stands above a
// tenant that is configured there. An empty id takes the tenant away again.
func WithTenant(ctx context.Context, tenantID string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenantID)
}

// TenantFromContext returns the tenant that WithTenant put into ctx, the last one where there are several. ok is false
// when there is none.
func TenantFromContext(ctx context.Context) (tenantID string, ok bool) {
	tenantID, _ = ctx.Value(tenantKey{}).(string)
	return tenantID, tenantID != ""
}
