package meter_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/acf68eca/usage/meter"
)

// Hosts lock goroutines to threads, for graphics, namespaces and C. The runtime ends the process for what is wrong with
// that, so it is tried in another one.
func TestAGzipResponseIsReadByGoroutinesLockedToThreads(t *testing.T) {
	t.Parallel()
	const variable = "METER_TEST_LOCKED"
	if mode := os.Getenv(variable); mode != "" {
		readLocked(t, mode)
		return
	}
	for _, mode := range []string{"the reader", "the maker, cancelled", "the closer"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), variable+"="+mode)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.500s", mode, err, out)
		}
	}
}

func readLocked(t *testing.T, mode string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if mode == "the maker, cancelled" {
		runtime.LockOSThread()
	}
	r := newRig(t, meter.Config{}, replies(200, jsonType, zipped(t, chatAnswer), "Content-Encoding", "gzip"))
	res, err := r.post(ctx, chatURL, chatRequest)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	locked := func(use func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			use()
		}()
		<-done
	}
	want := ""
	switch mode {
	case "the reader":
		locked(func() { _, _ = io.Copy(io.Discard, res.Body) })
	case "the closer":
		_, _ = io.ReadFull(res.Body, make([]byte, 12))
		locked(func() { res.Body.Close() })
		want = meter.UsageAbandoned
	default:
		_, _ = io.ReadFull(res.Body, make([]byte, 12))
		cancel()
		want = meter.UsageCancelled
	}
	if rec := r.one(); rec.Unpriced != want {
		t.Errorf("recorded %+v", rec)
	}
}
