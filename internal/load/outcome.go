package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
)

// Origin says where an error comes from.
type Origin string

const (
	FromAPI       Origin = "api"       // one of the API's errors, by its name
	FromStatus    Origin = "status"    // an HTTP status without one, of a proxy for example
	FromTransport Origin = "transport" // no whole answer came
	FromHere      Origin = "client"    // the request could not be made
)

// ErrorName names an error so that the like can be counted.
type ErrorName struct {
	Origin Origin `json:"origin"`
	Name   string `json:"name"`
	Status int    `json:"status,omitempty"` // of HTTP, where there was one
	// Unknown says that the change may have happened all the same.
	Unknown bool `json:"outcomeUnknown,omitempty"`
}

// Operation is one operation of the load that has ended.
type Operation struct {
	Op    Op
	Convo string
	DID   string // who did it
	// Due is when it was to begin: in an open loop by the rate, else when it
	// did. Sent is when it began. Its latency is Done - Due.
	Due, Sent, Done time.Time
	// Epoch and Seq are what the answer told, 0 for what it did not tell.
	Epoch, Seq int64
	Err        error // nil: success, see package client
	// Conflict says that Err is EpochMismatch: others were faster, and the
	// service did what it should.
	Conflict bool
}

// Latency is how long whoever wanted the operation has waited for its end.
func (o *Operation) Latency() time.Duration { return o.Done.Sub(o.Due) }

// Failed reports whether the service did not do what it was asked for, though
// it could have.
func (o *Operation) Failed() bool { return o.Err != nil && !o.Conflict }

// NameError names err, which came from package client.
func NameError(err error) ErrorName {
	n := ErrorName{Origin: FromHere, Name: "request not made", Unknown: client.OutcomeUnknown(err)}
	var refusal *client.Error
	var lost *client.ConnectionError
	switch {
	case errors.As(err, &refusal) && word(string(refusal.Name)):
		n.Origin, n.Name, n.Status = FromAPI, string(refusal.Name), refusal.Status
	case errors.As(err, &refusal):
		n.Origin, n.Status = FromStatus, refusal.Status
		if n.Name = http.StatusText(refusal.Status); n.Name == "" {
			n.Name = "status " + strconv.Itoa(refusal.Status)
		}
	case errors.As(err, &lost):
		n.Origin, n.Name = FromTransport, transportName(lost.Err)
	}
	return n
}

// word reports whether s can be the name of one of the API's errors, and not
// whatever else a server may say.
func word(s string) bool {
	other := func(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') }
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, other)
}

func transportName(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	case errors.As(err, &dns):
		return "name not resolved"
	case errors.As(err, &cert):
		return "certificate not valid"
	case errors.Is(err, context.Canceled):
		return "broken off"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	default:
		return "connection failed"
	}
}

func conflict(err error) bool {
	return client.NameOf(err) == conversation.EpochMismatch && !client.OutcomeUnknown(err)
}
