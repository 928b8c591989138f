package peer

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"catbird/conversation"
)

// Fields of a question.
const (
	fieldConvo       = 1
	fieldCaller      = 2
	fieldTimeLeft    = 3 // microseconds; absent: no deadline
	fieldMustServe   = 4
	fieldRequestID   = 5
	fieldTraceparent = 6
	fieldChangeID    = 7
	fieldKey         = 8
	fieldDigest      = 9
	fieldRetry       = 10
	fieldOffer       = 11 // repeated
	fieldTake        = 12 // repeated
	// The command: one of these.
	fieldAddMembers = 16
	fieldLeave      = 17
	fieldCommit     = 18
	fieldSend       = 19
)

// Fields of an answer.
const (
	fieldStatus      = 1
	fieldDraining    = 2
	fieldEpoch       = 3
	fieldResultID    = 4
	fieldResultEpoch = 5
	fieldResultSeq   = 6
	fieldResultAt    = 7 // microseconds since 1970; absent: the zero time
	fieldCode        = 8
	fieldMessage     = 9
	fieldExpected    = 10
	fieldCurrent     = 11
	fieldNode        = 12
	fieldAddress     = 13
	fieldSession     = 14
	fieldFence       = 15
	fieldAccepted    = 16 // repeated
)

// maxMessageText bounds what a refusal says to a person, in bytes.
const maxMessageText = 2048

// appendQuestion appends q in wire form; left is the time to its deadline,
// negative for none.
func appendQuestion(b []byte, q *Question, left time.Duration) []byte {
	convo, caller := q.Convo, q.Caller
	if q.Change != nil {
		convo, caller = q.Change.Convo, q.Change.Caller
	}
	b = appendString(b, fieldConvo, convo)
	b = appendString(b, fieldCaller, caller)
	if left >= 0 {
		b = appendUint(b, fieldTimeLeft, uint64(max(left.Microseconds(), 1)))
	}
	b = appendBool(b, fieldMustServe, q.MustServe)
	b = appendString(b, fieldRequestID, q.RequestID)
	b = appendString(b, fieldTraceparent, q.Traceparent)
	b = appendStrings(b, fieldOffer, q.Offer)
	b = appendStrings(b, fieldTake, q.Take)
	if r := q.Change; r != nil {
		b = appendString(b, fieldChangeID, r.ID)
		b = appendString(b, fieldKey, r.Key)
		b = appendBytes(b, fieldDigest, r.Digest)
		b = appendBool(b, fieldRetry, r.Retry)
		b = appendCommand(b, r.Command)
	}
	return b
}

func appendStrings(b []byte, field int, list []string) []byte {
	for _, s := range list {
		b = appendElement(b, field, s)
	}
	return b
}

// questionSize returns about how many bytes q takes in wire form, never fewer.
func questionSize(q *Question) int {
	const overhead = 128
	n := overhead + len(q.Convo) + len(q.Caller) + len(q.RequestID) + len(q.Traceparent)
	for _, list := range [][]string{q.Offer, q.Take} {
		for _, convo := range list {
			n += len(convo) + 8
		}
	}
	if r := q.Change; r != nil {
		n += len(r.ID) + len(r.Convo) + len(r.Caller) + len(r.Key) + len(r.Digest) + commandSize(r.Command)
	}
	return n
}

// decodeQuestion reads the body of a question of the given kind; left is
// negative where no deadline was sent. owned says that nobody else will use
// body, so that byte fields may alias it; strings are always copied, because
// some are kept for as long as a conversation is in memory.
func decodeQuestion(kind frameKind, body []byte, owned bool) (q Question, left time.Duration, err error) {
	var r conversation.Request
	d := decoder{rest: body}
	left = -1
	for d.next() {
		switch d.field {
		case fieldConvo:
			r.Convo = d.string()
		case fieldCaller:
			r.Caller = d.string()
		case fieldTimeLeft:
			left = time.Duration(min(d.uint(), math.MaxInt64/1000)) * time.Microsecond
		case fieldMustServe:
			q.MustServe = d.bool()
		case fieldRequestID:
			q.RequestID = d.string()
		case fieldTraceparent:
			q.Traceparent = d.string()
		case fieldChangeID:
			r.ID = d.string()
		case fieldKey:
			r.Key = d.string()
		case fieldDigest:
			r.Digest = bytes.Clone(d.view())
		case fieldRetry:
			r.Retry = d.bool()
		case fieldOffer:
			if d.limit(len(q.Offer), maxConvos) {
				q.Offer = append(q.Offer, d.string())
			}
		case fieldTake:
			if d.limit(len(q.Take), maxConvos) {
				q.Take = append(q.Take, d.string())
			}
		case fieldAddMembers, fieldLeave, fieldCommit, fieldSend:
			r.Command = decodeCommand(&d, owned)
		}
	}
	if d.err != nil {
		return Question{}, 0, fmt.Errorf("reading question: %w", d.err)
	}
	if kind == kindEpoch {
		q.Convo, q.Caller = r.Convo, r.Caller
		return q, left, nil
	}
	q.Change = &r
	return q, left, nil
}

// epochQuery is an epoch query as far as TryEpoch is concerned.
type epochQuery struct {
	convo, caller string
	// recorded: the query is part of a trace that somebody records.
	recorded bool
}

// decodeEpochQuery reads only what TryEpoch needs.
func decodeEpochQuery(body []byte) (q epochQuery, err error) {
	d := decoder{rest: body}
	for d.next() {
		switch d.field {
		case fieldConvo:
			q.convo = d.string()
		case fieldCaller:
			q.caller = d.string()
		case fieldTraceparent:
			q.recorded = isRecorded(d.view())
		}
	}
	return q, d.err
}

// isRecorded reports whether a traceparent bears the flag "sampled": the lowest
// bit of its last hexadecimal digit.
func isRecorded(traceparent []byte) bool {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	return len(traceparent) == length && strings.IndexByte("13579bdf", traceparent[length-1]) >= 0
}

// appendAnswer appends a in wire form.
func appendAnswer(b []byte, a *Answer) []byte {
	b = appendUint(b, fieldStatus, uint64(a.Status))
	b = appendBool(b, fieldDraining, a.Draining)
	switch a.Status {
	case Served:
		b = appendInt(b, fieldEpoch, a.Epoch)
		b = appendStrings(b, fieldAccepted, a.Accepted)
		b = appendString(b, fieldResultID, a.Result.ID)
		b = appendInt(b, fieldResultEpoch, a.Result.Epoch)
		b = appendInt(b, fieldResultSeq, a.Result.Seq)
		if !a.Result.At.IsZero() {
			at := a.Result.At.UnixMicro()
			b = appendOptInt(b, fieldResultAt, &at)
		}
	case Refused:
		b = appendString(b, fieldCode, string(a.Refusal.Code))
		b = appendString(b, fieldMessage, shorten(a.Refusal.Message))
		b = appendInt(b, fieldExpected, a.Refusal.Expected)
		b = appendInt(b, fieldCurrent, a.Refusal.Current)
	case NotMine:
		b = appendString(b, fieldNode, a.Holder.Node)
		b = appendString(b, fieldAddress, a.Holder.Address)
		b = appendString(b, fieldSession, a.Holder.Session)
		b = appendInt(b, fieldFence, a.Holder.Fence)
	}
	return b
}

// shorten cuts a message where it is too long, between two characters.
func shorten(s string) string {
	if len(s) <= maxMessageText {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessageText], "")
}

// decodeAnswer reads the body of an answer, which it does not keep.
func decodeAnswer(body []byte) (a Answer, err error) {
	var refusal conversation.Error
	d := decoder{rest: body}
	for d.next() {
		switch d.field {
		case fieldStatus:
			a.Status = Status(min(d.uint(), math.MaxUint8))
		case fieldDraining:
			a.Draining = d.bool()
		case fieldEpoch:
			a.Epoch = d.int()
		case fieldResultID, fieldResultEpoch, fieldResultSeq, fieldResultAt:
			decodeResult(&d, &a.Result)
		case fieldAccepted:
			if d.limit(len(a.Accepted), maxConvos) {
				a.Accepted = append(a.Accepted, d.string())
			}
		case fieldCode:
			refusal.Code = conversation.Code(d.string())
		case fieldMessage:
			refusal.Message = d.string()
		case fieldExpected:
			refusal.Expected = d.int()
		case fieldCurrent:
			refusal.Current = d.int()
		case fieldNode:
			a.Holder.Node = d.string()
		case fieldAddress:
			a.Holder.Address = d.string()
		case fieldSession:
			a.Holder.Session = d.string()
		case fieldFence:
			a.Holder.Fence = d.int()
		}
	}
	if d.err != nil {
		return Answer{}, fmt.Errorf("reading answer: %w", d.err)
	}
	switch {
	case a.Status < Served || a.Status > statusUnsupported:
		return Answer{}, fmt.Errorf("reading answer: %w: status %d", errMalformed, a.Status)
	case a.Status == Refused && refusal.Code == "":
		return Answer{}, fmt.Errorf("reading answer: %w: refusal without a code", errMalformed)
	case a.Status == Refused:
		e := refusal
		a.Refusal = &e
	}
	return a, nil
}

func decodeResult(d *decoder, r *conversation.Result) {
	switch d.field {
	case fieldResultID:
		r.ID = d.string()
	case fieldResultEpoch:
		r.Epoch = d.int()
	case fieldResultSeq:
		r.Seq = d.int()
	case fieldResultAt:
		r.At = time.UnixMicro(d.int()).UTC()
	}
}
