// Package chat defines the values of a chat conversation and their JSON: threads, items, attachments, and the typed bodies
// of items. The JSON is the format of the ChatKit backend SDKs (Python openai-chatkit, Node chatkit-node-backend-sdk).
//
// Use it to read, build and change conversations. Package store saves and loads them.
//
//	item, err := chat.NewItem("msg_1", time.Now(), chat.UserMessage{Content: []chat.UserContent{{Text: "Hello"}}})
//	message, ok, err := chat.DecodeItem[chat.UserMessage](item)
//
// Values are small structs that can be copied and shared. A value keeps the JSON that it was parsed from, byte for byte,
// including members that this package does not know. Setting a field changes that member of the JSON and nothing else.
//
// A store checks every value that it saves, and so does Normalized. A broken rule is an [*Error], which wraps [ErrInvalid].
//
//   - An id, a tenant and a subject have 1 to [MaxIDBytes] bytes of valid UTF-8 without control characters. A type matches
//     [a-z0-9_.]{1,64}.
//   - A payload is valid JSON. Outside free-form parts (fields of type [JSON]), no object repeats a name.
//   - Times lie in the years 1 to 9999. They are stored in UTC, cut to microseconds.
package chat
