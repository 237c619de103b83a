package answer

import "net/http"

var Wait = (*Demo).wait

// Through replaces the network to the endpoint by rt.
func (a *OpenAI) Through(rt http.RoundTripper) { a.endpoint.client.Transport = rt }

// LimitText changes the limit of an answer's text, and returns a function that restores it.
func LimitText(bytes int) (restore func()) {
	before := maxText
	maxText = bytes
	return func() { maxText = before }
}
