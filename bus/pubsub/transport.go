package pubsub

import "context"

// Transport reaches a channel that delivers every payload sent on it to everybody connected, the sender included. What is
// sent once an earlier sending has returned arrives after it, at everybody; nothing else is asked of it: a payload may get
// lost, double or late, and the Bus notices.
//
// Every method returns soon after its context has ended: a Bus bounds each call by that, and can be closed while one hangs.
type Transport interface {
	// Connect returns a connection that receives whatever is sent from now on. ctx is for connecting only.
	Connect(ctx context.Context) (Conn, error)
	// Publish sends a payload, without a connection of Connect's. An error means that it may not have been sent. It is safe
	// for concurrent use.
	Publish(ctx context.Context, payload string) error
}

// Conn is a connection of a [Transport]. It is used by one goroutine at a time.
type Conn interface {
	// Receive returns the next payload. The end of ctx makes it return an error and leaves the connection usable, and loses
	// nothing. Any other error is final: the Bus closes the connection. A connection that may have missed something, because
	// it was made anew behind the Conn for example, must say so by such an error.
	Receive(ctx context.Context) (payload string, err error)
	// Send sends a payload, which comes back through Receive. An error is final.
	Send(ctx context.Context, payload string) error
	// Close gives the connection up.
	Close() error
}
