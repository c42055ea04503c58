package meter

import (
	"fmt"
	"io"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
)

// conversationTree is an agent's conversation as the API returns it, or as a webhook after the call wraps it.
// Source: the types of @elevenlabs/elevenlabs-js 2.73.0.
var conversationTree = &node{kids: append([]*node{{name: "data", kids: conversationNodes}}, conversationNodes...)}

var conversationNodes = []*node{
	{name: "conversation_id", field: fConversationID},
	{name: "status", field: fConversationStatus},
	{name: "metadata", kids: []*node{
		{name: "start_time_unix_secs", field: fStartedAt},
		{name: "call_duration_secs", field: fCallSeconds},
		{name: "cost", field: fCredits},
		{name: "cost_fiat", field: fFiat},
	}},
}

// conversation is what has been found of one.
type conversation struct {
	call   usage.ElevenLabsCall
	status string
	timed  bool
	fault  error
}

func (c *conversation) end() {}

func (c *conversation) found(f field, k kind, value []byte) {
	if k != text && k != literal || k == literal && string(value) == "null" {
		return
	}
	var err error
	switch f {
	case fConversationID:
		c.call.ID = cleaned(string(value), maxName)
	case fConversationStatus:
		c.status = string(value)
	case fCallSeconds:
		c.call.CallTime, err = parseSeconds(value)
		c.timed = err == nil
	case fCredits:
		c.call.Credits, err = parseCredits(value)
	case fFiat:
		c.call.ReportedCost.Decimal, c.call.ReportedCost.Valid, err = parseNumber(string(value))
	case fStartedAt:
		var since time.Duration
		if since, err = parseEpoch(value); since > 0 {
			c.call.At = time.Unix(0, 0).Add(since).UTC()
		}
	}
	if err != nil && c.fault == nil {
		c.fault = fmt.Errorf("%w: conversation: %w", ErrMalformed, err)
	}
}

// parseCredits reads credits, which are counted as whole ones: a started one counts.
func parseCredits(value []byte) (int64, error) {
	d, _, err := parseNumber(string(value))
	if err != nil {
		return 0, err
	}
	return parseCount([]byte(d.Ceil().String()))
}

// parseEpoch reads seconds since 1970.
func parseEpoch(value []byte) (time.Duration, error) {
	n, err := parseCount(value)
	if err != nil || n > 1<<32 {
		return 0, errCount
	}
	return time.Duration(n) * time.Second, nil
}

// ParseElevenLabsConversation reads a conversation with an agent, as GET /v1/convai/conversations/{id} answers it or the
// webhook after a call delivers it. Where ElevenLabs reports the cost in dollars (cost_fiat) the call is charged that;
// else it is charged by its length. Credits are counted. The call's Model is "agents", and the host adds the tenant.
//
// The error wraps ErrMalformed: no conversation, one that has not ended ("initiated", "in-progress", "processing"), or a
// number that is none. It is that of body when reading fails.
func ParseElevenLabsConversation(body io.Reader) (usage.ElevenLabsCall, error) {
	c := conversation{call: usage.ElevenLabsCall{Model: modelAgents}}
	s := newDocumentScanner(conversationTree, &c)
	if _, err := io.Copy(scanWriter(s.write), body); err != nil {
		return usage.ElevenLabsCall{}, fmt.Errorf("meter: read the conversation: %w", err)
	}
	switch {
	case s.docs == 0 || c.call.ID == "":
		return usage.ElevenLabsCall{}, fmt.Errorf("%w: not a conversation", ErrMalformed)
	case c.fault != nil:
		return usage.ElevenLabsCall{}, c.fault
	case c.status != "done" && c.status != "failed" && c.status != "":
		return usage.ElevenLabsCall{}, fmt.Errorf("%w: the conversation has not ended", ErrMalformed)
	case !c.timed && !c.call.ReportedCost.Valid && c.call.Credits == 0:
		c.call.UsageUnknown = UsageMissing
	}
	return c.call, nil
}

// ParseCharacterStats reads GET /v1/usage/character-stats, which ElevenLabs has deprecated: how much of its metric each label
// had, all intervals together. It is a report and is not logged: the calls in it are. Fractions are possible. The error
// wraps ErrMalformed.
func ParseCharacterStats(body []byte) (map[string]decimal.Decimal, error) {
	var stats struct {
		Usage map[string][]exactNumber `json:"usage"`
	}
	if err := decodeExactly(body, &stats); err != nil {
		return nil, err
	}
	totals := make(map[string]decimal.Decimal, len(stats.Usage))
	for label, values := range stats.Usage {
		var sum decimal.Decimal
		for _, value := range values {
			sum = sum.Add(value.Decimal)
		}
		totals[label] = sum
	}
	return totals, nil
}

// Subscription is what ElevenLabs says of an account's month: credits used and included.
type Subscription struct {
	// Tier is the plan, as ElevenLabsCall.Plan wants it.
	Tier                           string
	CharacterCount, CharacterLimit int64
	// ResetsAt is when the next month begins. Zero is unknown.
	ResetsAt time.Time
}

// ParseSubscription reads GET /v1/user/subscription. It is a report and is not logged. The error wraps ErrMalformed.
func ParseSubscription(body []byte) (Subscription, error) {
	var s struct {
		Tier  string      `json:"tier"`
		Count exactNumber `json:"character_count"`
		Limit exactNumber `json:"character_limit"`
		Reset exactNumber `json:"next_character_count_reset_unix"`
	}
	if err := decodeExactly(body, &s); err != nil {
		return Subscription{}, err
	}
	subscription := Subscription{Tier: s.Tier}
	for _, n := range []struct {
		to   *int64
		from exactNumber
	}{{&subscription.CharacterCount, s.Count}, {&subscription.CharacterLimit, s.Limit}} {
		whole, err := parseCount([]byte(n.from.Ceil().String()))
		if err != nil {
			return Subscription{}, fmt.Errorf("%w: subscription: %w", ErrMalformed, err)
		}
		*n.to = whole
	}
	if at, err := parseEpoch([]byte(s.Reset.String())); err == nil && at > 0 {
		subscription.ResetsAt = time.Unix(0, 0).Add(at).UTC()
	}
	return subscription, nil
}

// exactNumber is a number in JSON, or in a string, or null.
type exactNumber struct{ decimal.Decimal }

// UnmarshalJSON reads it without a float.
func (n *exactNumber) UnmarshalJSON(raw []byte) error {
	if len(raw) > 1 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	d, _, err := parseNumber(string(raw))
	n.Decimal = d
	return err
}
