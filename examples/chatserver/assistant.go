package main

import (
	"errors"
	"flag"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
)

// assistantFlags adds the flags of the assistant. The function that it returns builds the assistant when they are parsed.
func assistantFlags(flags *flag.FlagSet) func(*slog.Logger) (chatkit.Responder, error) {
	pace := flags.Duration("pace", 30*time.Millisecond, "the built-in assistant's time for a word")
	openaiURL := flags.String("openai-url", "",
		"the base `URL` of an OpenAI-compatible API that answers instead of the built-in assistant")
	openaiModel := flags.String("openai-model", "", "the model; after commas, further models that a message may choose")
	openaiSays := flags.String("openai-instructions", "", "a system message before every conversation")
	patience := flags.Duration("openai-patience", answer.DefaultPatience,
		"how long the model may be silent, before its first word and between two words")
	context := flags.Int("openai-context", answer.DefaultContext,
		"how many `bytes` of a conversation the model gets; a token has about four; the oldest turns are left out")
	return func(log *slog.Logger) (chatkit.Responder, error) {
		if *openaiURL == "" && *openaiModel == "" {
			return answer.NewDemo(answer.WithPace(*pace)), nil
		}
		if *patience <= 0 || *context <= 0 {
			return nil, errors.New("-openai-patience and -openai-context: must be positive")
		}
		return model(*openaiURL, *openaiModel, answer.WithInstructions(*openaiSays), answer.WithPatience(*patience),
			answer.WithContext(*context), answer.WithLogger(log))
	}
}

// knowsCommands reports whether the assistant knows /help and the demo's other commands.
func knowsCommands(r chatkit.Responder) bool {
	_, demo := r.(*answer.Demo)
	return demo
}

// model returns the assistant of an endpoint. names begins with the default model.
func model(at, names string, opts ...answer.OpenAIOption) (chatkit.Responder, error) {
	if at == "" || names == "" {
		return nil, errors.New("-openai-url and -openai-model go together")
	}
	if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("-openai-url: must be an http or https URL")
	}
	key := strings.TrimSpace(os.Getenv("OPENAI_API_KEY"))
	if strings.ContainsFunc(key, unicode.IsControl) {
		return nil, errors.New("OPENAI_API_KEY: has a line break or another control character")
	}
	all := strings.Split(names, ",")
	return answer.NewOpenAI(at, key, all[0], append(opts, answer.WithModels(all[1:]...))...), nil
}
