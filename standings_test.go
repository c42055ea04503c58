package usage

import (
	"fmt"
	"hash/maphash"
	"testing"
)

func TestStandingsForgetTheOldestOfTooMany(t *testing.T) {
	t.Parallel()
	const tenants = 2 * buckets * maxBucket
	s := &standings{seed: maphash.MakeSeed()}
	for i := range tenants {
		id := fmt.Sprint("tenant ", i)
		if m := s.of(id); m != s.of(id) || m != s.find(id) {
			t.Fatalf("%s is forgotten at once", id)
		}
	}
	kept := 0
	for i := range tenants {
		if m := s.find(fmt.Sprint("tenant ", i)); m != nil {
			kept++
			if want := fmt.Sprint("tenant ", i); m.tenantID != want {
				t.Fatalf("%s is remembered for %s", m.tenantID, want)
			}
		}
	}
	if kept < 10_000 || kept > buckets*maxBucket {
		t.Errorf("%d tenants are remembered", kept)
	}
}
