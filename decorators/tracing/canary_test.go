package tracing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// canary is in everything that people wrote, or that says who they are, and must come out nowhere.
const canary = "c4n4ry"

// fill puts the canary into every field of v, a value of a body.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString(canary)
	case reflect.Struct:
		switch p := v.Addr().Interface().(type) {
		case *chat.JSON:
			*p = must(chat.ParseJSON(`{"` + canary + `":"` + canary + `"}`))
		case *chat.Attachment:
			*p = canaryAttachment()
		default:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func canaryBody[T chat.Body]() chat.Body {
	var body T
	fill(reflect.ValueOf(&body).Elem())
	return body
}

// canaryBodies are all bodies with content.
func canaryBodies() []chat.Body {
	return []chat.Body{
		canaryBody[chat.UserMessage](), canaryBody[chat.AssistantMessage](), canaryBody[chat.ClientToolCall](),
		canaryBody[chat.Widget](), canaryBody[chat.GeneratedImage](), canaryBody[chat.StructuredInput](),
		canaryBody[chat.TaskItem](), canaryBody[chat.WorkflowItem](), canaryBody[chat.HiddenContextItem](),
		canaryBody[chat.SDKHiddenContext](),
	}
}

func canaryAttachment() chat.Attachment {
	return must(chat.NewAttachment("atc_1", chat.AttachmentBody{
		Type: "image", Name: canary, MIMEType: "image/" + canary, PreviewURL: "https://x.test/" + canary,
		Upload: &chat.UploadDescriptor{
			URL: "https://x.test/" + canary, Method: "PUT", Headers: map[string]string{canary: canary},
		},
		Metadata: must(chat.ParseJSON(`{"` + canary + `":1}`)),
	}))
}

var canaryPrincipal = store.Principal{
	Owner: chat.Owner{Tenant: "tenant-" + canary, Subject: "subject-" + canary}, Roles: []string{canary},
}

// conversation makes every call of s with the canary in all content and in the cursors. The ids of the calls do not have it:
// the rows that the cursors are the ids of are put into base.
func conversation(ctx context.Context, t *testing.T, s, base store.Store) {
	t.Helper()
	ctx = store.WithPrincipal(ctx, canaryPrincipal)
	object := must(chat.ParseJSON(`{"` + canary + `":"` + canary + `"}`))
	thread := chat.Thread{
		ID: "thr_1", Title: canary, CreatedAt: noon, Status: chat.Status{Type: "locked", Reason: canary}, Metadata: object,
		AllowedImageDomains: must(chat.ParseJSON(`["` + canary + `.test"]`)), Owner: canaryPrincipal.Owner,
	}
	cursor := "thr_" + canary
	other := thread
	other.ID = cursor
	for _, err := range []error{s.SaveThread(ctx, thread), base.SaveThread(ctx, other)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _ = s.LoadThread(ctx, "thr_1")
	_, _ = s.LoadThreads(ctx, store.ThreadQuery{
		PageQuery: store.PageQuery{After: cursor}, Owner: store.OwnedBy(canaryPrincipal.Owner),
	})
	for i, body := range canaryBodies() {
		id := fmt.Sprint("msg_", i)
		item := must(chat.NewItem(id, noon, body))
		if !strings.Contains(item.JSON().String(), canary) {
			t.Fatalf("no canary in %v", item)
		}
		if err := errors.Join(s.AddThreadItem(ctx, "thr_1", item), s.SaveItem(ctx, "thr_1", item)); err != nil {
			t.Fatal(err)
		}
		_, _ = s.LoadItem(ctx, "thr_1", id)
	}
	if err := base.SaveItem(ctx, "thr_1", must(chat.NewItem("msg_"+canary+"_cursor", noon, chat.EndOfTurn{}))); err != nil {
		t.Fatal(err)
	}
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_" + canary + "_cursor"})
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_" + canary + "_unknown"})
	_ = s.SaveAttachment(ctx, canaryAttachment())
	_, _ = s.LoadAttachment(ctx, "atc_1")
	_ = s.DeleteAttachment(ctx, "atc_1")
	_ = s.DeleteThreadItem(ctx, "thr_1", "msg_1")
	_ = s.DeleteThread(ctx, "thr_1")
}

// canaryOutcomes are failures whose texts have the canary.
func canaryOutcomes() []func(context.Context, store.Op) error {
	err := errors.New(canary)
	return []func(context.Context, store.Op) error{
		func(context.Context, store.Op) error { return err },
		func(_ context.Context, op store.Op) error {
			return &store.Error{Op: op, Kind: canary, ID: canary, Code: store.CodeUnavailable, Field: canary, Cause: err}
		},
		func(context.Context, store.Op) error { return fmt.Errorf("%s: %w", canary, store.ErrDenied) },
		func(context.Context, store.Op) error { panic(canary) },
	}
}

func TestNoContentInSpans(t *testing.T) {
	tp, r := record()
	layer := tracing.New(tracing.WithTracerProvider(tp))
	base := memstore.New()
	conversation(t.Context(), t, layer(base), base)
	for _, do := range canaryOutcomes() {
		for _, op := range store.Ops() {
			_, _ = call(store.WithPrincipal(t.Context(), canaryPrincipal), store.Wrap(&spy{do: do}, layer), op)
		}
	}

	seen := map[string]bool{}
	for _, span := range r.Ended() {
		seen[span.Name()] = true
		stub := tracetest.SpanStubFromReadOnlySpan(span)
		text := fmt.Sprintf("%+v\n%s", stub, must(json.Marshal(stub)))
		if strings.Contains(text, canary) {
			t.Errorf("span %s has content: %s", span.Name(), text)
		}
	}
	if len(seen) != len(store.Ops()) {
		t.Errorf("spans of %d ops, want all", len(seen))
	}
}
