package chat_test

import (
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
)

func ExampleNewItem() {
	item, err := chat.NewItem("msg_1", time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), chat.UserMessage{
		Content: []chat.UserContent{{Text: "What is a Store?"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	item.ThreadID = "thr_1"
	fmt.Println(item)
	fmt.Println(item.JSON())
	// Output:
	// item "msg_1" (user_message)
	// {"id":"msg_1","thread_id":"thr_1","created_at":"2026-01-02T12:00:00Z","type":"user_message","content":[{"type":"input_text","text":"What is a Store?"}],"attachments":[],"inference_options":{}}
}

func ExampleDecodeItem() {
	item, err := chat.ParseItem(`{"id":"wf_1", "type":"workflow", "workflow":{"type":"custom","tasks":[{"type":"thought","content":"…"}]}}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	if w, ok, err := chat.DecodeItem[chat.WorkflowItem](item); ok {
		fmt.Println(w.Workflow.Type, len(w.Workflow.Tasks))
	} else if err != nil {
		fmt.Println(err)
	}
	body, _, _ := chat.DecodeItem[chat.Body](item) // the Go type follows from the item's type
	switch body.(type) {
	case chat.WorkflowItem:
		fmt.Println("a workflow")
	case nil:
		fmt.Println("of a type unknown to this version")
	}
	// Output:
	// custom 1
	// a workflow
}

// Only the bytes of the status change. Unknown members and white space stay as they are.
func ExampleItem_WithBody() {
	item, err := chat.ParseItem(`{"id":"tc_1", "type":"client_tool_call", "call_id":"c", "name":"pick", "arguments":{"n": 1.0}, "status":"pending", "new_in_v9":[1]}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	call, _, err := chat.DecodeItem[chat.ClientToolCall](item)
	if err != nil {
		fmt.Println(err)
		return
	}
	call.Status = "completed"
	item, err = item.WithBody(call)
	fmt.Println(item.JSON(), err)
	// Output:
	// {"id":"tc_1", "type":"client_tool_call", "call_id":"c", "name":"pick", "arguments":{"n": 1.0}, "status":"completed", "new_in_v9":[1]} <nil>
}

// A field that is set overrides the text. All other bytes stay as they are.
func ExampleThread() {
	thread, err := chat.ParseThread(`{"id":"thr_1", "title":null, "created_at":"2026-01-02T12:00:00.000", "metadata":{"big":12345678901234567890}}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	thread.Title = "A title"
	thread.Owner = chat.Owner{Tenant: "acme", Subject: "ada"} // never on the wire
	fmt.Println(thread)
	fmt.Println(thread.JSON())
	// Output:
	// thread "thr_1"
	// {"id":"thr_1", "title":"A title", "created_at":"2026-01-02T12:00:00.000", "metadata":{"big":12345678901234567890}}
}

func ExampleAttachment_WithBody() {
	attachment, err := chat.NewAttachment("atc_1", chat.AttachmentBody{
		Type: "file", Name: "a.pdf", MIMEType: "application/pdf",
		Upload: &chat.UploadDescriptor{URL: "https://files.example/atc_1", Method: "PUT"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := attachment.Decode()
	if err != nil {
		fmt.Println(err)
		return
	}
	body.Upload = nil // the upload is done
	attachment, err = attachment.WithBody(body)
	fmt.Println(attachment.JSON(), err)
	// Output:
	// {"id":"atc_1","type":"file","name":"a.pdf","mime_type":"application/pdf","upload_descriptor":null} <nil>
}
