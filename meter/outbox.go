package meter

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// outbox are the records that are being written, each beside the call that it is of.
type outbox struct {
	write func(context.Context, entry)

	mu      sync.Mutex
	writing map[*delivery]struct{}
	// idle is where goroutines that have written one wait for another: their stacks have grown to what that takes. It is
	// closed to send them away, which closing says will be done without a flush too.
	idle    chan *delivery
	closing bool
}

// delivery is one record, or one reservation that is given back.
type delivery struct {
	entry
	inline bool          // too many others wait
	done   chan struct{} // nil as long as no flush waits
}

// maxWriting is how many records may wait for the store before the next one holds up the call that it is of.
const maxWriting = 1024

// idleTime is how long goroutines may wait for another record before they end.
const idleTime = 100 * time.Millisecond

func newOutbox(write func(context.Context, entry)) *outbox {
	return &outbox{write: write, idle: make(chan *delivery), writing: make(map[*delivery]struct{})}
}

// add announces a record that is to be written. A flush waits for it from here on.
func (o *outbox) add(e entry) *delivery {
	d := &delivery{entry: e}
	o.mu.Lock()
	defer o.mu.Unlock()
	d.inline = len(o.writing) >= maxWriting
	o.writing[d] = struct{}{}
	return d
}

// run writes beside the caller, off its context: how long a commit may take is the tracker's to bound.
func (o *outbox) run(d *delivery) {
	if d.inline {
		o.deliver(d)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.idle <- d:
	default:
		go o.work(d)
	}
}

// work writes a record, and others for as long as they come.
func (o *outbox) work(d *delivery) {
	for d != nil {
		d = <-o.deliver(d)
	}
}

// deliver writes a record, and returns where to wait for another.
func (o *outbox) deliver(d *delivery) (next <-chan *delivery) {
	defer func() { next = o.delivered(d) }()
	o.write(context.Background(), d.entry)
	return nil
}

func (o *outbox) delivered(d *delivery) (next <-chan *delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if delete(o.writing, d); d.done != nil {
		close(d.done)
	}
	if !o.closing {
		o.closing = true
		time.AfterFunc(idleTime, o.dismiss)
	}
	return o.idle
}

// dismiss sends away the goroutines that wait.
func (o *outbox) dismiss() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.idle)
	o.idle, o.closing = make(chan *delivery), false
}

// flush waits for what is being written now, and leaves no goroutine behind that waits for more.
func (o *outbox) flush(ctx context.Context) error {
	defer o.dismiss()
	o.mu.Lock()
	waits := make([]<-chan struct{}, 0, len(o.writing))
	for d := range o.writing {
		if d.done == nil {
			d.done = make(chan struct{})
		}
		waits = append(waits, d.done)
	}
	o.mu.Unlock()
	for _, done := range waits {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("meter: flush: %w", ctx.Err())
		}
	}
	return nil
}
