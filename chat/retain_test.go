package chat_test

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
)

// Attachments are saved and cached on their own. An attachment must not keep its message in memory.
func TestAnAttachmentKeepsNothingOfItsMessage(t *testing.T) {
	it := item(t, `{"id":"msg_1","created_at":"2026-01-02T12:00:00Z","type":"user_message","content":[],`+
		`"quoted_text":"`+strings.Repeat("x", 1000)+`","attachments":[{"id":"atc_1","type":"file","name":"a","mime_type":"text/plain"}]}`)
	message := decode[chat.UserMessage](t, it)
	if within(message.Attachments[0].JSON().String(), it.JSON().String()) {
		t.Error("the attachment's text shares the message's memory")
	}
}

// within reports whether s is a part of text, in the same memory.
func within(s, text string) bool {
	begin, at := uintptr(unsafe.Pointer(unsafe.StringData(text))), uintptr(unsafe.Pointer(unsafe.StringData(s)))
	return begin <= at && at < begin+uintptr(len(text))
}

func TestAKnownTypeKeepsNoItemInMemory(t *testing.T) {
	for _, id := range []string{"a", `\u0061`} { // an item with an escaped id is larger
		it := item(t, `{"id":"`+id+`","type":"end_of_turn","created_at":"2026-01-02T12:00:00Z"}`)
		if within(string(it.Type()), it.JSON().String()) {
			t.Errorf("%s: the type shares the item's memory", it.JSON())
		}
	}
}

// TestTheFootprintOfAnItem compares Footprint with the heap that parsed items hold.
func TestTheFootprintOfAnItem(t *testing.T) {
	for _, text := range []string{
		`{"id":"msg_1","thread_id":"thr_1","type":"end_of_turn","created_at":"2026-01-02T12:00:00Z"}`,
		`{"id":"msg_1","thread_id":"thr_1","type":"of_a_program","created_at":"2026-01-02T12:00:00Z"}`,
		`{"id":"\u006d` + strings.Repeat("x", 95) + `","thread_id":"\u0074` + strings.Repeat("y", 95) + `","type":"end_of_turn","created_at":"2026-01-02T12:00:00Z"}`,
	} {
		items := make([]chat.Item, 10_000)
		before := testenv.Heap()
		for i := range items {
			items[i] = item(t, text)
		}
		held := float64(testenv.Heap()-before) / float64(len(items))
		counted := float64(items[0].Footprint() - len(text)) // the text is not copied
		if counted > 1.05*held || counted < 0.85*held {
			t.Errorf("%s: Footprint has %v bytes beside the text, the heap %v", text, counted, held)
		}
		runtime.KeepAlive(items)
	}
}
