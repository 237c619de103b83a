package answer

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
)

// OpenAI is an assistant that answers with a model, over an endpoint with OpenAI's chat completions API. The endpoint may stream
// or not. The model gets the newest part of the conversation as text, in a form that strict endpoints take. It gets the names of
// attachments and a note for each image. Only the text of its answer is shown and stored, without its reasoning. If an answer is
// cut off, the part that was said is stored, with a mark as its last line. OpenAI is safe for concurrent use.
type OpenAI struct {
	endpoint     *endpoint
	model        string
	models       []string
	instructions string
	patience     time.Duration
	context      int
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

// DefaultPatience and DefaultContext are the defaults of [WithPatience] and [WithContext].
const (
	DefaultPatience = 2 * time.Minute
	DefaultContext  = 128 << 10
)

// WithPatience sets how long the endpoint may be silent, before its first word and between two words. Reasoning counts as
// words, comments do not. The default is DefaultPatience, 2 minutes.
func WithPatience(d time.Duration) OpenAIOption { return func(a *OpenAI) { a.patience = d } }

// WithContext sets how many bytes of a conversation the model gets at most, besides the instructions. A token has about four
// bytes. The oldest turns are left out. A newest turn that is longer is refused. The default is DefaultContext, 128 KiB. If the
// endpoint says that a conversation is too long for the model, OpenAI tries again with less, down to the newest turn.
func WithContext(bytes int) OpenAIOption { return func(a *OpenAI) { a.context = bytes } }

// WithLogger sets the logger for failures of the endpoint. The log has neither replies nor requests. The default is
// slog.Default.
func WithLogger(l *slog.Logger) OpenAIOption { return func(a *OpenAI) { a.log = l } }

// NewOpenAI returns an OpenAI that uses the model at baseURL, such as https://api.openai.com/v1. apiKey may be empty if the
// endpoint needs none.
func NewOpenAI(baseURL, apiKey, model string, opts ...OpenAIOption) *OpenAI {
	a := &OpenAI{
		endpoint: newEndpoint(baseURL, strings.TrimSpace(apiKey)), model: model,
		patience: DefaultPatience, context: DefaultContext, log: slog.Default(),
	}
	for _, o := range opts {
		o(a)
	}
	a.endpoint.log = a.log
	return a
}

var (
	errEmpty   = chatkit.Failure{Code: "custom", Message: "The message has no text for the model."}
	errTooLong = chatkit.Failure{Code: "custom", Message: "The message is too long for the model. Please send a shorter one."}
)

// Respond answers the conversation with the model.
func (a *OpenAI) Respond(ctx context.Context, t *chatkit.Turn) error {
	if t.Message.ID != "" {
		if m, ok, err := chat.DecodeItem[chat.UserMessage](t.Message); err != nil || !ok || asked(m) == "" {
			return errEmpty
		}
	}
	past, err := t.History(ctx, maxItems)
	if err != nil {
		return err
	}
	talk := transcribe(past)
	entitle(t, talk.first)
	q := question{Model: a.model, Stream: true}
	if slices.Contains(a.models, talk.model) {
		q.Model = talk.model
	}
	turns, size := talk.newest(a.context)
	switch {
	case len(turns) == 0:
		return errEmpty
	case size > a.context:
		return errTooLong
	}
	for try := 1; ; try++ {
		q.Messages = messages(a.instructions, turns)
		said, err := a.answer(ctx, t, q)
		entitle(t, firstLine(said))
		r, isRefused := errors.AsType[*refused](err)
		switch {
		case err == nil:
			return nil
		case said != "" || !isRefused || ctx.Err() != nil:
			return a.failure(ctx, said, err)
		case r.noStream && q.Stream:
			q.Stream = false
		case r.tooLong && len(turns) > 1:
			a.log.WarnContext(ctx, "the model gets less of the conversation", "bytes", size, "reason", err)
			if turns, size = talk.newest(size / 2); try >= maxTries {
				turns, size = talk.newest(0)
			}
		default:
			return a.failure(ctx, said, err)
		}
	}
}

// maxTries is how often half of a conversation that is too long is tried. Then the newest turn is tried alone.
const maxTries = 4

// Act fails: the model creates no widgets.
func (a *OpenAI) Act(context.Context, *chatkit.Turn, chatkit.Action) error {
	return chatkit.Failure{Code: "custom", Message: "This assistant knows no actions."}
}

// answer streams the model's answer and returns what the model said. The error says why that is nothing, or incomplete. The item
// is announced at the first word, so that a failing endpoint leaves no empty message.
func (a *OpenAI) answer(ctx context.Context, t *chatkit.Turn, q question) (string, error) {
	next, stop := iter.Pull2(a.pieces(ctx, q))
	defer stop()
	piece, why, ok := next()
	if why != nil {
		return "", why
	}
	var said strings.Builder
	err := t.Say(ctx, func(yield func(string, error) bool) {
		for ; ok; piece, why, ok = next() {
			if why != nil {
				yield("\n\n"+markOf(why), nil)
				return
			}
			said.WriteString(piece)
			if !yield(piece, nil) {
				return
			}
		}
	})
	if err != nil {
		return said.String(), err
	}
	return said.String(), why
}

// pieces yields the answer piece by piece. The last pair is an error if the answer is empty or incomplete.
func (a *OpenAI) pieces(ctx context.Context, q question) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		asking, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silence := time.AfterFunc(a.patience, func() { cancel(errSilent) })
		defer silence.Stop()
		res, err := a.endpoint.ask(asking, q)
		if err != nil {
			yield("", unreached(causeOr(asking, err), "The model cannot be reached."))
			return
		}
		defer res.Body.Close()
		r := reading{yield: yield, kind: contentType(res)}
		for e, err := range events(res.Body) {
			if err != nil {
				r.broken = unreached(causeOr(asking, err), "The model's answer was cut off.")
				break
			}
			if r.take(e); r.over {
				break
			}
			patience := a.patience
			if r.finish != "" {
				// Some endpoints leave the connection open. Others send more text after a finish_reason.
				patience = min(patience, afterFinish)
			}
			silence.Reset(patience)
		}
		if err := r.end(); err != nil && !r.left {
			yield("", err)
		}
	}
}

// afterFinish is how long a finished reply may be silent before it counts as ended.
const afterFinish = 2 * time.Second

// causeOr returns why ctx ended, or else err.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
