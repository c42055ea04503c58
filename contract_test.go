package usage_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The program of a host that uses nearly everything prints what it has been promised.
func TestContract(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/contract/core.golden")
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	program := exec.CommandContext(t.Context(), "go", "run", "./testdata/contract")
	program.Stderr = &stderr
	got, err := program.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("what it prints (-want +got):\n%s", diff)
	}
}
