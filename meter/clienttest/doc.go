// Package clienttest holds the tests of package meter with the SDK clients that hosts use, against a fake provider over
// TLS that keeps a ledger of its own. It is a module by itself, so that no host has to know of those clients.
package clienttest
