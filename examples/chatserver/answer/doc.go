// Package answer has the assistants of the example: [Demo], which needs no network and shows everything that a stream can
// have, and [OpenAI], which has a model answer.
package answer
