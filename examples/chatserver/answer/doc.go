// Package answer has the assistants of the example. [Demo] needs no network and shows every kind of event. [OpenAI] answers
// with a model.
package answer
