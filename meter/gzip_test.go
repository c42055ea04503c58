package meter

import (
	"bytes"
	"compress/gzip"
	"runtime"
	"strings"
	"testing"
	"time"
)

func compressed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.Bytes()
}

func TestGunzipperGivesWhatIsThere(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	var out strings.Builder
	g := newGunzipper()
	defer g.close()
	for _, part := range []string{"data: 1\n\n", "data: 2\n\n"} {
		_, _ = z.Write([]byte(part))
		_ = z.Flush()
		g.write(b.Bytes(), func(p []byte) bool {
			out.Write(p)
			return true
		})
		b.Reset()
		if !strings.HasSuffix(out.String(), part) {
			t.Errorf("after %q there is %q", part, out.String())
		}
	}
}

// A decoder that is not used to its end leaves nothing behind.
func TestGunzipperEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		for _, body := range [][]byte{nil, []byte("no gzip"), compressed("hello")[:12], compressed("hello")} {
			g := newGunzipper()
			g.write(body, func([]byte) bool { return true })
			g.close()
			g.close()
		}
	}
	settled(t, before)
}

// Nothing is decoded beyond what is wanted: little gzip may be much.
func TestGunzipperStopsWhenNoMoreIsWanted(t *testing.T) {
	t.Parallel()
	g := newGunzipper()
	defer g.close()
	var seen int
	body := compressed(strings.Repeat("x", 8<<20))
	for range 2 {
		g.write(body, func(p []byte) bool {
			seen += len(p)
			return seen < 10_000
		})
	}
	if seen > 16<<10 {
		t.Errorf("decoded %d bytes", seen)
	}
}

// settled waits until no more goroutines run than did before.
func settled(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
