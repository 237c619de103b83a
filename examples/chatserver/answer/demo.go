package answer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

// Demo is an assistant without a model. It answers from the conversation itself, and shows on command what an assistant can
// do. It is safe for concurrent use.
type Demo struct{ pace time.Duration }

var (
	_ chatkit.Responder = (*Demo)(nil)
	_ chatkit.SyncActor = (*Demo)(nil)
)

// Option configures a [Demo].
type Option func(*Demo)

// WithPace sets the time that a word takes. The default is 30 ms; 0 means no wait.
func WithPace(d time.Duration) Option { return func(a *Demo) { a.pace = d } }

// NewDemo returns a Demo.
func NewDemo(opts ...Option) *Demo {
	a := &Demo{pace: 30 * time.Millisecond}
	for _, o := range opts {
		o(a)
	}
	return a
}

// command is what the assistant does when a message begins with / and its name. rest is the text behind the name.
type command struct {
	name, args, help string
	do               func(a *Demo, ctx context.Context, t *chatkit.Turn, rest string) error
}

var commands []command

func init() { // set here, because help refers to commands
	commands = []command{
		{"help", "", "this list", (*Demo).help},
		{"long", " [words]", "a long answer, for trying stop, reload and retry", (*Demo).long},
		{"widget", "", "a card with a button", (*Demo).widget},
		{"workflow", "", "steps that are shown while they are taken", (*Demo).workflow},
		{"tool", "", "a tool that your browser runs", (*Demo).tool},
		{"form", "", "questions for you", (*Demo).form},
		{"image", "", "a picture that is shown while it is made", (*Demo).image},
		{"sources", "", "an answer with sources", (*Demo).sources},
		{"title", " NAME", "names the conversation", (*Demo).title},
		{"lock", "", "ends the conversation", (*Demo).lock},
		{"hidden", " TEXT", "remembers a text that you do not see", (*Demo).hidden},
		{"notice", "", "a message outside of the conversation", (*Demo).notice},
		{"progress", "", "what the assistant is doing", (*Demo).progress},
		{"effect", "", "something for your page to do", (*Demo).effect},
		{"remove", "", "a message that is removed again", (*Demo).remove},
		{"fail", " [retry]", "an error", (*Demo).fail},
		{"panic", "", "a bug", (*Demo).panic},
	}
}

// Respond runs the command in the message, or echoes the message. After a tool's output or a form, it repeats the answers.
func (a *Demo) Respond(ctx context.Context, t *chatkit.Turn) error {
	if t.Message.ID == "" {
		return a.goOn(ctx, t)
	}
	m, _, err := chat.DecodeItem[chat.UserMessage](t.Message)
	if err != nil {
		return err
	}
	text := textOf(m)
	entitle(t, text)
	if name, found := strings.CutPrefix(text, "/"); found {
		name, rest := firstWord(name)
		for _, c := range commands {
			if strings.EqualFold(c.name, name) {
				return c.do(a, ctx, t, rest)
			}
		}
	}
	return a.echo(ctx, t, m, text)
}

// textOf returns the text of a user's message.
func textOf(m chat.UserMessage) string {
	var parts []string
	for _, c := range m.Content {
		parts = append(parts, c.Text)
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

// firstWord splits a text at its first white space.
func firstWord(text string) (word, rest string) {
	if i := strings.IndexFunc(text, unicode.IsSpace); i >= 0 {
		return text[:i], strings.TrimSpace(text[i:])
	}
	return text, ""
}

// say streams a text word by word.
func (a *Demo) say(ctx context.Context, t *chatkit.Turn, text string) error {
	return a.stream(ctx, t, strings.SplitAfterSeq(text, " "))
}

func (a *Demo) stream(ctx context.Context, t *chatkit.Turn, words iter.Seq[string]) error {
	var said strings.Builder
	err := t.Say(ctx, func(yield func(string, error) bool) {
		for word := range words {
			said.WriteString(word)
			if err := a.wait(ctx, 1); err != nil {
				yield("", err)
				return
			}
			if !yield(word, nil) {
				return
			}
		}
	})
	entitle(t, firstLine(said.String()))
	return err
}

// wait waits for the time of the given number of words.
func (a *Demo) wait(ctx context.Context, words int) error {
	if a.pace == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(words) * a.pace)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Demo) echo(ctx context.Context, t *chatkit.Turn, m chat.UserMessage, text string) error {
	past, err := t.History(ctx, store.DefaultLimit)
	if err != nil {
		return err
	}
	said, first := 0, ""
	for _, it := range past {
		if m, ok, err := chat.DecodeItem[chat.UserMessage](it); err == nil && ok {
			first = cmp.Or(first, textOf(m))
			said++
		}
	}
	answer := "You said: " + text
	if text == "" {
		answer = "You said nothing."
	}
	if m.QuotedText != "" {
		answer += fmt.Sprintf("\n\nabout “%s”", m.QuotedText)
	}
	for _, f := range m.Attachments {
		if b, err := f.Decode(); err == nil {
			answer += fmt.Sprintf("\n\nwith %s (%s)", b.Name, b.MIMEType)
		}
	}
	switch {
	case len(past) == store.DefaultLimit:
		answer += "\n\nWe have been talking for a while."
	case said > 1:
		answer += fmt.Sprintf("\n\nThat is message %d. You began with “%s”.", said, titleOf(first))
	default:
		answer += "\n\nTry /help."
	}
	return a.say(ctx, t, answer)
}

// goOn answers the output of a tool, unless the assistant has answered since. Otherwise it answers the newest completed
// form.
func (a *Demo) goOn(ctx context.Context, t *chatkit.Turn) error {
	past, err := t.History(ctx, store.DefaultLimit)
	if err != nil {
		return err
	}
	spoken := false
	for _, it := range slices.Backward(past) {
		body, known, err := chat.DecodeItem[chat.Body](it)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		switch b := body.(type) {
		case chat.AssistantMessage:
			spoken = true
		case chat.ClientToolCall:
			if b.Status == "completed" && !spoken {
				return a.say(ctx, t, "Your browser says: "+plain(b.Output))
			}
		case chat.StructuredInput:
			if b.Status != "pending" {
				return a.say(ctx, t, "Thank you. "+answers(b))
			}
		}
	}
	return a.say(ctx, t, "Thank you.")
}

func answers(form chat.StructuredInput) string {
	var all []string
	for _, q := range form.Inputs {
		given := "no answer"
		if q.Answer != nil && !q.Answer.Skipped {
			given = strings.Join(q.Answer.Values, " and ")
		}
		all = append(all, q.Question+" "+given+".")
	}
	return strings.Join(all, " ")
}

func (a *Demo) help(ctx context.Context, t *chatkit.Turn, _ string) error {
	var b strings.Builder
	b.WriteString("I repeat what you say, and I know these commands:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "\n- `/%s`: %s", c.name+c.args, c.help)
	}
	return a.say(ctx, t, b.String())
}

func (a *Demo) long(ctx context.Context, t *chatkit.Turn, rest string) error {
	const most = 20_000
	n, err := strconv.Atoi(rest)
	if err != nil || n < 1 {
		n = 200
	}
	n = min(n, most)
	lyrics := strings.Fields("Time passes, the kettle hums, and every word that has arrived is a word that is kept.")
	return a.stream(ctx, t, func(yield func(string) bool) {
		for i := 0; i < n && yield(lyrics[i%len(lyrics)]+" "); i++ {
		}
	})
}

// done emits an item that is complete from the start.
func done(ctx context.Context, t *chatkit.Turn, body chat.Body) error {
	it, err := t.NewItem(ctx, body)
	if err != nil {
		return err
	}
	return t.Emit(ctx, chatkit.ItemDone{Item: it})
}

// literal returns JSON that is part of the program.
func literal(text string) chat.JSON {
	j, err := chat.ParseJSON(text)
	if err != nil {
		panic(err)
	}
	return j
}

// card returns the widget after n presses of its button.
func card(n int) chat.Widget {
	return chat.Widget{CopyText: "A card", Widget: literal(fmt.Sprintf(`{"type":"Card","children":[`+
		`{"type":"Title","value":"A card"},`+
		`{"type":"Text","id":"count","value":"The button was pressed %d times."},`+
		`{"type":"Button","label":"Press","onClickAction":{"type":"press","payload":{"times":%d}}}]}`, n, n+1))}
}

func (a *Demo) widget(ctx context.Context, t *chatkit.Turn, _ string) error {
	return done(ctx, t, card(0))
}

// pressed returns the card after the action, or nil for an unknown action.
func pressed(action chatkit.Action) (*chat.Item, error) {
	var payload struct {
		Times int `json:"times"`
	}
	if action.Type != "press" || action.Sender.ID == "" {
		return nil, nil
	}
	if err := action.Payload.Decode(&payload); err != nil {
		return nil, err
	}
	it, err := action.Sender.WithBody(card(payload.Times))
	return &it, err
}

// Act counts the presses of the card's button.
func (a *Demo) Act(ctx context.Context, t *chatkit.Turn, action chatkit.Action) error {
	it, err := pressed(action)
	if err != nil {
		return err
	}
	if it == nil {
		return chatkit.Failure{Code: "custom", Message: "I do not know this action."}
	}
	return t.Emit(ctx, chatkit.ItemReplaced{Item: *it})
}

// ActNow is like Act, for a client that waits for the new card.
func (a *Demo) ActNow(_ context.Context, _ chat.Thread, action chatkit.Action) (chat.Item, error) {
	it, err := pressed(action)
	if err != nil || it == nil {
		return chat.Item{}, err
	}
	return *it, nil
}

func (a *Demo) workflow(ctx context.Context, t *chatkit.Turn, _ string) error {
	flow := chat.WorkflowItem{Workflow: chat.Workflow{Type: "custom", Tasks: []chat.Task{}, Expanded: true}}
	it, err := t.NewItem(ctx, flow)
	if err != nil {
		return err
	}
	if err := t.Emit(ctx, chatkit.ItemAdded{Item: it}); err != nil {
		return err
	}
	for i, title := range []string{"Fill the kettle", "Boil the water", "Pour"} {
		task := chat.Task{Type: "custom", Title: title, StatusIndicator: "loading"}
		if err := t.Emit(ctx, chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.TaskAdded{Index: i, Task: task}}); err != nil {
			return err
		}
		if err := a.wait(ctx, 10); err != nil {
			return err
		}
		task.StatusIndicator = "complete"
		flow.Workflow.Tasks = append(flow.Workflow.Tasks, task)
		if err := t.Emit(ctx, chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.TaskUpdated{Index: i, Task: task}}); err != nil {
			return err
		}
	}
	flow.Workflow.Summary, flow.Workflow.Expanded = &chat.WorkflowSummary{Title: "Made tea"}, false
	if it, err = it.WithBody(flow); err != nil {
		return err
	}
	if err := t.Emit(ctx, chatkit.ItemDone{Item: it}); err != nil {
		return err
	}
	return a.say(ctx, t, "The tea is ready.")
}

func (a *Demo) tool(ctx context.Context, t *chatkit.Turn, _ string) error {
	call := chat.ClientToolCall{Name: "get_local_time", Arguments: literal("{}")}
	it, err := t.NewItem(ctx, call)
	if err != nil {
		return err
	}
	call.CallID = "call_" + it.ID
	if it, err = it.WithBody(call); err != nil {
		return err
	}
	return t.Emit(ctx, chatkit.ItemDone{Item: it})
}

func (a *Demo) form(ctx context.Context, t *chatkit.Turn, _ string) error {
	return done(ctx, t, chat.StructuredInput{Inputs: []chat.Input{
		{Type: "multiple_choice", ID: "drink", Question: "Tea or coffee?", Options: []chat.InputOption{{Value: "Tea"}, {Value: "Coffee"}}},
		{Type: "multiple_choice", ID: "with", Question: "With what?", Multiple: true, Options: []chat.InputOption{{Value: "Milk"}, {Value: "Sugar"}}},
		{Type: "freeform", ID: "else", Question: "Anything else?", Description: "In your own words"},
	}})
}

// picture returns an image as a data URL, because the demo needs no network. It grows with the progress.
func picture(progress float64) string {
	return fmt.Sprintf("data:image/svg+xml,%%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 320 180'%%3E"+
		"%%3Crect width='320' height='180' fill='%%23dbe4ee'/%%3E%%3Ccircle cx='160' cy='90' r='%.0f' fill='%%233a6ea5'/%%3E%%3C/svg%%3E", 70*progress)
}

func (a *Demo) image(ctx context.Context, t *chatkit.Turn, _ string) error {
	it, err := t.NewItem(ctx, chat.GeneratedImage{})
	if err != nil {
		return err
	}
	if err := t.Emit(ctx, chatkit.ItemAdded{Item: it}); err != nil {
		return err
	}
	for _, progress := range []float64{.25, .5, .75, 1} {
		if err := a.wait(ctx, 5); err != nil {
			return err
		}
		image := chat.Image{ID: it.ID, URL: picture(progress)}
		if err := t.Emit(ctx, chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.ImageUpdated{Image: image, Progress: &progress}}); err != nil {
			return err
		}
	}
	if it, err = it.WithBody(chat.GeneratedImage{Image: &chat.Image{ID: it.ID, URL: picture(1)}}); err != nil {
		return err
	}
	return t.Emit(ctx, chatkit.ItemDone{Item: it})
}

func (a *Demo) sources(ctx context.Context, t *chatkit.Turn, _ string) error {
	const text = "Water boils at a lower temperature on a mountain."
	end := len(text)
	source := func(s chat.Source) chat.Annotation { return chat.Annotation{Source: s, Index: &end} }
	all := []chat.Annotation{
		source(chat.Source{Type: "url", Title: "Boiling point", URL: "https://en.wikipedia.org/wiki/Boiling_point", Attribution: "Wikipedia"}),
		source(chat.Source{Type: "file", Title: "Tea at altitude", Filename: "altitude.pdf"}),
	}
	it, err := t.NewItem(ctx, chat.AssistantMessage{})
	if err != nil {
		return err
	}
	content := chat.AssistantContent{Text: text, Annotations: all}
	events := []chatkit.Event{
		chatkit.ItemAdded{Item: it},
		chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.PartAdded{}},
		chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.TextDelta{Delta: text}},
		chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.AnnotationAdded{Annotation: all[0]}},
		chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.AnnotationAdded{AnnotationIndex: 1, Annotation: all[1]}},
		chatkit.ItemUpdated{ItemID: it.ID, Update: chatkit.PartDone{Content: content}},
	}
	if it, err = it.WithBody(chat.AssistantMessage{Content: []chat.AssistantContent{content}}); err != nil {
		return err
	}
	for _, e := range append(events, chatkit.ItemDone{Item: it}) {
		if err := t.Emit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (a *Demo) title(ctx context.Context, t *chatkit.Turn, rest string) error {
	t.Thread.Title = titleOf(rest)
	return a.say(ctx, t, "This conversation is now called “"+t.Thread.Title+"”.")
}

func (a *Demo) lock(ctx context.Context, t *chatkit.Turn, _ string) error {
	t.Thread.Status = chat.Status{Type: chat.StatusLocked, Reason: "You asked for it."}
	return a.say(ctx, t, "Goodbye.")
}

func (a *Demo) hidden(ctx context.Context, t *chatkit.Turn, rest string) error {
	text, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	content, err := chat.ParseJSON(text)
	if err != nil {
		return err
	}
	if err := done(ctx, t, chat.HiddenContextItem{Content: content}); err != nil {
		return err
	}
	return a.say(ctx, t, "I'll remember.")
}

func (a *Demo) notice(ctx context.Context, t *chatkit.Turn, _ string) error {
	return t.Emit(ctx, chatkit.Notice{Level: "info", Title: "A notice", Message: "It is not part of the conversation."})
}

func (a *Demo) progress(ctx context.Context, t *chatkit.Turn, _ string) error {
	for _, text := range []string{"Looking for a cup", "Looking for another", "Found one"} {
		if err := t.Emit(ctx, chatkit.Progress{Text: text}); err != nil {
			return err
		}
		if err := a.wait(ctx, 10); err != nil {
			return err
		}
	}
	return a.say(ctx, t, "Here is your cup.")
}

func (a *Demo) effect(ctx context.Context, t *chatkit.Turn, _ string) error {
	return t.Emit(ctx, chatkit.ClientEffect{Name: "log", Data: literal(`{"message":"hello, page"}`)})
}

func (a *Demo) remove(ctx context.Context, t *chatkit.Turn, _ string) error {
	it, err := t.NewItem(ctx, chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "I did not say this."}}})
	if err != nil {
		return err
	}
	if err := t.Emit(ctx, chatkit.ItemDone{Item: it}); err != nil {
		return err
	}
	if err := a.wait(ctx, 20); err != nil {
		return err
	}
	return t.Emit(ctx, chatkit.ItemRemoved{ItemID: it.ID})
}

func (a *Demo) fail(_ context.Context, _ *chatkit.Turn, rest string) error {
	return chatkit.Failure{Code: "custom", Message: "The kettle is broken.", AllowRetry: rest == "retry"}
}

func (a *Demo) panic(context.Context, *chatkit.Turn, string) error {
	panic("answer: the bug of /panic")
}
