package answer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
)

// OpenAI is an assistant that answers with a model, over an endpoint with OpenAI's chat completions API. The model gets the
// newest part of the conversation as text. It gets the names of attachments and a note for each image. It is safe for
// concurrent use.
type OpenAI struct {
	completions  openai.ChatCompletionService
	model        string
	models       []string
	instructions string
	patience     time.Duration
	log          *slog.Logger
}

var _ chatkit.Responder = (*OpenAI)(nil)

// OpenAIOption configures an [OpenAI].
type OpenAIOption func(*OpenAI)

// WithModels names further models that a message may choose in its inference_options. Any other choice gets the model of
// [NewOpenAI].
func WithModels(models ...string) OpenAIOption { return func(a *OpenAI) { a.models = models } }

// WithInstructions puts a system message before every conversation.
func WithInstructions(text string) OpenAIOption { return func(a *OpenAI) { a.instructions = text } }

// WithPatience sets how long the endpoint may be silent, before its first word and between two words. The default is a
// minute.
func WithPatience(d time.Duration) OpenAIOption { return func(a *OpenAI) { a.patience = d } }

// WithLogger sets the logger for failures of the endpoint. The log has neither replies nor requests. The default is
// slog.Default.
func WithLogger(l *slog.Logger) OpenAIOption { return func(a *OpenAI) { a.log = l } }

// maxReply limits the bytes of an endpoint's reply.
const maxReply = 8 << 20

// NewOpenAI returns an OpenAI that uses the model at baseURL, such as https://api.openai.com/v1. apiKey may be empty if the
// endpoint needs none. The SDK's environment variables are ignored.
func NewOpenAI(baseURL, apiKey, model string, opts ...OpenAIOption) *OpenAI {
	a := &OpenAI{model: model, patience: time.Minute, log: slog.Default()}
	for _, o := range opts {
		o(a)
	}
	settings := []option.RequestOption{
		option.WithBaseURL(baseURL),
		// A redirect could send the conversation to another host.
		option.WithHTTPClient(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		option.WithMiddleware(bounded),
		option.WithMaxRetries(1), // one retry of a failed request; further retries are the user's decision
		option.WithMaxRetryDelay(2 * time.Second),
	}
	if apiKey != "" {
		settings = append(settings, option.WithAPIKey(apiKey))
	}
	a.completions = openai.NewChatCompletionService(settings...)
	return a
}

// bounded limits the length of replies, including error pages, which the SDK reads whole.
func bounded(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	res, err := next(req)
	if res != nil && res.Body != nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxReply), res.Body}
	}
	return res, err
}

// Respond answers the conversation with the model.
func (a *OpenAI) Respond(ctx context.Context, t *chatkit.Turn) error {
	past, err := t.History(ctx, maxMessages)
	if err != nil {
		return err
	}
	talk, err := transcribe(past)
	if err != nil {
		return err
	}
	if t.Thread.Title == "" && talk.first != "" {
		t.Thread.Title = titleOf(talk.first)
	}
	messages, fits := talk.newest(maxBytes)
	if !fits {
		return chatkit.Failure{Code: "custom", Message: "The message is too long for the model."}
	}
	if a.instructions != "" {
		messages = slices.Insert(messages, 0, openai.SystemMessage(a.instructions))
	}
	model := a.model
	if slices.Contains(a.models, talk.model) {
		model = talk.model
	}

	next, stop := iter.Pull2(a.pieces(ctx, openai.ChatCompletionNewParams{Model: model, Messages: messages}))
	defer stop()
	// The item is announced at the first word, so that a failing endpoint leaves no empty message.
	piece, err, ok := next()
	if err != nil {
		return err
	}
	return t.Say(ctx, func(yield func(string, error) bool) {
		for ok && yield(piece, err) {
			piece, err, ok = next()
		}
	})
}

// Act fails: the model creates no widgets.
func (a *OpenAI) Act(context.Context, *chatkit.Turn, chatkit.Action) error {
	return chatkit.Failure{Code: "custom", Message: "This assistant knows no actions."}
}

var (
	errSilent  = errors.New("silent for too long")
	errNothing = errors.New("an empty answer")
	errCut     = errors.New("cut off before the end")
)

// pieces yields the answer piece by piece. It yields an error if the answer is empty or incomplete.
func (a *OpenAI) pieces(ctx context.Context, params openai.ChatCompletionNewParams) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		asking, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silence := time.AfterFunc(a.patience, func() { cancel(errSilent) })
		defer silence.Stop()
		stream := a.completions.NewStreaming(asking, params)
		defer stream.Close()

		said, finished := false, false
		for stream.Next() {
			silence.Reset(a.patience)
			for _, c := range stream.Current().Choices {
				if c.Index != 0 {
					continue
				}
				finished = finished || c.FinishReason != ""
				piece := c.Delta.Content + c.Delta.Refusal
				if piece == "" {
					continue
				}
				said = true
				if !yield(piece, nil) {
					return
				}
			}
		}
		err := stream.Err()
		switch {
		case err != nil && context.Cause(asking) != nil:
			err = context.Cause(asking)
		case err == nil && !said:
			err = errNothing
		case err == nil && !finished:
			err = errCut
		}
		if err != nil {
			yield("", a.failure(ctx, err))
		}
	}
}

// failure logs a failure and returns the message for the user. Both leave out the key, the URL and the reply, which may
// repeat the request.
func (a *OpenAI) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := chatkit.Failure{Code: "custom", Message: "The model's answer was cut off.", AllowRetry: true}
	reason := fmt.Sprintf("%T", err)
	refused, isRefused := errors.AsType[*openai.Error](err)
	_, isInReply := errors.AsType[*ssestream.StreamError](err)
	atURL, isAtURL := errors.AsType[*url.Error](err)
	switch {
	case isRefused:
		reason = fmt.Sprintf("status %d", refused.StatusCode)
		f.Message, f.AllowRetry = refusal(refused.StatusCode)
	case isInReply:
		reason = "an error event"
		f.Message = "The model is not available now."
	case isAtURL:
		reason = atURL.Err.Error()
		f.Message = "The model cannot be reached."
	case err == errSilent:
		reason = err.Error()
		f.Message = "The model took too long to answer."
	case err == errNothing:
		reason = err.Error()
		f.Message = "The model said nothing."
	case err == errCut:
		reason = err.Error()
	}
	a.log.WarnContext(ctx, "the model did not answer", "reason", reason)
	return f
}

// refusal returns the message for the user for an HTTP status, and whether a retry may help.
func refusal(status int) (message string, again bool) {
	switch {
	case status == http.StatusTooManyRequests:
		return "The model is busy: try again in a moment.", true
	case status == http.StatusRequestTimeout || status >= http.StatusInternalServerError:
		return "The model is not available now.", true
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound:
		return "The model is not configured correctly on this server.", false
	}
	return "The model refused this conversation.", false
}
