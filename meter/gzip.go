package meter

import (
	"compress/gzip"
	"errors"
	"io"
	"iter"
)

// gunzipper decodes gzip that comes in pieces. The standard library's decoder pulls its input, so it runs as a coroutine
// that gives way when it has used up what there is: it runs only within write and end, and needs no goroutine of its own.
type gunzipper struct {
	next  func() (struct{}, bool)
	stop  func()
	in    []byte
	out   func([]byte)
	ended bool
	yield func(struct{}) bool
}

var errStopped = errors.New("meter: stopped")

func newGunzipper() *gunzipper {
	g := &gunzipper{}
	g.next, g.stop = iter.Pull(func(yield func(struct{}) bool) {
		g.yield = yield
		g.decode()
	})
	return g
}

// decode is the coroutine. It ends with the data, at the first fault in it, and when it is stopped.
func (g *gunzipper) decode() {
	z, err := gzip.NewReader(g)
	if err != nil {
		return
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := z.Read(buf)
		if n > 0 {
			g.out(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// Read gives the decoder what there is, and waits within the coroutine for more.
func (g *gunzipper) Read(p []byte) (int, error) {
	for len(g.in) == 0 {
		if g.ended {
			return 0, io.EOF
		}
		if !g.yield(struct{}{}) {
			return 0, errStopped
		}
	}
	n := copy(p, g.in)
	g.in = g.in[n:]
	return n, nil
}

// write decodes a piece and hands the result to out before it returns.
func (g *gunzipper) write(p []byte, out func([]byte)) {
	g.in, g.out = p, out
	g.next()
	g.in = nil // the piece is the caller's
}

func (g *gunzipper) end(out func([]byte)) {
	g.ended, g.out = true, out
	g.next()
}

func (g *gunzipper) close() { g.stop() }
