package conversation_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"catbird/conversation"
)

func TestParseHeader(t *testing.T) {
	long64, long16k := strings.Repeat("g", 64), strings.Repeat("g", 1<<14)
	tests := []struct {
		name string
		in   []byte
		want *conversation.Header // nil: no header
	}{
		{"private application", private("group", 5, conversation.ContentApplication), header("group", 5, conversation.ContentApplication)},
		{"private proposal", private("group", 5, conversation.ContentProposal), header("group", 5, conversation.ContentProposal)},
		{"private commit", private("group", 5, conversation.ContentCommit), header("group", 5, conversation.ContentCommit)},
		{"the highest epoch", private("group", 1<<64-1, conversation.ContentCommit), header("group", 1<<64-1, conversation.ContentCommit)},
		{"an empty group id", private("", 0, conversation.ContentCommit), header("", 0, conversation.ContentCommit)},
		{"a group id of 63 bytes: 1 byte of length", private(long64[1:], 5, conversation.ContentCommit), header(long64[1:], 5, conversation.ContentCommit)},
		{"a group id of 64 bytes: 2 bytes of length", private(long64, 5, conversation.ContentCommit), header(long64, 5, conversation.ContentCommit)},
		{"a group id of 16383 bytes: 2 bytes of length", private(long16k[1:], 5, conversation.ContentCommit), header(long16k[1:], 5, conversation.ContentCommit)},
		{"a group id of 16384 bytes: 4 bytes of length", private(long16k, 5, conversation.ContentCommit), header(long16k, 5, conversation.ContentCommit)},

		{"public by a member", public("group", 5, senderMember, nil, conversation.ContentCommit), header("group", 5, conversation.ContentCommit)},
		{"public by an external sender", public("group", 5, senderExternal, nil, conversation.ContentProposal), header("group", 5, conversation.ContentProposal)},
		{"public proposal by a new member", public("group", 5, senderNewMemberProposal, nil, conversation.ContentProposal), header("group", 5, conversation.ContentProposal)},
		{"public commit by a new member", public("group", 5, senderNewMemberCommit, nil, conversation.ContentCommit), header("group", 5, conversation.ContentCommit)},
		{"public with authenticated data", public("group", 5, senderMember, bytes.Repeat([]byte{3}, 100), conversation.ContentCommit), header("group", 5, conversation.ContentCommit)},

		{"nothing", nil, nil},
		{"text", []byte("hello, this is no MLS message at all"), nil},
		{"version 2", edit(private("group", 5, conversation.ContentCommit), 1, 2), nil},
		{"version 0x0101", edit(private("group", 5, conversation.ContentCommit), 0, 1), nil},
		{"a Welcome", edit(private("group", 5, conversation.ContentCommit), 3, wireWelcome), nil},
		{"wire format 0", edit(private("group", 5, conversation.ContentCommit), 3, 0), nil},
		{"wire format 0x0102", edit(private("group", 5, conversation.ContentCommit), 2, 1), nil},
		{"content type 0", private("group", 5, 0), nil},
		{"content type 4", private("group", 5, 4), nil},
		{"sender type 0", public("group", 5, 0, nil, conversation.ContentCommit), nil},
		{"sender type 5", public("group", 5, 5, nil, conversation.ContentCommit), nil},
		{"a length of 8 bytes, which RFC 9420 forbids", raw("\xc0\x00\x00\x00\x00\x00\x00\x05group", 5), nil},
		{"a length of 2 bytes where 1 would do", raw("\x40\x05group", 5), nil},
		{"a length of 4 bytes where 1 would do", raw("\x80\x00\x00\x05group", 5), nil},
		{"a length of 4 bytes where 2 would do", raw("\x80\x00\x00\x40"+long64, 5), nil},
		{"a length beyond the end", raw("\xbf\xff\xff\xffgroup", 5), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := conversation.ParseHeader(tt.in)
			if ok != (tt.want != nil) {
				t.Fatalf("ok = %v", ok)
			}
			if ok && !sameHeader(got, *tt.want) {
				t.Errorf("got %+v, want %+v", got, *tt.want)
			}
			if !ok && !sameHeader(got, conversation.Header{}) {
				t.Errorf("no header, but %+v", got)
			}
		})
	}
}

// TestParseHeaderTruncated cuts every kind of message at every length: none
// that ends before its content type has a header, and all after it have.
func TestParseHeaderTruncated(t *testing.T) {
	long := strings.Repeat("g", 64)
	headers := map[string][]byte{
		"private":             private("group", 5, conversation.ContentCommit),
		"private, long group": private(long, 5, conversation.ContentCommit),
	}
	for sender := byte(senderMember); sender <= senderNewMemberCommit; sender++ {
		headers[fmt.Sprintf("public, sender type %d", sender)] = public("group", 5, sender, []byte("aad"), conversation.ContentCommit)
		headers[fmt.Sprintf("public, sender type %d, long", sender)] = public(long, 5, sender, []byte(long), conversation.ContentCommit)
	}
	for name, b := range headers {
		t.Run(name, func(t *testing.T) {
			whole, ok := conversation.ParseHeader(b)
			if !ok {
				t.Fatal("the whole message has no header")
			}
			least := bytes.LastIndexByte(b[:len(b)-len("content and signature")+1], byte(conversation.ContentCommit)) + 1
			if bytes.HasPrefix(b, []byte{0, 1, 0, wirePrivate}) {
				least = len(b) - len("sender data and ciphertext") - 1
			}
			for n := range b {
				got, ok := conversation.ParseHeader(b[:n:n])
				if ok != (n >= least) {
					t.Fatalf("of %d bytes, %d needed: ok = %v", n, least, ok)
				}
				if ok && !sameHeader(got, whole) {
					t.Fatalf("of %d bytes: %+v, want %+v", n, got, whole)
				}
			}
		})
	}
}

// FuzzParseHeader feeds arbitrary bytes. What is accepted must say the same
// when written again by the rules, as far as it was read.
func FuzzParseHeader(f *testing.F) {
	for _, b := range recordedMessages() {
		f.Add(b)
	}
	for sender := byte(senderMember); sender <= senderNewMemberCommit; sender++ {
		f.Add(public("group", 5, sender, []byte("aad"), conversation.ContentCommit))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := conversation.ParseHeader(b)
		if !ok {
			if !sameHeader(h, conversation.Header{}) {
				t.Fatalf("no header, but %+v", h)
			}
			return
		}
		if h.Content < conversation.ContentApplication || h.Content > conversation.ContentCommit {
			t.Fatalf("content type %d", h.Content)
		}
		front := append([]byte{0, 1, 0, b[3]}, vector(h.GroupID)...)
		front = binary.BigEndian.AppendUint64(front, h.Epoch)
		if !bytes.HasPrefix(b, front) {
			t.Fatalf("begins with % x, but was read as % x", b[:min(len(b), len(front))], front)
		}
		if b[3] == wirePrivate && b[len(front)] != byte(h.Content) {
			t.Fatalf("content type %d, but was read as %d", b[len(front)], h.Content)
		}
		again, ok := conversation.ParseHeader(append(b[:len(b):len(b)], 0xff))
		if !ok || !sameHeader(again, h) {
			t.Fatal("what follows the header changes how it is read")
		}
	})
}

func header(groupID string, epoch uint64, content conversation.ContentType) *conversation.Header {
	return &conversation.Header{GroupID: []byte(groupID), Epoch: epoch, Content: content}
}

func sameHeader(a, b conversation.Header) bool {
	return bytes.Equal(a.GroupID, b.GroupID) && a.Epoch == b.Epoch && a.Content == b.Content
}

// raw is a PrivateMessage whose group id is written as given.
func raw(groupID string, epoch uint64) []byte {
	b := append([]byte{0, 1, 0, wirePrivate}, groupID...)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return append(b, byte(conversation.ContentCommit), 0)
}

func edit(b []byte, at int, to byte) []byte {
	b = bytes.Clone(b)
	b[at] = to
	return b
}
