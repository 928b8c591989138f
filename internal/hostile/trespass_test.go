package hostile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"catbird/internal/app/apptest"
)

const carol, dave = "did:plc:carol", "did:plc:dave"

// estate is a node with a conversation of alice and bob, of which carol was a
// member once, and another one of mallory and dave.
type estate struct {
	*injector
	t           *testing.T
	theirs, own string
	message     string // an id in theirs
	hash        string // of a key package of bob
	methods     map[string]method
}

func newEstate(t *testing.T, where apptest.Change) *estate {
	t.Helper()
	e := &estate{injector: newInjector(t, apptest.Start(t, where, apptest.Actors(true))), t: t, methods: map[string]method{}}
	for _, m := range methods(t) {
		e.methods[m.name] = m
	}
	e.theirs = e.fresh()
	e.own = hex.EncodeToString([]byte("the own one of mallory"))
	e.must(mallory, "createConvo", map[string]any{"groupId": e.own, "cipherSuite": suite, "initialMembers": []string{dave}, "welcomeMessage": b64("w")})
	e.must(alice, "addMembers", map[string]any{"convoId": e.theirs, "didList": []string{carol}, "welcomeMessage": b64("welcome carol")})
	e.message = e.send1(alice, e.theirs, "while carol is there", 1, "alice's key")
	e.must(alice, "leaveConvo", map[string]any{"convoId": e.theirs, "targetDid": carol})
	e.send1(alice, e.theirs, "after carol has left", 2, "")
	e.send1(mallory, e.own, "from mallory", 0, "")
	sum := sha256.Sum256([]byte("a key package of bob"))
	e.hash = hex.EncodeToString(sum[:])
	e.must(bob, "publishKeyPackage", map[string]any{"keyPackage": b64("a key package of bob"), "cipherSuite": suite})
	return e
}

// must calls a method that must be allowed.
func (e *estate) must(did, name string, in map[string]any) map[string]any {
	e.t.Helper()
	status, out := e.call(did, e.methods[name], in)
	if status != 200 {
		e.t.Fatalf("%s by %s: %d %v", name, did, status, out)
	}
	return out
}

// refused calls a method that must be refused in one of these ways, and tell
// nothing of what is not the caller's.
func (e *estate) refused(did, name string, in map[string]any, want ...string) {
	e.t.Helper()
	status, out := e.call(did, e.methods[name], in)
	got, _ := out["error"].(string)
	if status < 400 || status >= 500 || !slices.Contains(want, got) {
		e.t.Errorf("%s by %s of %v: %d %v, want %s", name, did, in, status, out, want)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, secret := range []string{alice, bob, e.message, b64("welcome"), b64("while carol is there"), "commits"} {
		if strings.Contains(string(raw), secret) {
			e.t.Errorf("%s by %s tells of %q: %s", name, did, secret, raw)
		}
	}
}

func (e *estate) send1(did, convo, text string, epoch int, key string) (id string) {
	e.t.Helper()
	in := map[string]any{"convoId": convo, "epoch": epoch, "ciphertext": b64(text)}
	if key != "" {
		in["idempotencyKey"] = key
	}
	return e.must(did, "sendMessage", in)["messageId"].(string)
}

// A stranger and a former member reach for a conversation by every method that
// takes the id of one, and by the ids of what is in it.
func TestReachingForTheConversationsOfOthers(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		e := newEstate(t, where)
		e.strangerByEveryMethod()
		e.formerMember()
		e.borrowedIDs()
		e.othersAsTarget()
		// Nothing of all that has left a trace.
		log := e.must(bob, "getMessages", map[string]any{"convoId": e.theirs, "limit": 100})
		if n := len(log["messages"].([]any)); n != 4 || log["lastSeq"] != 4.0 {
			t.Errorf("the log has %d messages up to %v, want 4", n, log["lastSeq"])
		}
		if epoch := e.must(bob, "getEpoch", map[string]any{"convoId": e.theirs})["currentEpoch"]; epoch != 2.0 {
			t.Errorf("the epoch is %v, want 2", epoch)
		}
		if w := e.must(bob, "getWelcome", map[string]any{"convoId": e.theirs})["welcome"]; w != b64("welcome") {
			t.Errorf("the welcome is %v", w)
		}
		if p := e.must(alice, "getKeyPackages", map[string]any{"dids": []any{bob}})["keyPackages"].([]any); len(p) != 1 {
			t.Errorf("bob has %d key packages left, want 1", len(p))
		}
	})
}

func (e *estate) strangerByEveryMethod() {
	e.t.Helper()
	tried := 0
	for name, m := range e.methods {
		if m.input.Properties["convoId"] == nil {
			continue
		}
		tried++
		for _, id := range []string{e.theirs, strings.ToUpper(e.theirs)} {
			in := m.input.value(nil, "", "", good(id)).(map[string]any)
			e.refused(mallory, name, in, "NotMember")
			in["expectedEpoch"], in["idempotencyKey"] = 0, "alice's key" // not even that an epoch has passed
			e.refused(mallory, name, in, "NotMember")
		}
		in := m.input.value(nil, "", "", good("00ff00ff")).(map[string]any)
		e.refused(mallory, name, in, "ConvoNotFound")
	}
	if tried < 9 {
		e.t.Errorf("only %d methods take the id of a conversation", tried)
	}
}

// formerMember reads what was said up to the commit that removed her, and does
// nothing more.
func (e *estate) formerMember() {
	e.t.Helper()
	for name, m := range e.methods {
		switch {
		case m.input.Properties["convoId"] == nil, name == "getMessages", name == "getCommits":
		default:
			e.refused(carol, name, m.input.value(nil, "", "", good(e.theirs)).(map[string]any), "NotMember")
		}
	}
	for _, since := range []map[string]any{{}, {"sinceSeq": 0}, {"sinceSeq": 3}, {"sinceMessage": e.message}} {
		since["convoId"] = e.theirs
		out := e.must(carol, "getMessages", since)
		if out["lastSeq"] != 3.0 {
			e.t.Errorf("who left at 3 is told of %v", out["lastSeq"])
		}
		for _, m := range out["messages"].([]any) {
			if seq := m.(map[string]any)["seq"].(float64); seq > 3 {
				e.t.Errorf("who left at 3 is given message %v", seq)
			}
		}
	}
	out := e.must(carol, "getCommits", map[string]any{"convoId": e.theirs, "fromEpoch": 0})
	if n := len(out["commits"].([]any)); n != 2 {
		e.t.Errorf("who was removed by the second commit is given %d", n)
	}
	if l := e.must(carol, "getConvos", map[string]any{})["conversations"].([]any); len(l) != 0 {
		e.t.Errorf("who left is shown %v", l)
	}
}

// borrowedIDs uses what is true elsewhere in a conversation of one's own.
func (e *estate) borrowedIDs() {
	e.t.Helper()
	for _, name := range []string{"sinceMessage", "cursor"} {
		e.refused(mallory, "getMessages", map[string]any{"convoId": e.own, name: e.message}, "InvalidCursor")
	}
	// A page of somebody else's conversations begins where it says, but the
	// conversations are the caller's own.
	e.fresh()
	e.fresh()
	cursor, _ := e.must(alice, "getConvos", map[string]any{"limit": 1})["cursor"].(string)
	if cursor == "" {
		e.t.Fatal("there is no cursor to borrow")
	}
	page := e.must(mallory, "getConvos", map[string]any{"cursor": cursor})
	for _, c := range page["conversations"].([]any) {
		if id := c.(map[string]any)["id"]; id != e.own {
			e.t.Errorf("a borrowed cursor shows %v", id)
		}
	}
	for _, owner := range []string{carol, mallory, "did:plc:eve"} {
		e.refused(mallory, "addMembers", map[string]any{
			"convoId": e.own, "didList": []string{"did:plc:eve"},
			"keyPackageHashes": []any{map[string]any{"did": owner, "hash": e.hash}},
		}, "KeyPackageNotFound", "InvalidRequest")
	}
	e.refused(mallory, "createConvo", map[string]any{"groupId": e.theirs, "cipherSuite": suite, "idempotencyKey": "create"}, "ConvoAlreadyExists")
	e.refused(mallory, "createConvo", map[string]any{"groupId": strings.ToUpper(e.theirs), "cipherSuite": suite}, "ConvoAlreadyExists")
	e.refused(dave, "getWelcome", map[string]any{"convoId": e.theirs}, "NotMember")
	e.refused(alice, "getWelcome", map[string]any{"convoId": e.theirs}, "WelcomeNotFound") // it is for those who were added
}

// othersAsTarget speaks and acts for others.
func (e *estate) othersAsTarget() {
	e.t.Helper()
	e.refused(mallory, "sendMessage", map[string]any{"convoId": e.own, "epoch": 0, "ciphertext": b64("x"), "senderDid": dave}, "InvalidRequest")
	e.refused(dave, "leaveConvo", map[string]any{"convoId": e.own, "targetDid": mallory}, "NotAuthorized")
	e.refused(dave, "leaveConvo", map[string]any{"convoId": e.own, "targetDid": "did:plc:eve"}, "TargetNotMember", "NotAuthorized")
}
