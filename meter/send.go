package meter

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
)

// prepare reads what the request says, as far as that can be done before it is sent, and makes the request that is sent.
// A body that can be had again is read from a copy. One that cannot is read as it is sent, or held up to heldRequest when
// something has to be known before. The error is that of the context, which ended before.
func (f *flight) prepare(req *http.Request) error {
	f.request = req
	if req.Body == nil || req.Body == http.NoBody {
		f.watch(req)
		return nil
	}
	cfg := &f.transport.cfg
	f.body = &f.carried
	f.carried.ReadCloser, f.carried.length, f.carried.limit = req.Body, req.ContentLength, cfg.RequestLimit
	f.carried.contentType, f.carried.encoding = header(req.Header, "Content-Type"), header(req.Header, "Content-Encoding")
	if !f.prepareCopy(req) {
		if cfg.Reserve || cfg.AskForUsage {
			if err := f.body.hold(req.Context()); err != nil {
				return err
			}
		} else {
			f.body.scanner = newRequestScanner(f.body.contentType, f.body.encoding, cfg.RequestLimit)
		}
		f.request = req.WithContext(req.Context()) // a clone: a RoundTripper leaves its request as it is
		f.request.Body = f.body
	}
	if insert, at := f.ask(); insert != "" {
		f.askForUsage(insert, at)
	}
	return nil
}

// prepareCopy reads what the request says from a copy of its body, if it can be had. The body itself is sent as it is: a
// transport writes a body in one go with its head only when it sees that it is in memory. Whether it was sent is learnt by
// a trace.
func (f *flight) prepareCopy(req *http.Request) bool {
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	f.body.readAhead(body)
	_ = body.Close() // of what has only been read
	f.watch(req)
	return true
}

// sending is what is learnt of a request that is sent as it is, and not read along.
type sending struct {
	watched bool
	// tells says that the transport is one that tells by a trace, which asked shows of others; connected, that it had a
	// connection to write to.
	tells            bool
	asked, connected atomic.Bool
	trace            httptrace.ClientTrace
}

// watch makes the request that is sent as it is, with a trace by which the transport tells whether it could be.
func (f *flight) watch(req *http.Request) {
	s := &f.sending
	s.watched = true
	_, s.tells = f.transport.cfg.Base.(*http.Transport)
	s.trace.GetConn = func(string) { s.asked.Store(true) }
	s.trace.GotConn = func(httptrace.GotConnInfo) { s.connected.Store(true) }
	f.request = req.WithContext(httptrace.WithClientTrace(req.Context(), &s.trace))
}

// isSent reports whether the provider may have got all of the request, which ended in an error. One that is sent as it is
// may have been got as soon as there was a connection; where a transport tells nothing, only a failure to connect says that
// it was not.
func (f *flight) isSent(err error) bool {
	s := &f.sending
	if !s.watched {
		return f.body.isRead()
	}
	var operation *net.OpError
	isDial := errors.As(err, &operation) && operation.Op == "dial"
	return s.connected.Load() || !s.tells && !s.asked.Load() && !isDial
}

// heldRequest is how much of a body that cannot be had again is held when something has to be known of it before it is
// sent.
const heldRequest = 1 << 20

// requestBody is a request's body on its way to the provider.
type requestBody struct {
	io.ReadCloser
	length, limit         int64
	contentType, encoding string

	mu      sync.Mutex      // the transport reads while the response may come
	known   bool            // read ahead
	found   requestFacts    // by reading ahead, of the beginning at least
	scanner *requestScanner // reads along when the facts are not known
	read    int64
	sent    bool // all of it was read
}

// readAhead scans a copy of the body.
func (b *requestBody) readAhead(body io.Reader) {
	b.found, b.known = readRequest(body, b.contentType, b.encoding, b.limit), true
}

// readRequest scans a request that can be read to its end before it is sent, up to limit bytes of it, with what gzip it is
// in undone. It finds nothing in one that cannot be read.
func readRequest(body io.Reader, contentType, encoding string, limit int64) requestFacts {
	body, err := decoded(body, encoding)
	if err == nil {
		encoding = ""
	}
	s := newRequestScanner(contentType, encoding, limit)
	if from, ok := body.(io.WriterTo); ok { // it is in memory already
		_, err = from.WriteTo(limitedWriter{s})
	} else {
		_, err = io.Copy(scanWriter(s.write), io.LimitReader(body, limit+1))
	}
	if err != nil && s.facts.bytes <= limit {
		return requestFacts{}
	}
	return s.finish()
}

// isEncoded reports whether a body has a content encoding.
func isEncoded(encoding string) bool {
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// decoded returns what is in a body, and the body itself with errEncoding when it is in an encoding other than gzip.
func decoded(body io.Reader, encoding string) (io.Reader, error) {
	switch {
	case !isEncoded(encoding):
		return body, nil
	case strings.EqualFold(encoding, "gzip"), strings.EqualFold(encoding, "x-gzip"):
		return &gzipReader{body: body}, nil
	}
	return body, errEncoding
}

var errEncoding = errors.New("meter: the request has an encoding other than gzip")

// gzipReader decodes gzip from the first read on.
type gzipReader struct {
	body io.Reader
	zip  *gzip.Reader
}

func (r *gzipReader) Read(p []byte) (n int, err error) {
	if r.zip == nil {
		if r.zip, err = gzip.NewReader(r.body); err != nil {
			return 0, err
		}
	}
	return r.zip.Read(p)
}

// limitedWriter is a scanner that refuses what comes after its limit: a body that writes itself may be of any length.
type limitedWriter struct{ s *requestScanner }

var errRequestLimit = errors.New("meter: the request is longer than Config.RequestLimit")

func (w limitedWriter) Write(p []byte) (int, error) {
	if w.s.facts.bytes > w.s.limit {
		return 0, errRequestLimit
	}
	w.s.write(p)
	return len(p), nil
}

// hold reads ahead as much as may be held, and puts it back. A body that does not come is closed when the context ends,
// which is what makes its Read return.
func (b *requestBody) hold(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = b.Close() })
	held, err := io.ReadAll(io.LimitReader(b.ReadCloser, heldRequest))
	if !stop() {
		return ctx.Err()
	}
	found := readRequest(bytes.NewReader(held), b.contentType, b.encoding, b.limit)
	rest := io.Reader(b.ReadCloser)
	if err != nil {
		rest = brokenReader{err}
	}
	if len(held) < heldRequest && err == nil {
		b.found, b.known = found, true
	} else {
		b.scanner, b.found = newRequestScanner(b.contentType, b.encoding, b.limit), found // more of it may follow
		b.found.complete = false
	}
	b.ReadCloser = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(held), rest), b.ReadCloser}
	return nil
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// Read reads for the transport.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(max(n, 0))
	b.sent = b.sent || err == io.EOF || b.length > 0 && b.read >= b.length
	if b.scanner != nil && n > 0 {
		b.scanner.write(p[:n])
	}
	return n, err
}

// isRead reports whether the transport has read all of the body, which it does where it has a connection to write to.
func (b *requestBody) isRead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}

// facts returns what has been found by now.
func (b *requestBody) facts() requestFacts {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known || b.scanner == nil || b.scanner.facts.bytes < b.found.bytes {
		return b.found
	}
	return b.scanner.finish()
}

// ask returns what has to be put into the body, and where, for the stream to end with its usage. It is empty when the
// request is no streamed chat, says itself whether it wants the usage, or cannot be read.
func (f *flight) ask() (insert string, at int64) {
	asked := f.body.facts()
	isChat := f.observed.endpoint == chat || f.observed.endpoint == completions
	switch {
	case !f.transport.cfg.AskForUsage || !isChat || !asked.complete || isEncoded(f.body.encoding) || !asked.stream || asked.includeUsage != "":
		return "", 0
	case !asked.options:
		return `"stream_options":{"include_usage":true},`, asked.bodyAt
	case asked.optionsAt == 0:
		return "", 0
	case asked.optionsEmpty:
		return `"include_usage":true`, asked.optionsAt
	}
	return `"include_usage":true,`, asked.optionsAt
}

func (f *flight) askForUsage(insert string, at int64) {
	if f.request.Body == f.body {
		f.body.ReadCloser = inserted(f.body.ReadCloser, insert, at)
	} else {
		f.request.Body = inserted(f.request.Body, insert, at)
	}
	if f.request.ContentLength > 0 {
		f.request.ContentLength += int64(len(insert))
		f.body.length += int64(len(insert))
	}
	f.request.Header = f.request.Header.Clone()
	f.request.Header.Del("Content-Length") // that of the request counts
	if getBody := f.request.GetBody; getBody != nil {
		f.request.GetBody = func() (io.ReadCloser, error) {
			body, err := getBody()
			if err != nil {
				return nil, err
			}
			return inserted(body, insert, at), nil
		}
	}
}

// inserted is a body with a text put into it.
func inserted(body io.ReadCloser, insert string, at int64) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, at), strings.NewReader(insert), body), body}
}
