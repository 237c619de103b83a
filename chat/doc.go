// Package chat has the values of a chat conversation and their JSON: threads, the items of a thread, attachments, and the
// bodies of items. The JSON is that of the ChatKit backend SDKs (Python openai-chatkit, Node chatkit-node-backend-sdk).
//
// Use it to read, build and change conversations. Package store keeps them.
//
//	item, err := chat.NewItem("msg_1", time.Now(), chat.UserMessage{Content: []chat.UserContent{{Text: "Hello"}}})
//	message, ok, err := chat.DecodeItem[chat.UserMessage](item)
//
// A value is a small struct to be copied and shared. It keeps the JSON that it came from byte for byte, with the members that
// this package does not know. A field that is set changes its member of that JSON and no other.
//
// A value is checked when it is saved, and by its Normalized method. An id, a tenant and a subject have 1 to [MaxIDBytes] bytes
// of valid UTF-8 without control characters. An item's type matches [a-z0-9_.]{1,64}. A payload is valid JSON without repeated
// names outside of its free-form parts. Times are of the years 1 to 9999, kept in UTC and cut to microseconds. A value that
// breaks a rule is an [*Error], which wraps [ErrInvalid].
package chat
