package conversation_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"catbird/conversation"
	"catbird/testdata/transcripts"
)

func recordedMessages() [][]byte {
	var out [][]byte
	for _, tr := range transcripts.All() {
		for _, s := range tr.Steps {
			if len(s.Commit) > 0 {
				out = append(out, s.Commit)
			}
			if len(s.Ciphertext) > 0 {
				out = append(out, s.Ciphertext)
			}
		}
	}
	return out
}

// TestRecordedHeaders: what a real MLS client put on the wire says the group
// and the epoch that the client was in.
func TestRecordedHeaders(t *testing.T) {
	for _, tr := range transcripts.All() {
		seen := 0
		for i, s := range tr.Steps {
			b, want, content := s.Ciphertext, s.Epoch, conversation.ContentApplication
			if len(s.Commit) > 0 {
				b, want, content = s.Commit, s.EpochBefore, conversation.ContentCommit
			}
			if len(b) == 0 {
				continue
			}
			seen++
			h, ok := conversation.ParseHeader(b)
			if !ok {
				t.Errorf("%s, step %d: no header", tr.Name, i)
				continue
			}
			if hex.EncodeToString(h.GroupID) != tr.GroupID || h.Epoch != uint64(want) || h.Content != content {
				t.Errorf("%s, step %d: read as %x, epoch %d, content %d; want %s, %d, %d",
					tr.Name, i, h.GroupID, h.Epoch, h.Content, tr.GroupID, want, content)
			}
		}
		if seen != len(tr.Steps)-1 { // all but createConvo
			t.Errorf("%s: looked at %d messages of %d steps", tr.Name, seen, len(tr.Steps))
		}
	}
}

// Welcomes and key packages are MLS messages too, but none that the log may
// hold as a commit: they name no epoch.
func TestRecordedWelcomesAndKeyPackagesHaveNoHeader(t *testing.T) {
	for _, tr := range transcripts.All() {
		for i, s := range tr.Steps {
			if _, ok := conversation.ParseHeader(s.Welcome); ok {
				t.Errorf("%s, step %d: the welcome reads as a message", tr.Name, i)
			}
		}
		for _, p := range tr.People {
			for i, k := range p.KeyPackages {
				if _, ok := conversation.ParseHeader(k.Data); ok {
					t.Errorf("%s: key package %d of %s reads as a message", tr.Name, i, p.DID)
				}
			}
		}
	}
}

// TestRecordedGroupsThroughDecide replays the recorded conversations through
// the pure function: every epoch comes out as the MLS client had it, each
// change in its own unit, as a unit with key packages must be.
func TestRecordedGroupsThroughDecide(t *testing.T) {
	env := testEnv()
	env.Policy.AnyMemberRemoves = true // as MLS itself does: members removed members
	for _, tr := range transcripts.All() {
		t.Run(tr.Name, func(t *testing.T) {
			c := conversation.Creation{Creator: tr.Steps[0].By, CipherSuite: tr.CipherSuite, Epoch: tr.Steps[0].EpochAfter}
			wantCode(t, c.Validate(tr.GroupID), "")
			s, _, err := c.Create(env, &conversation.Request{ID: "id-0", Convo: tr.GroupID, Caller: c.Creator})
			wantCode(t, err, "")
			for i, step := range tr.Steps[1:] {
				r := &conversation.Request{ID: fmt.Sprintf("id-%d", i+1), Convo: tr.GroupID, Caller: step.By, Command: commandOf(t, step)}
				wantCode(t, r.Command.Validate(), "")
				before := s
				var ch conversation.Change
				ch, s, err = conversation.Decide(env, s, r)
				wantCode(t, err, "")
				want := step.EpochAfter
				if step.Op == transcripts.SendMessage {
					want = step.Epoch
				}
				if s.Epoch != want || s.Seq != before.Seq+1 || ch.Row == nil || !s.MLS {
					t.Fatalf("step %d: epoch %d, seq %d, MLS %v; want epoch %d, seq %d, MLS", i+1, s.Epoch, s.Seq, s.MLS, want, before.Seq+1)
				}
				// Once done, doing it again is refused, and for good where it was a commit.
				_, _, err = conversation.Decide(env, s, r)
				if len(step.Commit) > 0 {
					wantCode(t, err, conversation.EpochMismatch)
				}
			}
		})
	}
}

func commandOf(t *testing.T, s transcripts.Step) conversation.Command {
	t.Helper()
	switch s.Op {
	case transcripts.AddMembers:
		refs := make([]conversation.KeyPackageRef, len(s.KeyPackageHashes))
		for i, h := range s.KeyPackageHashes {
			hash, err := hex.DecodeString(h.Hash)
			if err != nil {
				t.Fatal(err)
			}
			refs[i] = conversation.KeyPackageRef{DID: h.DID, Hash: hash}
		}
		return conversation.AddMembers{DIDs: s.DIDs, Commit: s.Commit, Welcome: s.Welcome, KeyPackages: refs, Expected: &s.EpochBefore}
	case transcripts.LeaveConvo:
		return conversation.Leave{Target: s.TargetDID, Commit: s.Commit, Expected: &s.EpochBefore}
	case transcripts.SendMessage:
		return conversation.Send{Ciphertext: s.Ciphertext, Epoch: s.Epoch}
	default:
		t.Fatalf("no command for %q", s.Op)
		return nil
	}
}
