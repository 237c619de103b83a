package chat_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/chatstore/chatstore/chat"
)

// Attachments are saved and cached on their own. An attachment must not keep its message in memory.
func TestAnAttachmentKeepsNothingOfItsMessage(t *testing.T) {
	it := item(t, `{"id":"msg_1","created_at":"2026-01-02T12:00:00Z","type":"user_message","content":[],`+
		`"quoted_text":"`+strings.Repeat("x", 1000)+`","attachments":[{"id":"atc_1","type":"file","name":"a","mime_type":"text/plain"}]}`)
	message := decode[chat.UserMessage](t, it)
	text, part := it.JSON().String(), message.Attachments[0].JSON().String()
	begin, at := uintptr(unsafe.Pointer(unsafe.StringData(text))), uintptr(unsafe.Pointer(unsafe.StringData(part)))
	if begin <= at && at < begin+uintptr(len(text)) {
		t.Error("the attachment's text shares the message's memory")
	}
}
