package meter

import "bytes"

// mediaCounter measures the strings of a request that are pictures and the like in the form of text. They are taken off
// the bound of what is reserved, so nothing that a model reads as words may pass for one: it has to be the value of a
// member that holds files, and a data URL of a type that is no text. Everything in doubt counts as words.
type mediaCounter struct {
	n int64

	head   [64]byte // the beginning of the string that is being read, or of the one that was
	length int64    // of the string so far
	held   int      // of head
	member bool     // a value of a member that holds files comes next
	state  mediaState
}

type mediaState uint8

const (
	noMedia mediaState = iota
	maybeMedia
	isMedia
)

// fileMembers are the names of members that hold files, in the requests of OpenAI and of the servers that follow it.
var fileMembers = map[string]bool{
	"url": true, "image_url": true, "file_data": true, "image": true, "mask": true, "file_url": true, "audio_url": true, "video_url": true,
}

// fileTypes are types whose bytes are no words. A text in base64 is one.
var fileTypes = [][]byte{[]byte("image/"), []byte("audio/"), []byte("video/"), []byte("application/pdf;")}

// begin is called where a string begins.
func (m *mediaCounter) begin() {
	if m == nil {
		return
	}
	m.length, m.held, m.state = 0, 0, noMedia
	if m.member {
		m.state = maybeMedia
	}
	m.member = false
}

// colon is called where the last string turns out to be a name.
func (m *mediaCounter) colon() {
	if m != nil {
		m.member = m.held > 0 && m.head[m.held-1] == '"' && fileMembers[string(m.head[:m.held-1])]
	}
}

// other is called where something else stands in the place of a string.
func (m *mediaCounter) other() {
	if m != nil {
		m.member, m.held = false, 0
	}
}

// write takes a part of a string, its closing quote included.
func (m *mediaCounter) write(p []byte) {
	m.length += int64(len(p))
	if m.state == isMedia {
		m.n += int64(len(p))
		return
	}
	m.held += copy(m.head[m.held:], p)
	if m.state == maybeMedia && isDataURL(m.head[:m.held]) {
		m.state = isMedia
		m.n += m.length
	}
}

// isDataURL reports whether a string begins as a file in base64.
func isDataURL(head []byte) bool {
	rest, ok := bytes.CutPrefix(head, []byte("data:"))
	if !ok {
		return false
	}
	media, _, ok := bytes.Cut(rest, []byte("base64,"))
	if !ok || !bytes.HasSuffix(media, []byte{';'}) || bytes.IndexByte(media, ';') != len(media)-1 {
		return false
	}
	media = bytes.Replace(media, []byte(`\/`), []byte("/"), 1)
	for _, kind := range fileTypes {
		if bytes.HasPrefix(media, kind) {
			return bytes.IndexByte(media, ' ') < 0
		}
	}
	return false
}
