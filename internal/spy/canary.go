package spy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// Canary is in all content and personal data of a test. No output may contain it.
const Canary = "c4n4ry"

// fill puts the canary into every field of v, the value of a body.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString(Canary)
	case reflect.Struct:
		switch p := v.Addr().Interface().(type) {
		case *chat.JSON:
			*p = testenv.OrPanic(chat.ParseJSON(`{"` + Canary + `":"` + Canary + `"}`))
		case *chat.Attachment:
			*p = canaryAttachment()
		default:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		}
	}
}

func canaryBody[T chat.Body]() chat.Body {
	var body T
	fill(reflect.ValueOf(&body).Elem())
	return body
}

// canaryBodies returns one body of each type that has content.
func canaryBodies() []chat.Body {
	return []chat.Body{
		canaryBody[chat.UserMessage](), canaryBody[chat.AssistantMessage](), canaryBody[chat.ClientToolCall](),
		canaryBody[chat.Widget](), canaryBody[chat.GeneratedImage](), canaryBody[chat.StructuredInput](),
		canaryBody[chat.TaskItem](), canaryBody[chat.WorkflowItem](), canaryBody[chat.HiddenContextItem](),
		canaryBody[chat.SDKHiddenContext](),
	}
}

func canaryAttachment() chat.Attachment {
	return testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{
		Type: "image", Name: Canary, MIMEType: "image/" + Canary, PreviewURL: "https://x.test/" + Canary,
		Upload: &chat.UploadDescriptor{
			URL: "https://x.test/" + Canary, Method: "PUT", Headers: map[string]string{Canary: Canary},
		},
		Metadata: testenv.OrPanic(chat.ParseJSON(`{"` + Canary + `":1}`)),
	}))
}

// Person is the caller of a [Conversation].
var Person = store.Principal{
	Owner: chat.Owner{Tenant: "tenant-" + Canary, Subject: "subject-" + Canary}, Roles: []string{Canary},
}

// Conversation makes a call of every op of s. All content and all cursors contain the canary; the other ids do not. Conversation
// saves the rows of the cursors in base.
func Conversation(ctx context.Context, t *testing.T, s, base store.Store) {
	t.Helper()
	ctx = store.WithPrincipal(ctx, Person)
	object := testenv.OrPanic(chat.ParseJSON(`{"` + Canary + `":"` + Canary + `"}`))
	thread := chat.Thread{
		ID: "thr_1", Title: Canary, CreatedAt: noon, Status: chat.Status{Type: "locked", Reason: Canary}, Metadata: object,
		AllowedImageDomains: testenv.OrPanic(chat.ParseJSON(`["` + Canary + `.test"]`)), Owner: Person.Owner,
	}
	cursor := "thr_" + Canary
	other := thread
	other.ID = cursor
	testenv.Must(t, errors.Join(s.SaveThread(ctx, thread), base.SaveThread(ctx, other)))
	_, _ = s.LoadThread(ctx, "thr_1")
	_, _ = s.LoadThreads(ctx, store.ThreadQuery{
		PageQuery: store.PageQuery{After: cursor}, Owner: store.OwnedBy(Person.Owner),
	})
	for i, body := range canaryBodies() {
		id := fmt.Sprint("msg_", i)
		item := testenv.OrPanic(chat.NewItem(id, noon, body))
		if !strings.Contains(item.JSON().String(), Canary) {
			t.Fatalf("%v does not contain the canary", item)
		}
		testenv.Must(t, errors.Join(s.AddThreadItem(ctx, "thr_1", item), s.SaveItem(ctx, "thr_1", item)))
		_, _ = s.LoadItem(ctx, "thr_1", id)
	}
	testenv.Must(t, base.SaveItem(ctx, "thr_1", testenv.OrPanic(chat.NewItem("msg_"+Canary+"_cursor", noon, chat.EndOfTurn{}))))
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_" + Canary + "_cursor"})
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_" + Canary + "_unknown"})
	_ = s.SaveAttachment(ctx, canaryAttachment())
	_, _ = s.LoadAttachment(ctx, "atc_1")
	_ = s.DeleteAttachment(ctx, "atc_1")
	_ = s.DeleteThreadItem(ctx, "thr_1", "msg_1")
	_ = s.DeleteThread(ctx, "thr_1")
}

// Leaks returns functions that fail with the canary in the error's text. The last one panics.
func Leaks() []func(context.Context, store.Op) error {
	err := errors.New(Canary)
	return []func(context.Context, store.Op) error{
		func(context.Context, store.Op) error { return err },
		func(_ context.Context, op store.Op) error {
			return &store.Error{Op: op, Kind: Canary, ID: Canary, Code: store.CodeUnavailable, Field: Canary, Cause: err}
		},
		func(context.Context, store.Op) error { return fmt.Errorf("%s: %w", Canary, store.ErrDenied) },
		func(context.Context, store.Op) error { panic(Canary) },
	}
}
