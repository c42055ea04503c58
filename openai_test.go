package usage

import (
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestOpenAILines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		call OpenAICall
		want []store.Line
	}{
		{
			"cached tokens are inside the input",
			OpenAICall{InputTokens: 2_006, CachedInputTokens: 1_920, OutputTokens: 300},
			[]store.Line{billed(InputTokens, 86), billed(InputCachedTokens, 1_920), billed(OutputTokens, 300)},
		},
		{
			"cache writes are charged instead of input",
			OpenAICall{InputTokens: 40_000, CachedInputTokens: 10_000, CacheWriteTokens: 20_000, CacheWrite12hTokens: 15_000, OutputTokens: 1_000},
			[]store.Line{
				billed(InputTokens, 10_000), billed(InputCachedTokens, 10_000), billed(InputCacheWriteTokens, 5_000),
				billed(InputCacheWrite12hTokens, 15_000), billed(OutputTokens, 1_000),
			},
		},
		{
			"reasoning is inside the output and counted",
			OpenAICall{InputTokens: 75, OutputTokens: 1_186, ReasoningTokens: 1_024},
			[]store.Line{billed(InputTokens, 75), billed(OutputTokens, 1_186), counted(ReasoningTokens, 1_024)},
		},
		{
			"cached audio and images are inside both their wholes",
			OpenAICall{
				InputTokens: 100, CachedInputTokens: 30, InputAudioTokens: 40, CachedAudioTokens: 10, InputImageTokens: 20,
				CachedImageTokens: 5, OutputTokens: 50, OutputAudioTokens: 20, OutputImageTokens: 10,
			},
			[]store.Line{
				billed(InputTokens, 25), billed(InputCachedTokens, 15), billed(InputAudioTokens, 30),
				billed(InputAudioCachedTokens, 10), billed(InputImageTokens, 15), billed(InputImageCachedTokens, 5),
				billed(OutputTokens, 20), billed(OutputAudioTokens, 20), billed(OutputImageTokens, 10),
			},
		},
		{
			"everything cached leaves no input line",
			OpenAICall{InputTokens: 10, CachedInputTokens: 10},
			[]store.Line{billed(InputCachedTokens, 10)},
		},
		{"audio without tokens is charged by time", OpenAICall{Audio: 62 * time.Second}, []store.Line{billed(AudioTime, 62_000)}},
		{"speech without tokens is charged by character", OpenAICall{Characters: 60}, []store.Line{billed(Characters, 60)}},
		{"images without tokens are charged each", OpenAICall{Images: 2}, []store.Line{billed(Images, 2)}},
		{
			"a call with tokens is charged by tokens",
			OpenAICall{InputTokens: 14, InputAudioTokens: 10, OutputTokens: 45, Audio: time.Second, Characters: 9, Images: 1},
			[]store.Line{
				billed(InputTokens, 4), billed(InputAudioTokens, 10), billed(OutputTokens, 45), counted(Characters, 9),
				counted(Images, 1), counted(AudioTime, 1_000),
			},
		},
		{
			"tools are charged besides the tokens",
			OpenAICall{InputTokens: 5_000, WebSearches: 2, FileSearches: 1, ContainerSessions: 3},
			[]store.Line{billed(InputTokens, 5_000), billed(WebSearches, 2), billed(FileSearches, 1), billed(ContainerSessions, 3)},
		},
		{"a failed call used nothing", OpenAICall{Status: 429}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.call.TenantID, tt.call.Model = "acme", "gpt-4"
			got, err := tt.call.draft()
			if err != nil {
				t.Fatal(err)
			}
			if diff := lineDiff(tt.want, got.record.Lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if got.query.PromptTokens != tt.call.InputTokens {
				t.Errorf("the prompt has %d tokens, want the whole input, %d", got.query.PromptTokens, tt.call.InputTokens)
			}
		})
	}
}

func TestOpenAIPartsAboveTheirWholeAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		call   OpenAICall
		fields []string
	}{
		{OpenAICall{InputTokens: 10, CachedInputTokens: 50}, []string{"CachedInputTokens"}},
		{OpenAICall{InputTokens: 10, CacheWriteTokens: 11}, []string{"CacheWriteTokens"}},
		{OpenAICall{InputTokens: 10, CacheWriteTokens: 5, CacheWrite12hTokens: 6}, []string{"CacheWrite12hTokens"}},
		{OpenAICall{InputTokens: 10, InputAudioTokens: 11}, []string{"InputAudioTokens"}},
		{OpenAICall{InputTokens: 10, CachedInputTokens: 5, CachedAudioTokens: 5}, []string{"CachedAudioTokens"}},
		{OpenAICall{InputTokens: 10, InputImageTokens: 11}, []string{"InputImageTokens"}},
		{OpenAICall{InputTokens: 10, CachedInputTokens: 5, CachedImageTokens: 5}, []string{"CachedImageTokens"}},
		{
			OpenAICall{InputTokens: 10, CachedInputTokens: 3, InputAudioTokens: 4, CachedAudioTokens: 2, InputImageTokens: 4, CachedImageTokens: 2},
			[]string{"CachedInputTokens"},
		},
		{OpenAICall{InputTokens: 10, CachedInputTokens: 6, CacheWriteTokens: 5}, []string{"InputTokens"}},
		{OpenAICall{InputTokens: 10, InputAudioTokens: 6, InputImageTokens: 5}, []string{"InputTokens"}},
		{OpenAICall{OutputTokens: 10, ReasoningTokens: 11}, []string{"ReasoningTokens"}},
		{OpenAICall{OutputTokens: 10, OutputAudioTokens: 11, OutputImageTokens: 12}, []string{"OutputAudioTokens", "OutputImageTokens"}},
		{OpenAICall{OutputTokens: 10, OutputAudioTokens: 6, ReasoningTokens: 5}, []string{"OutputTokens"}},
		{OpenAICall{InputTokens: -1, CachedInputTokens: 1<<63 - 1, Audio: -1}, []string{"InputTokens", "CachedInputTokens", "Audio"}},
		{OpenAICall{InputTokens: maxQuantity + 1}, []string{"InputTokens"}},
		// One fault hides no other.
		{OpenAICall{InputTokens: 10, CachedInputTokens: 50, OutputTokens: 10, OutputAudioTokens: -1}, []string{"CachedInputTokens", "OutputAudioTokens"}},
		{OpenAICall{InputTokens: 10, CachedInputTokens: 50, InputAudioTokens: -1, CachedAudioTokens: -2}, []string{"InputAudioTokens", "CachedAudioTokens", "CachedInputTokens"}},
		{OpenAICall{InputTokens: 10, CachedInputTokens: 50, OutputTokens: 10, OutputAudioTokens: 6, ReasoningTokens: 5}, []string{"CachedInputTokens", "OutputTokens"}},
		{OpenAICall{InputTokens: 10, CacheWriteTokens: 11, Images: -1}, []string{"CacheWriteTokens", "Images"}},
		{OpenAICall{Characters: -1, Images: -1, WebSearches: -1, FileSearches: -1, ContainerSessions: -1},
			[]string{"Characters", "Images", "WebSearches", "FileSearches", "ContainerSessions"}},
		{OpenAICall{ServiceTier: "a;b=c", ImageSize: strings.Repeat("1", 65), ImageQuality: "\x00"}, []string{"ServiceTier", "ImageSize", "ImageQuality"}},
	} {
		t.Run(strings.Join(tt.fields, " "), func(t *testing.T) {
			t.Parallel()
			tt.call.TenantID = "acme"
			_, err := tt.call.draft()
			wantFaults(t, err, tt.fields...)
		})
	}
}

func TestOpenAIConditions(t *testing.T) {
	t.Parallel()
	call := OpenAICall{
		TenantID: "acme", Model: "dall-e-3", ServiceTier: "Flex", Batch: true, RegionalProcessing: true,
		ImageSize: "1024x1024", ImageQuality: "HD",
	}
	d, err := call.draft()
	if err != nil {
		t.Fatal(err)
	}
	want := "batch=true;quality=hd;regional_processing=true;service_tier=flex;size=1024x1024"
	if d.record.Conditions != want {
		t.Errorf("conditions are %q, want %q", d.record.Conditions, want)
	}
	if diff := cmp.Diff(d.query.Conditions, parseConditions(want)); diff != "" {
		t.Errorf("asked and stored conditions differ:\n%s", diff)
	}
}

// checkOpenAISums fails unless the lines are disjoint parts of the provider's totals.
func checkOpenAISums(t interface{ Errorf(string, ...any) }, c OpenAICall, d *draft) {
	var in, out int64
	for _, line := range d.record.Lines {
		switch {
		case line.Quantity <= 0:
			t.Errorf("line %s has %d", line.Meter, line.Quantity)
		case line.Unbilled:
		case strings.HasPrefix(string(line.Meter), "input_"):
			in += line.Quantity
		case strings.HasPrefix(string(line.Meter), "output_"):
			out += line.Quantity
		}
	}
	if in != c.InputTokens || out != c.OutputTokens || d.query.PromptTokens != c.InputTokens {
		t.Errorf("lines add up to %d in and %d out, the prompt to %d, want %d and %d; %+v", in, out, d.query.PromptTokens, c.InputTokens, c.OutputTokens, c)
	}
}

func TestOpenAILinesAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) int64 { return rapid.Int64Range(0, maxQuantity/16).Draw(t, name) }
		text, cached, write, write12h := draw("text"), draw("cached"), draw("write"), draw("write 12h")
		audio, cachedAudio, image, cachedImage := draw("audio"), draw("cached audio"), draw("image"), draw("cached image")
		said, thought, outAudio, outImage := draw("said"), draw("thought"), draw("audio out"), draw("image out")
		call := OpenAICall{
			TenantID:          "acme",
			InputTokens:       text + cached + write + write12h + audio + cachedAudio + image + cachedImage,
			CachedInputTokens: cached + cachedAudio + cachedImage, CacheWriteTokens: write + write12h, CacheWrite12hTokens: write12h,
			InputAudioTokens: audio + cachedAudio, CachedAudioTokens: cachedAudio,
			InputImageTokens: image + cachedImage, CachedImageTokens: cachedImage,
			OutputTokens: said + thought + outAudio + outImage, ReasoningTokens: thought,
			OutputAudioTokens: outAudio, OutputImageTokens: outImage,
		}
		d, err := call.draft()
		if err != nil {
			t.Fatal(err)
		}
		checkOpenAISums(t, call, d)
		quantities := map[Meter]int64{}
		for _, line := range d.record.Lines {
			quantities[line.Meter] = line.Quantity
		}
		want := map[Meter]int64{
			InputTokens: text, InputCachedTokens: cached, InputCacheWriteTokens: write, InputCacheWrite12hTokens: write12h,
			InputAudioTokens: audio, InputAudioCachedTokens: cachedAudio, InputImageTokens: image,
			InputImageCachedTokens: cachedImage, OutputTokens: said + thought, OutputAudioTokens: outAudio,
			OutputImageTokens: outImage, ReasoningTokens: thought,
		}
		for meter, n := range want {
			if quantities[meter] != n {
				t.Errorf("%s is %d, want %d", meter, quantities[meter], n)
			}
		}
	})
}

func FuzzOpenAIDraft(f *testing.F) {
	f.Add("acme", "chatcmpl-1", "gpt-4", "default", "/v1?key=x", "", "10.0.0.1", int64(2006), int64(1920), int64(0), int64(0),
		int64(0), int64(0), int64(0), int64(0), int64(300), int64(0), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, tenant, id, model, tier, endpoint, failure, ip string, in, cached, write, write12h,
		audio, cachedAudio, image, cachedImage, out, reasoning, outAudio, outImage int64) {
		call := OpenAICall{
			TenantID: tenant, ID: id, Model: model, ServiceTier: tier, Endpoint: endpoint, Error: failure, IP: ip,
			InputTokens: in, CachedInputTokens: cached, CacheWriteTokens: write, CacheWrite12hTokens: write12h,
			InputAudioTokens: audio, CachedAudioTokens: cachedAudio, InputImageTokens: image, CachedImageTokens: cachedImage,
			OutputTokens: out, ReasoningTokens: reasoning, OutputAudioTokens: outAudio, OutputImageTokens: outImage,
		}
		d, err := call.draft()
		if err != nil {
			if !isClean(err.Error()) || len(err.Error()) > 4096 {
				t.Errorf("error is not a short clean line: %q", err)
			}
			return
		}
		checkOpenAISums(t, call, d)
		if len(d.record.Error) > maxErrorText || !isClean(d.record.Error+d.record.Endpoint+d.record.ID+d.record.Conditions) {
			t.Errorf("the record holds unclean text: %+v", d.record)
		}
		if diff := cmp.Diff(d.query.Conditions, parseConditions(d.record.Conditions)); diff != "" {
			t.Errorf("stored conditions differ:\n%s", diff)
		}
	})
}

func BenchmarkOpenAIDraft(b *testing.B) {
	call := OpenAICall{
		TenantID: "acme", ID: "chatcmpl-9f2bd1", Model: "gpt-4.1-2025-04-14", InputTokens: 2_006, CachedInputTokens: 1_920,
		OutputTokens: 300, Endpoint: "/v1/chat/completions", Status: 200, Latency: 820 * time.Millisecond,
	}
	for _, tier := range []string{"", "default"} {
		b.Run("tier "+tier, func(b *testing.B) {
			call.ServiceTier = tier
			b.ReportAllocs()
			for b.Loop() {
				if _, err := call.draft(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestOpenAIUsageOfAnotherServerIsThatServers(t *testing.T) {
	t.Parallel()
	for provider, want := range map[string]string{"": OpenAI, "my-vllm": "my-vllm"} {
		d, err := OpenAICall{TenantID: "acme", Provider: provider, InputTokens: 1}.draft()
		if err != nil || d.record.Provider != want || d.query.Provider != want {
			t.Errorf("%q is recorded for %q and priced by %q: %v", provider, d.record.Provider, d.query.Provider, err)
		}
	}
	_, err := OpenAICall{TenantID: "acme", Provider: "My vLLM"}.draft()
	wantFaults(t, err, "Provider")
}
