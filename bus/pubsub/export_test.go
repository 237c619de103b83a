package pubsub

// The codec, for tests of what travels.
type Message = message

var (
	Encode         = encode
	Decode         = decode
	ErrUndecodable = errUndecodable
)
