package pubsub

import "context"

// Transport reaches a channel that delivers every payload to everybody connected, the sender included. A payload whose
// sending began after an earlier sending had returned arrives after it, at everybody. Nothing else is required: a payload
// may get lost, double or late, and the Bus notices.
//
// Every method must return soon after its context has ended. A Bus bounds each call by its context.
type Transport interface {
	// Connect returns a connection that receives whatever is sent from now on. ctx is for connecting only.
	Connect(ctx context.Context) (Conn, error)
	// Publish sends a payload, without a connection of Connect's. An error means that it may not have been sent. Publish must
	// be safe for concurrent use.
	Publish(ctx context.Context, payload string) error
}

// Conn is a connection of a [Transport]. It is used by one goroutine at a time.
type Conn interface {
	// Receive returns the next payload. When ctx ends, it returns an error, loses nothing, and leaves the connection usable.
	// Any other error is final: the Bus closes the connection. Receive must return such an error when the connection may have
	// missed something, for example because a client library has made a new connection behind the Conn.
	Receive(ctx context.Context) (payload string, err error)
	// Send sends a payload, which comes back through Receive. An error is final.
	Send(ctx context.Context, payload string) error
	// Close gives the connection up.
	Close() error
}
