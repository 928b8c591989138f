package storetest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var transcriptTests = []test{
	{name: "TranscriptDirect", alone: true, run: func(t *testing.T, f *fixture) { replay(t, f, "small.json", false) }},
	{name: "TranscriptAppended", alone: true, run: func(t *testing.T, f *fixture) { replay(t, f, "large.json", true) }},
}

// transcript is what a real MLS client sent, see testdata/transcripts.
type transcript struct {
	CipherSuite, GroupID string
	People               []struct {
		DID         string
		KeyPackages []struct{ Data []byte }
	}
	Steps []step
}

type step struct {
	Op, By           string
	EpochAfter       int64
	Epoch            int64
	DIDList          []string
	Commit           []byte
	WelcomeMessage   []byte
	Ciphertext       []byte
	TargetDID        string
	KeyPackageHashes []struct{ DID, Hash string }
}

// readTranscript finds the recorded groups beside this source file.
func readTranscript(t *testing.T, name string) transcript {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "testdata", "transcripts", name))
	if err != nil {
		t.Fatal(err)
	}
	var tr transcript
	if err := json.Unmarshal(b, &tr); err != nil {
		t.Fatal(err)
	}
	return tr
}

func (s step) command(t *testing.T) conversation.Command {
	t.Helper()
	switch s.Op {
	case "addMembers":
		c := conversation.AddMembers{DIDs: s.DIDList, Commit: s.Commit, Welcome: s.WelcomeMessage}
		for _, k := range s.KeyPackageHashes {
			hash, err := hex.DecodeString(k.Hash)
			if err != nil {
				t.Fatal(err)
			}
			c.KeyPackages = append(c.KeyPackages, conversation.KeyPackageRef{DID: k.DID, Hash: hash})
		}
		return c
	case "leaveConvo":
		return conversation.Leave{Target: s.TargetDID, Commit: s.Commit}
	case "sendMessage":
		return conversation.Send{Ciphertext: s.Ciphertext, Epoch: s.Epoch}
	default:
		t.Fatalf("a step of the unknown kind %q", s.Op)
		return nil
	}
}

// replay plays a recorded group, directly or through a claim, and demands that
// the log, the members, the welcomes and the key packages come out as the
// clients had them.
func replay(t *testing.T, f *fixture, name string, claimed bool) {
	tr := readTranscript(t, name)
	published := 0
	for _, p := range tr.People {
		for _, k := range p.KeyPackages {
			kp := keyPackage(p.DID, "", now().Add(conversation.MaxKeyPackageLife))
			kp.Data, kp.CipherSuite = k.Data, tr.CipherSuite
			kp.Hash = sum(k.Data)
			f.ok(f.tryPublish(kp, conversation.MaxKeyPackages), "publish")
			published++
		}
	}
	creator := tr.Steps[0].By
	_, _, err := f.Store.Create(f.ctx, f.creation(tr.GroupID, conversation.Creation{Creator: creator, CipherSuite: tr.CipherSuite}, env()))
	f.ok(err, "create")

	play := f.player(tr.GroupID, claimed)
	members, used, epoch := map[string]bool{creator: true}, 0, int64(0)
	var payloads [][]byte
	welcomes := map[string]persistence.WelcomeView{}
	for i, s := range tr.Steps[1:] {
		c := s.command(t)
		res := play(s.By, c)
		if s.Op == "sendMessage" {
			payloads = append(payloads, s.Ciphertext)
		} else {
			epoch = s.EpochAfter
			payloads = append(payloads, s.Commit)
		}
		equal(f, res.Epoch, epoch, "epoch after a step")
		equal(f, res.Seq, int64(i+1), "seq after a step")
		used += len(s.KeyPackageHashes)
		for _, did := range s.DIDList {
			members[did] = true
			welcomes[did] = persistence.WelcomeView{Data: s.WelcomeMessage, Epoch: res.Epoch, Seq: res.Seq}
		}
		delete(members, s.TargetDID)
	}
	f.cameOut(tr.GroupID, creator, members, payloads, welcomes)
	left := 0
	for _, p := range tr.People {
		left += len(f.findBy(persistence.KeyPackagesQuery{DIDs: []string{p.DID}, PerDID: 100}))
	}
	equal(f, left, published-used, "key packages left")
	f.clean("after the replay")
}

// player returns how one command of the group is carried out. In the recorded
// groups any member removes others.
func (f *fixture) player(convo string, claimed bool) func(string, conversation.Command) conversation.Result {
	mls := func() conversation.Env {
		e := env()
		e.Policy.AnyMemberRemoves = true
		return e
	}
	if !claimed {
		return func(caller string, c conversation.Command) conversation.Result {
			return f.directAt(mls(), convo, caller, c)
		}
	}
	h := f.hold(f.session().ID, convo)
	return func(caller string, c conversation.Command) conversation.Result {
		return resultOf(h.appendAt(mls(), f.request(convo, caller, c)))
	}
}

func (f *fixture) cameOut(
	convo, caller string, members map[string]bool, payloads [][]byte, welcomes map[string]persistence.WelcomeView,
) {
	f.t.Helper()
	got := f.members(convo, caller)
	equal(f, len(got), len(members), "members")
	for did := range members {
		equal(f, got[did].DID, did, "member")
		if did == caller {
			continue
		}
		w := f.welcome(convo, did)
		f.sameBytes(w.Data, welcomes[did].Data, "welcome of "+did)
		equal(f, w.Epoch, welcomes[did].Epoch, "epoch of the welcome")
		equal(f, w.Seq, welcomes[did].Seq, "seq of the welcome")
	}
	var log []persistence.Message
	for more := true; more; {
		p := f.messages(persistence.MessagesQuery{Convo: convo, Caller: caller, Limit: 25, SinceSeq: ptr(int64(len(log)))})
		log, more = append(log, p.Messages...), p.More
	}
	equal(f, len(log), len(payloads), "rows of the log")
	for i := range log {
		equal(f, log[i].Seq, int64(i+1), "seq")
		f.sameBytes(log[i].Ciphertext, payloads[i], "payload")
	}
}
