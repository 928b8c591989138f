package conversation_test

import (
	"fmt"
	"strings"
	"testing"

	"catbird/conversation"
)

func dids(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("did:plc:p%03d", i)
	}
	return out
}

func hashOf(b byte) []byte { return append(make([]byte, 31), b) }

func TestCommandValidate(t *testing.T) {
	tooBig := make([]byte, conversation.MaxCommit+1)
	ref := func(did string, hash []byte) []conversation.KeyPackageRef {
		return []conversation.KeyPackageRef{{DID: did, Hash: hash}}
	}
	many := make([]conversation.KeyPackageRef, conversation.MaxKeyPackageHashes+1)
	for i := range many {
		many[i] = conversation.KeyPackageRef{DID: bob, Hash: append(make([]byte, 30), byte(i>>8), byte(i))}
	}
	two := []string{bob, carol}
	tests := []struct {
		name    string
		command conversation.Command
		want    conversation.Code
		field   string // that the message must name
	}{
		{"add one", conversation.AddMembers{DIDs: []string{bob}}, "", ""},
		{"add 50", conversation.AddMembers{DIDs: dids(50)}, "", ""},
		{"add 51", conversation.AddMembers{DIDs: dids(51)}, conversation.InvalidRequest, "didList"},
		{"add nobody", conversation.AddMembers{}, conversation.InvalidRequest, "didList"},
		{"add no DID", conversation.AddMembers{DIDs: []string{"bob"}}, conversation.InvalidRequest, "didList"},
		{"add somebody twice", conversation.AddMembers{DIDs: []string{bob, carol, bob}}, conversation.InvalidRequest, "didList"},
		{"add with a commit", conversation.AddMembers{DIDs: two, Commit: commitAt(4), Expected: epoch(4)}, "", ""},
		{"add with an opaque commit", conversation.AddMembers{DIDs: two, Commit: []byte("x"), Expected: epoch(4)}, "", ""},
		{"add with a commit of another epoch than expected", conversation.AddMembers{DIDs: two, Commit: commitAt(4), Expected: epoch(3)}, conversation.InvalidCommit, "commit"},
		{"add with a proposal", conversation.AddMembers{DIDs: two, Commit: private("group", 4, conversation.ContentProposal)}, conversation.InvalidCommit, "commit"},
		{"add with a negative epoch", conversation.AddMembers{DIDs: two, Expected: epoch(-1)}, conversation.InvalidRequest, "expectedEpoch"},
		{"add with too big a commit", conversation.AddMembers{DIDs: two, Commit: tooBig}, conversation.MessageTooLarge, "commit"},
		{"add with too big a welcome", conversation.AddMembers{DIDs: two, Welcome: tooBig}, conversation.MessageTooLarge, "welcomeMessage"},
		{"key packages, several of one DID", conversation.AddMembers{DIDs: two, KeyPackages: append(ref(bob, hashOf(1)), ref(bob, hashOf(2))...)}, "", ""},
		{"one hash of two DIDs", conversation.AddMembers{DIDs: two, KeyPackages: append(ref(bob, hashOf(1)), ref(carol, hashOf(1))...)}, "", ""},
		{"a key package twice", conversation.AddMembers{DIDs: two, KeyPackages: append(ref(bob, hashOf(1)), ref(bob, hashOf(1))...)}, conversation.InvalidRequest, "keyPackageHashes"},
		{"a key package of a member's further device", conversation.AddMembers{DIDs: two, KeyPackages: ref(dave, hashOf(1))}, "", ""},
		{"a key package of no DID", conversation.AddMembers{DIDs: two, KeyPackages: ref("dave", hashOf(1))}, conversation.InvalidRequest, "keyPackageHashes"},
		{"a short hash", conversation.AddMembers{DIDs: two, KeyPackages: ref(bob, hashOf(1)[1:])}, conversation.InvalidRequest, "keyPackageHashes"},
		{"too many key packages", conversation.AddMembers{DIDs: two, KeyPackages: many}, conversation.InvalidRequest, "keyPackageHashes"},
		{"as many key packages as may be", conversation.AddMembers{DIDs: two, KeyPackages: many[1:]}, "", ""},

		{"leave", conversation.Leave{}, "", ""},
		{"leave: a target", conversation.Leave{Target: bob, Commit: commitAt(0), Expected: epoch(0)}, "", ""},
		{"leave: no DID", conversation.Leave{Target: "bob"}, conversation.InvalidRequest, "targetDid"},
		{"leave: an application message as commit", conversation.Leave{Commit: private("group", 4, conversation.ContentApplication)}, conversation.InvalidCommit, "commit"},
		{"leave: a contradiction", conversation.Leave{Commit: commitAt(4), Expected: epoch(5)}, conversation.InvalidCommit, "commit"},
		{"leave: negative epoch", conversation.Leave{Expected: epoch(-1)}, conversation.InvalidRequest, "expectedEpoch"},

		{"commit", conversation.Commit{Commit: commitAt(4)}, "", ""},
		{"commit: public", conversation.Commit{Commit: public("group", 4, senderMember, []byte("aad"), conversation.ContentCommit)}, "", ""},
		{"commit: none", conversation.Commit{}, conversation.InvalidRequest, "commit"},
		{"commit: a public proposal", conversation.Commit{Commit: public("group", 4, senderExternal, nil, conversation.ContentProposal)}, conversation.InvalidCommit, "commit"},
		{"commit: an epoch that wraps", conversation.Commit{Commit: commitAt(1<<64 - 1), Expected: epoch(-1)}, conversation.InvalidRequest, "expectedEpoch"},
		{"commit: too big", conversation.Commit{Commit: tooBig}, conversation.MessageTooLarge, "commit"},

		{"send", conversation.Send{Ciphertext: []byte("x")}, "", ""},
		{"send: a proposal", conversation.Send{Ciphertext: private("group", 4, conversation.ContentProposal), Epoch: 4}, "", ""},
		{"send: a commit", conversation.Send{Ciphertext: commitAt(4), Epoch: 4}, conversation.InvalidCommit, "ciphertext"},
		{"send: nothing", conversation.Send{}, conversation.InvalidRequest, "ciphertext"},
		{"send: as much as may be", conversation.Send{Ciphertext: tooBig[1:]}, "", ""},
		{"send: too much", conversation.Send{Ciphertext: tooBig}, conversation.MessageTooLarge, "ciphertext"},
		{"send: negative epoch", conversation.Send{Ciphertext: []byte("x"), Epoch: -1}, conversation.InvalidRequest, "epoch"},
		{"send: 64 characters of more than a byte", conversation.Send{Ciphertext: []byte("x"), ClientID: strings.Repeat("é", 64)}, "", ""},
		{"send: msgId too long", conversation.Send{Ciphertext: []byte("x"), ClientID: strings.Repeat("m", 65)}, conversation.InvalidRequest, "msgId"},
		{"send: msgId with a NUL", conversation.Send{Ciphertext: []byte("x"), ClientID: "a\x00b"}, conversation.InvalidRequest, "msgId"},
		{"send: embedType too long", conversation.Send{Ciphertext: []byte("x"), EmbedType: strings.Repeat("m", 65)}, conversation.InvalidRequest, "embedType"},
		{"send: embedUri too long", conversation.Send{Ciphertext: []byte("x"), EmbedURI: strings.Repeat("m", 2049)}, conversation.InvalidRequest, "embedUri"},
		{"send: embedUri is no UTF-8", conversation.Send{Ciphertext: []byte("x"), EmbedURI: "a\xff"}, conversation.InvalidRequest, "embedUri"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.command.Validate()
			wantCode(t, err, tt.want)
			if err != nil && !strings.Contains(err.Error(), tt.field+":") {
				t.Errorf("%q does not name the field %s", err, tt.field)
			}
		})
	}
}

func TestCommandSizeCountsPayload(t *testing.T) {
	big := make([]byte, 1<<20)
	for _, c := range []conversation.Command{
		conversation.Send{Ciphertext: big},
		conversation.Commit{Commit: big},
		conversation.Leave{Commit: big},
		conversation.AddMembers{Commit: big},
		conversation.AddMembers{Welcome: big},
	} {
		if c.Size() < len(big) {
			t.Errorf("%s: size %d is less than its payload", c.Op(), c.Size())
		}
	}
}

func TestCreationValidate(t *testing.T) {
	ok := conversation.Creation{Creator: alice, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"}
	with := func(change func(*conversation.Creation)) conversation.Creation {
		c := ok
		change(&c)
		return c
	}
	tests := []struct {
		name     string
		creation conversation.Creation
		want     conversation.Code
	}{
		{"least", ok, ""},
		{"100 members", with(func(c *conversation.Creation) { c.Initial = dids(100) }), ""},
		{"101 members", with(func(c *conversation.Creation) { c.Initial = dids(101) }), conversation.InvalidRequest},
		{"a member twice", with(func(c *conversation.Creation) { c.Initial = []string{bob, bob} }), conversation.InvalidRequest},
		{"no DID", with(func(c *conversation.Creation) { c.Initial = []string{""} }), conversation.InvalidRequest},
		{"no suite", with(func(c *conversation.Creation) { c.CipherSuite = "" }), conversation.InvalidCipherSuite},
		{"unknown suite", with(func(c *conversation.Creation) { c.CipherSuite = "MLS_NULL" }), conversation.InvalidCipherSuite},
		{"X-Wing", with(func(c *conversation.Creation) { c.CipherSuite = "MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519" }), ""},
		{"epoch 1", with(func(c *conversation.Creation) { c.Epoch = 1 }), ""},
		{"epoch 2", with(func(c *conversation.Creation) { c.Epoch = 2 }), conversation.InvalidRequest},
		{"negative epoch", with(func(c *conversation.Creation) { c.Epoch = -1 }), conversation.InvalidRequest},
		{"commit", with(func(c *conversation.Creation) { c.Commit = commitAt(0) }), ""},
		{"commit and epoch 1", with(func(c *conversation.Creation) { c.Commit, c.Epoch = commitAt(0), 1 }), ""},
		{"opaque commit", with(func(c *conversation.Creation) { c.Commit = []byte("x") }), ""},
		{"commit made at epoch 1", with(func(c *conversation.Creation) { c.Commit = commitAt(1) }), conversation.InvalidCommit},
		{"commit of another group", with(func(c *conversation.Creation) { c.Commit = private("other", 0, conversation.ContentCommit) }), conversation.InvalidCommit},
		{"a proposal", with(func(c *conversation.Creation) { c.Commit = private("group", 0, conversation.ContentProposal) }), conversation.InvalidCommit},
		{"a name of 128 characters", with(func(c *conversation.Creation) { c.Name = strings.Repeat("é", 128) }), ""},
		{"too long a name", with(func(c *conversation.Creation) { c.Name = strings.Repeat("n", 129) }), conversation.InvalidRequest},
		{"a name with a NUL", with(func(c *conversation.Creation) { c.Name = "\x00" }), conversation.InvalidRequest},
		{"a description of 512 characters", with(func(c *conversation.Creation) { c.Description = strings.Repeat("é", 512) }), ""},
		{"too long a description", with(func(c *conversation.Creation) { c.Description = strings.Repeat("n", 513) }), conversation.InvalidRequest},
		{"a key package of no DID", with(func(c *conversation.Creation) {
			c.KeyPackages = []conversation.KeyPackageRef{{DID: "bob", Hash: hashOf(1)}}
		}), conversation.InvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantCode(t, tt.creation.Validate(group), tt.want) })
	}
}

func TestCipherSuitesAreTheContracts(t *testing.T) {
	if n := len(conversation.CipherSuites); n != 8 {
		t.Errorf("%d cipher suites, want the seven of RFC 9420 and X-Wing", n)
	}
	seen := make(map[uint16]string)
	for name, id := range conversation.CipherSuites {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one number", name, other)
		}
		seen[id] = name
	}
}
