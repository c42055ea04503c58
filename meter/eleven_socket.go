package meter

import (
	"encoding/json"
	"net/url"
	"unicode/utf8"

	"github.com/acf68eca/usage"
)

// ElevenLabsSocket counts what is spoken over one of ElevenLabs' text-to-speech websockets, which reports nothing itself:
// the text that is sent is what is charged. A websocket passes the Transport untouched, so the host hands the frames that
// it sends to Sent. The zero value is ready for use. It is not safe for concurrent use.
type ElevenLabsSocket struct {
	characters int64
	unread     bool
}

// Sent counts a frame that the host sends. The frame of one space that opens the connection, and the empty one that ends
// it, are not charged. The text is not kept.
func (s *ElevenLabsSocket) Sent(frame []byte) {
	var f struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(frame, &f) != nil {
		s.unread = true
		return
	}
	if f.Text != " " {
		s.characters += int64(utf8.RuneCountInString(f.Text))
	}
}

// Call returns what was spoken so far. address is that of the connection: the model stands in its query. The host adds
// the tenant, and an ID: the frames have none.
func (s *ElevenLabsSocket) Call(address *url.URL) usage.ElevenLabsCall {
	call := usage.ElevenLabsCall{
		Model: cleaned(address.Query().Get("model_id"), maxName), Characters: s.characters, Endpoint: address.Path,
	}
	if s.unread {
		call.Characters, call.UsageUnknown = 0, UsageRequestUnread
	}
	return call
}
