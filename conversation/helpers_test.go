package conversation_test

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/conversation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "did:plc:alice"
	bob   = "did:plc:bob"
	carol = "did:plc:carol"
	dave  = "did:plc:dave"
)

// group is the id of the conversation that the tests work on: hex of "group".
var group = hex.EncodeToString([]byte("group"))

var now = time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)

func testEnv() conversation.Env {
	return conversation.Env{Now: now, Policy: conversation.DefaultPolicy()}
}

func request(caller string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: "id-1", Convo: group, Caller: caller, Command: c}
}

func epoch(n int64) *int64 { return &n }

// Wire formats and sender types of RFC 9420 section 6.
const (
	wirePublic  = 1
	wirePrivate = 2
	wireWelcome = 3

	senderMember            = 1
	senderExternal          = 2
	senderNewMemberProposal = 3
	senderNewMemberCommit   = 4
)

func vector(b []byte) []byte {
	switch n := len(b); {
	case n < 1<<6:
		return append([]byte{byte(n)}, b...)
	case n < 1<<14:
		return append(binary.BigEndian.AppendUint16(nil, uint16(n)|0x4000), b...)
	default:
		return append(binary.BigEndian.AppendUint32(nil, uint32(n)|0x8000_0000), b...)
	}
}

// private is a PrivateMessage as far as its header goes, and some ciphertext.
func private(groupID string, epoch uint64, content conversation.ContentType) []byte {
	b := []byte{0, 1, 0, wirePrivate}
	b = append(b, vector([]byte(groupID))...)
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = append(b, byte(content))
	b = append(b, vector(nil)...) // authenticated_data
	return append(b, "sender data and ciphertext"...)
}

// public is a PublicMessage as far as its header goes.
func public(groupID string, epoch uint64, sender byte, aad []byte, content conversation.ContentType) []byte {
	b := []byte{0, 1, 0, wirePublic}
	b = append(b, vector([]byte(groupID))...)
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = append(b, sender)
	if sender == senderMember || sender == senderExternal {
		b = binary.BigEndian.AppendUint32(b, 7) // leaf or sender index
	}
	b = append(b, vector(aad)...)
	b = append(b, byte(content))
	return append(b, "content and signature"...)
}

func commitAt(epoch uint64) []byte { return private("group", epoch, conversation.ContentCommit) }

func wantCode(t *testing.T, err error, want conversation.Code) {
	t.Helper()
	if got := conversation.CodeOf(err); got != want || (err == nil) != (want == "") {
		t.Fatalf("got error %v, want code %q", err, want)
	}
}
