package clienttest

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"
	sashabaranov "github.com/sashabaranov/go-openai"
	"github.com/tmc/langchaingo/llms"
	langchain "github.com/tmc/langchaingo/llms/openai"
)

const (
	prompt = "Say hello"
	key    = "sk-test-0123456789"
)

// client is an SDK as a host uses it.
type client interface {
	// complete makes a call that does not stream.
	complete(ctx context.Context) error
	// stream makes one that does. The reader stops when onChunk, which is told of each chunk, says so, and closes if it
	// closes.
	stream(ctx context.Context, onChunk func() (stop bool), closes bool) error
	// retries reports whether the SDK tries again by itself.
	retries() bool
}

// makers make a client for a provider at an address.
var makers = map[string]func(url string, h *http.Client) client{
	"openai-go": func(url string, h *http.Client) client {
		return official{openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey(key), option.WithHTTPClient(h))}
	},
	"openai-go at Azure": func(url string, h *http.Client) client {
		return official{openai.NewClient(azure.WithEndpoint(url, "2024-10-21"), azure.WithAPIKey(key), option.WithHTTPClient(h))}
	},
	"go-openai": func(url string, h *http.Client) client {
		cfg := sashabaranov.DefaultConfig(key)
		cfg.BaseURL, cfg.HTTPClient = url+"/v1", h
		return community{sashabaranov.NewClientWithConfig(cfg)}
	},
	"langchaingo": func(url string, h *http.Client) client {
		llm, err := langchain.New(langchain.WithBaseURL(url+"/v1"), langchain.WithToken(key), langchain.WithHTTPClient(h), langchain.WithModel("gpt-4o"))
		if err != nil {
			panic(err)
		}
		return chain{llm}
	},
}

func readOn() bool { return false }

func stop() bool { return true }

var errStopped = errors.New("the reader has had enough")

type official struct{ openai.Client }

func (official) retries() bool { return true }

func (c official) params() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}}
}

func (c official) complete(ctx context.Context) error {
	_, err := c.Chat.Completions.New(ctx, c.params())
	return err
}

func (c official) stream(ctx context.Context, onChunk func() bool, closes bool) error {
	stream := c.Chat.Completions.NewStreaming(ctx, c.params())
	if closes {
		defer stream.Close()
	}
	for stream.Next() {
		if onChunk() {
			return errStopped
		}
	}
	return stream.Err()
}

type community struct{ *sashabaranov.Client }

func (community) retries() bool { return false }

func (c community) request() sashabaranov.ChatCompletionRequest {
	return sashabaranov.ChatCompletionRequest{
		Model: "gpt-4o", Messages: []sashabaranov.ChatCompletionMessage{{Role: "user", Content: prompt}},
	}
}

func (c community) complete(ctx context.Context) error {
	_, err := c.CreateChatCompletion(ctx, c.request())
	return err
}

func (c community) stream(ctx context.Context, onChunk func() bool, closes bool) error {
	stream, err := c.CreateChatCompletionStream(ctx, c.request())
	if err != nil {
		return err
	}
	if closes {
		defer stream.Close()
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if onChunk() {
			return errStopped
		}
	}
}

type chain struct{ llm *langchain.LLM }

func (chain) retries() bool { return false }

func (c chain) complete(ctx context.Context) error {
	_, err := llms.GenerateFromSinglePrompt(ctx, c.llm, prompt)
	return err
}

// stream closes always: langchaingo does it itself.
func (c chain) stream(ctx context.Context, onChunk func() bool, _ bool) error {
	_, err := llms.GenerateFromSinglePrompt(ctx, c.llm, prompt, llms.WithStreamingFunc(func(context.Context, []byte) error {
		if onChunk() {
			return errStopped
		}
		return nil
	}))
	return err
}
