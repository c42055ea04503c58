package meter

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/acf68eca/usage"
)

// route says whose server a request goes to.
type route struct {
	host, path string
	api        API
	provider   string
	// regional says that OpenAI keeps the call within a region, for which it charges more on newer models.
	regional bool
}

// hostOf returns host and port of a URL in one form.
func hostOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if port := u.Port(); port != "" && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80") {
		host += ":" + port
	}
	return host
}

// route returns where a request goes. ok is false when nobody knows the server.
func (t *Transport) route(u *url.URL) (found route, ok bool) {
	host := hostOf(u)
	for _, r := range t.routes {
		if r.host == host && (u.Path == r.path || strings.HasPrefix(u.Path, r.path+"/")) && (!ok || len(r.path) > len(found.path)) {
			found, ok = r, true
		}
	}
	if ok {
		return found, true
	}
	return builtin(host)
}

// builtin are the hosts of the providers themselves.
func builtin(host string) (route, bool) {
	switch {
	case host == "api.openai.com":
		return route{api: OpenAI, provider: usage.OpenAI}, true
	case strings.HasSuffix(host, ".api.openai.com"):
		return route{api: OpenAI, provider: usage.OpenAI, regional: true}, true
	case strings.HasSuffix(host, ".openai.azure.com"), strings.HasSuffix(host, ".cognitiveservices.azure.com"),
		strings.HasSuffix(host, ".services.ai.azure.com"):
		return route{api: OpenAI, provider: usage.OpenAI}, true
	case host == "api.elevenlabs.io", strings.HasPrefix(host, "api.") && strings.HasSuffix(host, ".elevenlabs.io"):
		return route{api: ElevenLabs, provider: usage.ElevenLabs}, true
	}
	return route{}, false
}

// maxStrangers bounds the hosts that are remembered to have been told of.
const maxStrangers = 64

// stranger tells, once for each host, of a request that looks like a call and goes to a server that is not configured.
func (t *Transport) stranger(req *http.Request) {
	if req.Method != http.MethodPost {
		return
	}
	if e := openAIEndpoint(req.URL.Path); e == unmetered || e == unknownEndpoint {
		return
	}
	host := hostOf(req.URL)
	t.mu.Lock()
	_, told := t.strangers[host]
	if told = told || len(t.strangers) >= maxStrangers; !told {
		t.strangers[host] = struct{}{}
	}
	t.mu.Unlock()
	if !told {
		t.cfg.Logger.Warn("meter: requests to this host are not metered: add it to Config.Hosts", "host", host)
	}
}
