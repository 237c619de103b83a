package answer

import (
	"net/http"

	"github.com/openai/openai-go/v3/option"
)

var Wait = (*Demo).wait

// Through has the endpoint asked through rt, in place of the network.
func (a *OpenAI) Through(rt http.RoundTripper) {
	a.completions.Options = append(a.completions.Options, option.WithHTTPClient(&http.Client{Transport: rt}))
}
