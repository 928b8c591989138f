package peer

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"catbird/conversation"
)

func drawBytes(t *rapid.T, label string) []byte {
	if rapid.Bool().Draw(t, label+" there") {
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, label)
	}
	return nil
}

func drawExpected(t *rapid.T) *int64 {
	if rapid.Bool().Draw(t, "expected there") {
		v := rapid.Int64().Draw(t, "expected")
		return &v
	}
	return nil
}

func drawCommand(t *rapid.T) conversation.Command {
	switch rapid.IntRange(0, 3).Draw(t, "command") {
	case 0:
		c := conversation.AddMembers{Commit: drawBytes(t, "commit"), Welcome: drawBytes(t, "welcome"), Expected: drawExpected(t)}
		for range rapid.IntRange(0, 5).Draw(t, "dids") {
			c.DIDs = append(c.DIDs, rapid.String().Draw(t, "did"))
		}
		for range rapid.IntRange(0, 5).Draw(t, "refs") {
			c.KeyPackages = append(c.KeyPackages, conversation.KeyPackageRef{
				DID: rapid.String().Draw(t, "ref did"), Hash: drawBytes(t, "ref hash"),
			})
		}
		return c
	case 1:
		return conversation.Leave{Target: rapid.String().Draw(t, "target"), Commit: drawBytes(t, "commit"), Expected: drawExpected(t)}
	case 2:
		return conversation.Commit{Commit: drawBytes(t, "commit"), Expected: drawExpected(t)}
	default:
		return conversation.Send{
			Ciphertext: drawBytes(t, "ciphertext"), Epoch: rapid.Int64().Draw(t, "epoch"),
			ClientID:  rapid.String().Draw(t, "client id"),
			EmbedType: rapid.String().Draw(t, "embed type"), EmbedURI: rapid.String().Draw(t, "embed uri"),
		}
	}
}

func drawQuestion(t *rapid.T) Question {
	str := rapid.String()
	q := Question{
		MustServe: rapid.Bool().Draw(t, "must serve"), RequestID: str.Draw(t, "request"), Traceparent: str.Draw(t, "trace"),
	}
	convo, caller := str.Draw(t, "convo"), str.Draw(t, "caller")
	if rapid.Bool().Draw(t, "epoch query") {
		q.Convo, q.Caller = convo, caller
		return q
	}
	q.Change = &conversation.Request{
		ID: str.Draw(t, "id"), Convo: convo, Caller: caller, Key: str.Draw(t, "key"),
		Digest: drawBytes(t, "digest"), Retry: rapid.Bool().Draw(t, "retry"), Command: drawCommand(t),
	}
	return q
}

func kindOf(q Question) frameKind {
	if q.Change != nil {
		return kindChange
	}
	return kindEpoch
}

func TestQuestionSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		left := time.Duration(rapid.Int64Range(-1, int64(time.Hour)).Draw(t, "left"))
		b := appendQuestion(nil, &q, left)
		if size := questionSize(&q); size < len(b) {
			t.Fatalf("questionSize says %d, the question takes %d", size, len(b))
		}
		owned := rapid.Bool().Draw(t, "owned")
		got, gotLeft, err := decodeQuestion(kindOf(q), b, owned)
		if err != nil {
			t.Fatal(err)
		}
		if !owned {
			clear(b) // what was read must not live in it
		}
		if !reflect.DeepEqual(got, q) {
			t.Fatalf("sent %+v, got %+v", q, got)
		}
		want := time.Duration(-1)
		if left >= 0 {
			want = max(left.Truncate(time.Microsecond), time.Microsecond)
		}
		if gotLeft != want {
			t.Fatalf("sent %v left, got %v", left, gotLeft)
		}
	})
}

func TestEpochQueryIsReadAlike(t *testing.T) {
	q := Question{Convo: "00aa", Caller: "did:plc:alice", MustServe: true, RequestID: "r", Traceparent: "t"}
	got, err := decodeEpochQuery(appendQuestion(nil, &q, time.Second))
	if err != nil || got != (epochQuery{convo: q.Convo, caller: q.Caller}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnswerSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Answer{
			Status:   Status(rapid.Uint8Range(uint8(Served), uint8(statusUnsupported)).Draw(t, "status")),
			Draining: rapid.Bool().Draw(t, "draining"),
		}
		str, num := rapid.StringN(0, 100, maxMessageText), rapid.Int64()
		switch a.Status {
		case Served:
			a.Epoch = num.Draw(t, "epoch")
			a.Result = conversation.Result{ID: str.Draw(t, "id"), Epoch: num.Draw(t, "result epoch"), Seq: num.Draw(t, "seq")}
			if rapid.Bool().Draw(t, "at there") {
				a.Result.At = time.UnixMicro(rapid.Int64Range(-1<<50, 1<<55).Draw(t, "at")).UTC()
			}
		case Refused:
			a.Refusal = &conversation.Error{
				Code: conversation.EpochMismatch, Message: str.Draw(t, "message"),
				Expected: num.Draw(t, "expected"), Current: num.Draw(t, "current"),
			}
		case NotMine:
			a.Holder = Holder{
				Node: str.Draw(t, "node"), Address: str.Draw(t, "address"), Session: str.Draw(t, "session"), Fence: num.Draw(t, "fence"),
			}
		}
		got, err := decodeAnswer(appendAnswer(nil, &a))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, a) {
			t.Fatalf("sent %+v, got %+v", a, got)
		}
	})
}

func TestLongMessageIsCutBetweenCharacters(t *testing.T) {
	a := Answer{Status: Refused, Refusal: conversation.Refuse(conversation.Unavailable, "%s", "x"+strings.Repeat("é", maxMessageText))}
	got, err := decodeAnswer(appendAnswer(nil, &a))
	if err != nil {
		t.Fatal(err)
	}
	want := "x" + strings.Repeat("é", (maxMessageText-1)/2)
	if got.Refusal.Message != want {
		t.Errorf("got %d bytes that end in %q", len(got.Refusal.Message), got.Refusal.Message[len(got.Refusal.Message)-3:])
	}
}

// A neighbour of a later version says more than we understand.
func TestUnknownFieldsAreSteppedOver(t *testing.T) {
	unknown := appendUint(nil, 999, 1<<60)
	unknown = appendString(unknown, 998, "something new")
	unknown = append(appendTag(unknown, 997, wireFixed64), 1, 2, 3, 4, 5, 6, 7, 8)
	unknown = append(appendTag(unknown, 996, wireFixed32), 1, 2, 3, 4)

	q := sendOf("id", 10)
	b := appendQuestion(bytes.Clone(unknown), &q, time.Second)
	b = append(b, unknown...)
	got, left, err := decodeQuestion(kindChange, b, false)
	if err != nil || left != time.Second || !reflect.DeepEqual(got, q) {
		t.Errorf("question: got %+v, %v, %v", got, left, err)
	}
	a := served(q)
	gotAnswer, err := decodeAnswer(appendAnswer(bytes.Clone(unknown), &a))
	if err != nil || !reflect.DeepEqual(gotAnswer, a) {
		t.Errorf("answer: got %+v, %v", gotAnswer, err)
	}
}

func TestUnknownCommandIsNoCommand(t *testing.T) {
	b := appendString(nil, fieldConvo, "00aa")
	b = appendString(b, fieldSend+1, "what a later version asks")
	q, _, err := decodeQuestion(kindChange, b, false)
	if err != nil || q.Change == nil || q.Change.Command != nil {
		t.Errorf("got %+v, %v", q, err)
	}
}

func TestHostileMessagesAreRefused(t *testing.T) {
	repeat := func(field, element, n int) []byte {
		b, start := beginNested(nil, field)
		for range n {
			b = appendElement(b, element, "")
		}
		return endNested(b, start)
	}
	for name, b := range map[string][]byte{
		"length beyond the end":     append(appendTag(nil, fieldConvo, wireBytes), 200, 1, 'x'),
		"length of 2^63":            append(appendTag(nil, fieldConvo, wireBytes), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"length that overflows":     append(appendTag(nil, fieldConvo, wireBytes), bytes.Repeat([]byte{0xff}, 11)...),
		"tag without value":         appendTag(nil, fieldTimeLeft, wireVarint),
		"field number 0":            {0, 1},
		"field number too large":    {0xff, 0xff, 0xff, 0xff, 0x7f, 1},
		"group":                     appendTag(nil, fieldConvo, 3),
		"truncated fixed":           append(appendTag(nil, 99, wireFixed64), 1),
		"string where a number is":  appendString(nil, fieldTimeLeft, "x"),
		"number where a string is":  appendUint(nil, fieldConvo, 1),
		"number where a command is": appendUint(nil, fieldSend, 1),
		"broken command":            append(appendTag(nil, fieldSend, wireBytes), 1, 0xff),
		"broken reference":          {fieldAddMembers<<3&0x7f | wireBytes | 0x80, 1, 3, cmdKeyPackage<<3 | wireBytes, 1, 0xff},
		"too many members":          repeat(fieldAddMembers, cmdDID, maxDIDs+1),
		"too many key packages":     repeat(fieldAddMembers, cmdKeyPackage, maxRefs+1),
	} {
		if q, _, err := decodeQuestion(kindChange, b, false); err == nil {
			t.Errorf("%s: read as %+v", name, q)
		}
	}
	for name, b := range map[string][]byte{
		"no status":              {},
		"unknown status":         appendUint(nil, fieldStatus, 99),
		"status that wraps":      appendUint(nil, fieldStatus, 256+uint64(Served)),
		"refusal without a code": appendUint(nil, fieldStatus, uint64(Refused)),
		"text as an epoch":       appendString(appendUint(nil, fieldStatus, uint64(Served)), fieldEpoch, "7"),
	} {
		if a, err := decodeAnswer(b); err == nil {
			t.Errorf("%s: read as %+v", name, a)
		}
	}
}

func TestHugeTimeLeftDoesNotWrap(t *testing.T) {
	_, left, err := decodeQuestion(kindEpoch, appendUint(nil, fieldTimeLeft, 1<<63), false)
	if err != nil || left <= 0 {
		t.Errorf("got %v, %v", left, err)
	}
}
