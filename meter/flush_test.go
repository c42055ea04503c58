package meter_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/acf68eca/usage/meter"
)

// A call that was cancelled is not lost while Base has not given it up yet.
func TestFlushWaitsForACancelledCallThatHasNoResponse(t *testing.T) {
	t.Parallel()
	sent, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, meter.Config{}, func(req *http.Request) (*http.Response, error) {
		close(sent)
		<-release
		return nil, req.Context().Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, strings.NewReader(chatRequest))
		if res, err := r.transport.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}()
	<-sent
	r.flush() // which does not wait for a call that goes on
	cancel()
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := r.transport.Flush(over); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	flushed := make(chan error)
	go func() { flushed <- r.transport.Flush(t.Context()) }()
	close(release)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	if all := r.records(); len(all) != 1 || all[0].Error != "context canceled" {
		t.Errorf("recorded %+v", all)
	}
	<-done
}

// A redirection is no call, and a Base that panics has not answered: Flush waits for neither.
func TestFlushDoesNotWaitForWhatIsOver(t *testing.T) {
	t.Parallel()
	answers := []answer{replies(302, jsonType, ""), func(*http.Request) (*http.Response, error) { panic("base") }}
	for _, provider := range answers {
		r := newRig(t, meter.Config{}, provider)
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, io.NopCloser(strings.NewReader(chatRequest)))
		func() {
			defer func() { _ = recover() }()
			res, err := r.transport.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
		}()
		cancel()
		r.flush()
	}
}
