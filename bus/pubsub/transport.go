package pubsub

import "context"

// Transport is a channel that delivers every payload to all connections, including the sender's. If one Publish or Send
// begins after another has returned, every connection receives their payloads in that order. There are no other
// requirements: payloads may be lost, duplicated or late, and the Bus notices.
//
// Every method must return soon after its context has ended. The Bus sets a time limit for each call in the context.
type Transport interface {
	// Connect returns a connection that receives every payload sent from now on. ctx applies to connecting only.
	Connect(ctx context.Context) (Conn, error)
	// Publish sends a payload, independently of the connections. An error means that it may not have been sent. Publish must
	// be safe for concurrent use.
	Publish(ctx context.Context, payload string) error
}

// Conn is a connection of a [Transport]. Only one goroutine uses it at a time.
type Conn interface {
	// Receive returns the next payload. If ctx ends, it returns an error, loses no payload, and leaves the connection
	// usable. Any other error is final: the Bus closes the connection. If the connection may have missed a payload, Receive
	// must return such an error. One cause is a client library that reconnects behind the Conn.
	Receive(ctx context.Context) (payload string, err error)
	// Send sends a payload, which comes back through Receive. An error is final.
	Send(ctx context.Context, payload string) error
	// Close closes the connection.
	Close() error
}
