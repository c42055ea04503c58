package meter

import (
	"mime"
	"net/http"
	"strings"
)

const (
	jsonMedia  = "application/json"
	eventMedia = "text/event-stream"
)

// contentKind is how a response's body is read.
type contentKind uint8

const (
	// opaque bodies are only counted: audio, text, what is encoded in an unknown way.
	opaque contentKind = iota
	document
	events
)

// bodyScanner reads a response's body in pieces, up to a limit.
type bodyScanner struct {
	kind    contentKind
	encoded bool // it cannot be read
	limited bool // it was longer than the limit
	left    int64

	json   *jsonScanner
	events *eventScanner
	gzip   *gunzipper
}

// newBodyScanner chooses how to read a body by what its head says.
func (o *observation) newBodyScanner(h http.Header, limit int64) bodyScanner {
	b := bodyScanner{left: limit, kind: o.contentKind(mediaType(h))}
	switch encoding := strings.ToLower(strings.TrimSpace(header(h, "Content-Encoding"))); {
	case encoding == "" || encoding == "identity" || b.kind == opaque:
	case encoding == "gzip" || encoding == "x-gzip":
		b.gzip = newGunzipper()
	default:
		b.kind, b.encoded = opaque, true
	}
	switch {
	case b.kind == events:
		o.openAI.choices = o.request.choices
		b.events = newEventScanner(&o.openAI, o.endpoint != chat && o.endpoint != completions)
	case b.kind == document && o.api == OpenAI:
		b.json = newDocumentScanner(openAITree, &o.openAI)
	case b.kind == document:
		b.json = newDocumentScanner(elevenTree, &o.eleven)
	}
	return b
}

func (o *observation) contentKind(media string) contentKind {
	isText := strings.HasPrefix(media, "text/")
	switch {
	case isJSON(media), media == "", o.status >= 400 && isText:
		return document
	case o.api != OpenAI:
		return opaque
	case media == eventMedia, isText && o.request.stream:
		return events
	case isText && o.endpoint != transcription && o.endpoint != speech:
		return document // a server that does not say that it is JSON
	}
	return opaque
}

func mediaType(h http.Header) string { return mediaOf(header(h, "Content-Type")) }

// header is Header.Get for a name that is in its canonical form.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// mediaOf returns the type of a content type, in lower case and without parameters, "" when there is none.
func mediaOf(contentType string) string {
	if contentType == jsonMedia || contentType == eventMedia {
		return contentType // as nearly all of them are
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil { // of its parameters, mostly, which nobody needs
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	if !strings.Contains(media, "/") {
		return ""
	}
	return media
}

func isJSON(media string) bool {
	return media == jsonMedia || strings.HasSuffix(media, "+json")
}

// write reads on, and reports whether the response has said all that it will.
func (b *bodyScanner) write(p []byte) (done bool) {
	if b.kind == opaque || b.limited {
		return false
	}
	if b.gzip != nil {
		b.gzip.write(p, b.scan)
	} else {
		b.scan(p)
	}
	return b.whole()
}

// scan reads what has been decoded, and reports whether more is wanted: a few bytes of gzip may be gigabytes.
func (b *bodyScanner) scan(p []byte) bool {
	if b.left -= int64(len(p)); b.left < 0 {
		b.limited = true
		return false
	}
	if b.events != nil {
		b.events.write(p)
	} else {
		b.json.write(p)
	}
	return true
}

// finish is called once, when nothing more comes; isEnd says that the body has ended by itself.
func (b *bodyScanner) finish(isEnd bool) {
	if b.gzip != nil {
		if isEnd && !b.limited {
			b.gzip.end(b.scan)
		}
		b.gzip.close()
	}
	switch {
	case b.limited:
	case b.events != nil:
		b.events.finish()
	}
}

// whole reports whether the response has been read to its end.
func (b *bodyScanner) whole() bool {
	switch {
	case b.limited:
		return false
	case b.events != nil:
		return b.events.done
	case b.json != nil:
		return b.json.docs > 0
	}
	return false
}

// marked reports whether the response says that it is whole, so that the last usage in it is that of the call: it is one
// document, or a stream with an end mark.
func (b *bodyScanner) marked() bool {
	if b.events != nil {
		return b.events.decoder.done
	}
	return b.whole()
}

// newDocumentScanner reads one JSON document.
func newDocumentScanner(root *node, to sink) *jsonScanner {
	return &jsonScanner{root: root, sink: to, single: true}
}
