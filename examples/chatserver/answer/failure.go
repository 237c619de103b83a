package answer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/chatstore/chatstore/chatkit"
)

// cut is an end of an answer that is no failure: what was said may be all. Its mark is the message's last line.
type cut struct{ mark, reason string }

func (c *cut) Error() string { return c.reason }

// trouble is a failure of the endpoint, with a sentence for the user.
type trouble struct {
	reason, message string
	again           bool // a retry may help
}

func (t *trouble) Error() string { return t.reason }

var (
	errSilent    = &trouble{"silent for too long", "The model took too long to answer.", true}
	errNothing   = &trouble{"an empty answer", "The model said nothing.", true}
	errTool      = &trouble{"only a call of a tool", "The model asked for a tool that this assistant does not have.", true}
	errCut       = &trouble{"cut off before the end", "The model's answer was cut off.", true}
	errTooMuch   = &trouble{"a reply that is too long", "The model's answer was too long.", false}
	errMalformed = &trouble{"malformed JSON", "The model's answer was cut off.", true}

	errUnsaid   = &cut{"[The answer may be incomplete.]", "no finish_reason"}
	errLength   = &cut{"[The answer reached the model's limit of length.]", "finish_reason length"}
	errFiltered = &cut{"[The answer was stopped by a content filter.]", "finish_reason content_filter"}
)

var plainType = regexp.MustCompile(`^[a-z]{1,20}/[a-z.+-]{1,40}$`)

const markCut = "[The answer was cut off.]"

func markOf(err error) string {
	if c, ok := errors.AsType[*cut](err); ok {
		return c.mark
	}
	return markCut
}

// withoutMark removes the mark of an incomplete answer.
func withoutMark(text string) string {
	for _, mark := range []string{markCut, errUnsaid.mark, errLength.mark, errFiltered.mark} {
		if said, found := strings.CutSuffix(text, "\n\n"+mark); found {
			return said
		}
	}
	return text
}

// shortened returns the error for a finish_reason that says that the answer is incomplete.
func shortened(finish string) error {
	switch strings.ToLower(finish) {
	case "length", "max_tokens":
		return errLength
	case "content_filter", "safety":
		return errFiltered
	}
	return nil
}

// foreign is the error for a reply that is no completion.
func foreign(contentType string) error {
	if !plainType.MatchString(contentType) {
		contentType = "of an odd content type"
	}
	return &trouble{"not a completion: " + contentType,
		"The address of the model on this server is wrong: something else than an OpenAI-compatible API answers there.", false}
}

// unreached is the error for a request or a reply that the network broke.
func unreached(err error, message string) error {
	switch err.(type) {
	case *trouble, *refused:
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooMuch
	}
	return &trouble{networkReason(err), message, true}
}

// networkReason returns the cause of a network's error. Errors of other kinds may quote the reply or the URL: of these it returns
// the type.
func networkReason(err error) string {
	var (
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		tls  tls.RecordHeaderError
		no   syscall.Errno
	)
	switch {
	case errors.As(err, &dns):
		return "lookup: " + dns.Err
	case errors.As(err, &no):
		return no.Error()
	case errors.As(err, &op) && op.Timeout():
		return op.Op + ": timeout"
	case errors.As(err, &cert):
		return "tls: the certificate is not valid"
	case errors.As(err, &tls):
		return "tls: " + tls.Msg
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the connection was closed"
	}
	for _, known := range knownTexts {
		if strings.Contains(err.Error(), known) {
			return known
		}
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return fmt.Sprintf("%T", err)
}

// knownTexts are parts of package http's errors that have no type of their own.
var knownTexts = []string{
	"malformed HTTP", "malformed MIME header", "malformed chunked encoding", "invalid header field value",
	"TLS handshake timeout", "server gave HTTP response to HTTPS client", "timeout awaiting response headers",
}

// failure logs why an answer is missing or incomplete, and returns the message for the user, if it is a failure. Both leave out the
// key, the URL and the reply, which may repeat the request. An error that is not the endpoint's is returned as it is.
func (a *OpenAI) failure(ctx context.Context, said string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := chatkit.Failure{Code: "custom"}
	var (
		t *trouble
		r *refused
		c *cut
	)
	switch {
	case errors.As(err, &t):
		f.Message, f.AllowRetry = t.message, t.again
	case errors.As(err, &r) && r.tooLong:
		f = errTooLong
	case errors.As(err, &r):
		f.Message, f.AllowRetry = refusal(r.status)
	case !errors.As(err, &c):
		return err
	}
	what := "the model did not answer"
	if said != "" {
		what = "the model's answer is incomplete"
	}
	a.log.WarnContext(ctx, what, "reason", err)
	if c != nil {
		return nil
	}
	return f
}

// refusal returns the message for the user for an HTTP status, and whether a retry may help. Status 0 stands for an error within a
// stream.
func refusal(status int) (message string, again bool) {
	switch {
	case status == http.StatusTooManyRequests:
		return "The model is busy: try again in a moment.", true
	case status == 0 || status == http.StatusRequestTimeout || status >= http.StatusInternalServerError:
		return "The model is not available now.", true
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status < 400:
		return "The model is not configured correctly on this server.", false
	}
	return "The model refused this conversation.", false
}
