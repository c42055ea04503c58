package meter

import (
	"compress/gzip"
	"errors"
	"io"
)

// gunzipper decodes gzip that comes in pieces. The standard library's decoder pulls its input, so it has a goroutine of
// its own, which runs only while write or end wait for it: never beside them. It begins with the first piece, and ends
// with the data, at the first fault in it, or by close. It is no coroutine of package iter: those may be resumed only by
// the thread that made them if a goroutine of the host's is locked to one.
type gunzipper struct {
	resume, paused chan struct{} // nil before the first piece
	stop, over     chan struct{}
	stopped        bool

	in    []byte
	out   func([]byte) bool
	ended bool
}

var errStopped = errors.New("meter: stopped")

func newGunzipper() *gunzipper { return &gunzipper{} }

// decode is the goroutine.
func (g *gunzipper) decode() {
	defer close(g.over)
	z, err := gzip.NewReader(g)
	if err != nil {
		return
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := z.Read(buf)
		if n > 0 && !g.out(buf[:n]) || err != nil {
			return
		}
	}
}

// Read gives the decoder what there is, and pauses for more.
func (g *gunzipper) Read(p []byte) (int, error) {
	for len(g.in) == 0 {
		if g.ended {
			return 0, io.EOF
		}
		g.paused <- struct{}{}
		select {
		case <-g.resume:
		case <-g.stop:
			return 0, errStopped
		}
	}
	n := copy(p, g.in)
	g.in = g.in[n:]
	return n, nil
}

// write decodes a piece and hands the result to out before it returns. Nothing more is decoded once out says that it
// wants no more.
func (g *gunzipper) write(p []byte, out func([]byte) bool) {
	g.in, g.out = p, out
	g.run()
	g.in = nil // the piece is the caller's
}

func (g *gunzipper) end(out func([]byte) bool) {
	g.ended, g.out = true, out
	g.run()
}

// run lets the decoder go on until it pauses or is over.
func (g *gunzipper) run() {
	switch {
	case g.stopped:
		return
	case g.resume == nil:
		g.resume, g.paused = make(chan struct{}), make(chan struct{})
		g.stop, g.over = make(chan struct{}), make(chan struct{})
		go g.decode()
	default:
		select {
		case g.resume <- struct{}{}:
		case <-g.over:
			return
		}
	}
	select {
	case <-g.paused:
	case <-g.over:
	}
}

// close ends the goroutine, and returns when it has ended. It may be called again.
func (g *gunzipper) close() {
	if !g.stopped && g.stop != nil {
		close(g.stop)
		<-g.over
	}
	g.stopped = true
}
