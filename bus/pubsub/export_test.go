package pubsub

// The codec, for tests of the wire format.
type Message = message

var (
	Encode         = encode
	Decode         = decode
	ErrUndecodable = errUndecodable
)
