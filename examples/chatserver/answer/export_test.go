package answer

import (
	"net/http"

	"github.com/openai/openai-go/v3/option"
)

var Wait = (*Demo).wait

// Through replaces the network to the endpoint by rt.
func (a *OpenAI) Through(rt http.RoundTripper) {
	a.completions.Options = append(a.completions.Options, option.WithHTTPClient(&http.Client{Transport: rt}))
}
