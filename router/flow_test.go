package router

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence/sqlite"
)

var utcTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

func checkTime(t *testing.T, v any) {
	t.Helper()
	if s, _ := v.(string); !utcTime.MatchString(s) {
		t.Errorf("%v is no time in UTC", v)
	}
}

// TestRecordedGroups plays what real MLS clients did.
func TestRecordedGroups(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"small", "large"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := loadRecording(t, name)
			e := newEnv(t, everybodyRemoves)
			for _, p := range r.People {
				for _, k := range p.KeyPackages {
					e.post(p.DID, "publishKeyPackage", obj{"keyPackage": k.Data, "cipherSuite": r.CipherSuite}).want(t, "")
				}
			}
			play(t, e, r)
			checkLog(t, e, r)
		})
	}
}

func everybodyRemoves(c *Config) {
	p := conversation.DefaultPolicy()
	p.AnyMemberRemoves = true
	c.Delivery = direct{c.Store.(*sqlite.Store), p}
}

func play(t *testing.T, e *env, r recording) {
	t.Helper()
	for i, s := range r.Steps {
		switch s.Op {
		case "createConvo":
			a := e.post(s.By, s.Op, obj{"groupId": r.GroupID, "cipherSuite": r.CipherSuite, "metadata": obj{"name": "recorded"}}).want(t, "")
			if a.body["id"] != r.GroupID || a.num("epoch") != s.EpochAfter || a.body["creator"] != s.By {
				t.Fatalf("step %d: %s", i, a.raw)
			}
		case "addMembers":
			a := e.post(s.By, s.Op, obj{
				"convoId": r.GroupID, "didList": s.DIDList, "commit": s.Commit, "welcomeMessage": s.WelcomeMessage,
				"keyPackageHashes": s.KeyPackageHashes, "expectedEpoch": s.EpochBefore,
			}).want(t, "")
			if a.num("newEpoch") != s.EpochAfter || a.body["success"] != true {
				t.Fatalf("step %d: %s", i, a.raw)
			}
			for _, did := range s.DIDList {
				join(t, e, r.GroupID, did, s.WelcomeMessage, s.EpochAfter)
			}
		case "leaveConvo":
			a := e.post(s.By, s.Op, obj{"convoId": r.GroupID, "commit": s.Commit, "targetDid": s.TargetDID}).want(t, "")
			if a.num("newEpoch") != s.EpochAfter {
				t.Fatalf("step %d: %s", i, a.raw)
			}
		case "sendMessage":
			a := e.post(s.By, s.Op, obj{"convoId": r.GroupID, "epoch": s.Epoch, "ciphertext": obj{"$bytes": s.Ciphertext}, "senderDid": s.By}).want(t, "")
			if a.num("epoch") != s.Epoch || a.num("seq") != int64(i) {
				t.Fatalf("step %d: %s", i, a.raw)
			}
			checkTime(t, a.body["receivedAt"])
		default:
			t.Fatalf("step %d: unknown %s", i, s.Op)
		}
		if a := e.get(s.By, "getEpoch", "convoId", r.GroupID).want(t, ""); a.num("currentEpoch") != max(s.EpochAfter, s.Epoch) {
			t.Fatalf("after step %d: %s", i, a.raw)
		}
	}
}

// join has did fetch its welcome, twice, and confirm it, twice.
func join(t *testing.T, e *env, convo, did, welcome string, epoch int64) {
	t.Helper()
	for range 2 {
		a := e.get(did, "getWelcome", "convoId", convo).want(t, "")
		if a.body["welcome"] != welcome || a.num("epoch") != epoch || a.body["convoId"] != convo || a.num("seq") == 0 {
			t.Fatalf("welcome of %s: %s", did, a.raw)
		}
	}
	for range 2 {
		if a := e.post(did, "confirmWelcome", obj{"convoId": convo, "success": true}).want(t, ""); a.body["confirmed"] != true {
			t.Fatalf("confirm: %s", a.raw)
		}
	}
	e.get(did, "getWelcome", "convoId", convo).want(t, conversation.WelcomeNotFound)
}

// checkLog reads everything back: page by page, and the commits apart.
func checkLog(t *testing.T, e *env, r recording) {
	t.Helper()
	reader := r.Steps[0].By
	rows := r.Steps[1:]
	seen, cursor := 0, []string{"sinceSeq", "0"}
	for {
		a := e.get(reader, "getMessages", append(cursor, "convoId", r.GroupID, "limit", "7")...).want(t, "")
		if a.num("lastSeq") != int64(len(rows)) {
			t.Fatalf("lastSeq: %s", a.raw)
		}
		for _, m := range a.list("messages") {
			s := rows[seen]
			seen++
			want := obj{"convoId": r.GroupID, "sender": m["sender"], "seq": float64(seen), "messageType": "app", "epoch": float64(s.Epoch)}
			bytes := s.Ciphertext
			if s.Op != "sendMessage" {
				want["messageType"], want["epoch"], bytes = "commit", float64(s.EpochAfter), s.Commit
			}
			for field, v := range want {
				if m[field] != v {
					t.Fatalf("message %d has %s %v, want %v", seen, field, m[field], v)
				}
			}
			if unblob(t, m["ciphertext"]) != unb64(t, bytes) {
				t.Fatalf("message %d has other bytes", seen)
			}
			checkTime(t, m["createdAt"])
		}
		next, more := a.body["cursor"].(string)
		if !more {
			break
		}
		cursor = []string{"sinceMessage", next}
		if seen%2 == 0 {
			cursor[0] = "cursor"
		}
	}
	if seen != len(rows) {
		t.Fatalf("%d messages read, want %d", seen, len(rows))
	}
	commits := e.get(reader, "getCommits", "convoId", r.GroupID, "fromEpoch", "1").want(t, "").list("commits")
	epoch := int64(0)
	for _, s := range rows {
		if s.Op == "sendMessage" {
			continue
		}
		epoch++
		if c := commits[epoch-1]; c["epoch"] != float64(epoch) || unblob(t, c["commitData"]) != unb64(t, s.Commit) || c["seq"] == nil || c["sender"] == nil {
			t.Fatalf("commit of epoch %d: %v", epoch, c)
		}
	}
	if int(epoch) != len(commits) {
		t.Fatalf("%d commits, want %d", len(commits), epoch)
	}
}

func TestCreateConvo(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	a := e.post(alice, "createConvo", obj{
		"groupId": "ABCDEF", "cipherSuite": "MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519",
		"initialMembers": []string{bob, alice}, "welcomeMessage": b64("welcome"), "currentEpoch": 1,
		"metadata": obj{"name": "<b>", "description": "d"},
	}).want(t, "")
	created := a.raw
	members := a.list("members")
	checkTime(t, members[0]["joinedAt"])
	checkTime(t, a.body["createdAt"])
	var dids []string
	for _, m := range members {
		dids = append(dids, m["did"].(string))
		delete(m, "joinedAt")
	}
	if !slices.Equal(dids, []string{alice, bob}) {
		t.Errorf("members %v", dids)
	}
	for field, want := range map[string]any{
		"id": "abcdef", "groupId": "abcdef", "creator": alice, "epoch": 1.0, "unreadCount": 0.0,
		"cipherSuite": "MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519",
	} {
		if a.body[field] != want {
			t.Errorf("%s is %v, want %v", field, a.body[field], want)
		}
	}
	if m := a.body["metadata"].(map[string]any); m["name"] != "<b>" || m["description"] != "d" {
		t.Errorf("metadata %v", m)
	}
	if _, there := a.body["lastMessageAt"]; there {
		t.Error("a new conversation has a last message")
	}
	w := e.get(bob, "getWelcome", "convoId", "ABCDEF").want(t, "")
	if unb64(t, w.body["welcome"].(string)) != "welcome" || w.num("epoch") != 1 || w.num("seq") != 1 {
		t.Errorf("welcome %s", w.raw)
	}
	commits := e.get(bob, "getCommits", "convoId", "abcdef", "fromEpoch", "0").want(t, "").list("commits")
	if len(commits) != 1 || unblob(t, commits[0]["commitData"]) != "" {
		t.Errorf("commits %v, want an empty one of epoch 1", commits)
	}
	listed := e.get(alice, "getConvos").want(t, "")
	if want := `{"conversations":[` + string(created) + `]}`; string(listed.raw) != want {
		t.Errorf("listed as %s, created as %s", listed.raw, want)
	}
}

func TestUnreadCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob)
	for i := range 3 {
		e.send(alice, 0, fmt.Sprint(i)).want(t, "")
	}
	unread := func(did string, want float64) {
		t.Helper()
		c := e.get(did, "getConvos").want(t, "").list("conversations")[0]
		if c["unreadCount"] != want {
			t.Errorf("%s has %v unread, want %v", did, c["unreadCount"], want)
		}
		checkTime(t, c["lastMessageAt"])
	}
	unread(bob, 3)
	unread(alice, 0)
	a := e.get(bob, "getMessages", "convoId", group, "limit", "1").want(t, "")
	if ms := a.list("messages"); len(ms) != 1 || ms[0]["seq"] != 3.0 || a.body["cursor"] != nil {
		t.Errorf("without a start the newest page, got %s", a.raw)
	}
	unread(bob, 0)
}

func TestReadingAfterLeaving(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob, carol)
	e.send(alice, 0, "before").want(t, "")
	e.post(alice, "leaveConvo", obj{"convoId": group, "targetDid": bob, "commit": b64("remove bob")}).want(t, "")
	e.send(alice, 1, "after").want(t, "")
	e.post(alice, "commit", obj{"convoId": group, "commit": b64("later")}).want(t, "")

	a := e.get(bob, "getMessages", "convoId", group).want(t, "")
	if ms := a.list("messages"); len(ms) != 2 || unblob(t, ms[1]["ciphertext"]) != "remove bob" || a.num("lastSeq") != 2 {
		t.Errorf("who left reads %s", a.raw)
	}
	if cs := e.get(bob, "getCommits", "convoId", group, "fromEpoch", "0").want(t, "").list("commits"); len(cs) != 1 {
		t.Errorf("who left reads commits %v", cs)
	}
	e.get(bob, "getEpoch", "convoId", group).want(t, conversation.NotMember)
	e.send(bob, 1, "still here").want(t, conversation.NotMember)
	if cs := e.get(bob, "getConvos").want(t, "").list("conversations"); len(cs) != 0 {
		t.Errorf("who left is shown %v", cs)
	}
	e.post(carol, "addMembers", obj{"convoId": group, "didList": []string{bob}}).want(t, "")
	if a := e.get(bob, "getMessages", "convoId", group, "sinceSeq", "2").want(t, ""); a.num("lastSeq") != 5 {
		t.Errorf("who came back reads %s", a.raw)
	}
}

func TestGetConvosPages(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for i := range 5 {
		e.post(alice, "createConvo", obj{"groupId": fmt.Sprintf("0%d", i), "cipherSuite": suite}).want(t, "")
	}
	var seen []string
	q := []string{"limit", "2"}
	for {
		a := e.get(alice, "getConvos", q...).want(t, "")
		for _, c := range a.list("conversations") {
			seen = append(seen, c["id"].(string))
		}
		cursor, more := a.body["cursor"].(string)
		if !more {
			break
		}
		q = []string{"limit", "2", "cursor", cursor}
	}
	if !slices.Equal(seen, []string{"04", "03", "02", "01", "00"}) {
		t.Errorf("got %v, want the last active first and each once", seen)
	}
}

func TestWelcomeAgainAfterFailure(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo()
	e.post(alice, "addMembers", obj{"convoId": group, "didList": []string{bob}, "welcomeMessage": b64("w")}).want(t, "")
	e.get(bob, "getWelcome", "convoId", group).want(t, "")
	e.post(bob, "confirmWelcome", obj{"convoId": group, "success": false, "errorDetails": "secret text"}).want(t, "")
	e.get(bob, "getWelcome", "convoId", group).want(t, "")
	e.post(bob, "confirmWelcome", obj{"convoId": group, "success": true}).want(t, "")
	e.get(bob, "getWelcome", "convoId", group).want(t, conversation.WelcomeNotFound)
	if lines := e.logs.lines(t, "a client could not join by its welcome"); len(lines) != 1 || lines[0]["details_bytes"] != 11.0 {
		t.Errorf("log lines %v", lines)
	}
}

func TestKeyPackages(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, k := range []string{"k1", "k2", "k1"} { // the same bytes twice are one
		if a := e.post(bob, "publishKeyPackage", obj{"keyPackage": b64(k), "cipherSuite": suite}).want(t, ""); string(a.raw) != "{}" {
			t.Errorf("answer %s", a.raw)
		}
	}
	find := func(want ...string) {
		t.Helper()
		a := e.get(alice, "getKeyPackages", "dids", bob, "dids", carol, "dids", bob, "cipherSuite", suite).want(t, "")
		var got []string
		for _, k := range a.list("keyPackages") {
			data := unb64(t, k["keyPackage"].(string))
			got = append(got, data)
			if k["did"] != bob || k["cipherSuite"] != suite || k["keyPackageHash"] != hashOf(data) {
				t.Errorf("key package %v", k)
			}
		}
		if missing := a.body["missing"].([]any); !slices.Equal(got, want) || !slices.Equal(missing, []any{carol}) {
			t.Errorf("got %v, missing %v; want %v, missing carol", got, missing, want)
		}
	}
	find("k1", "k2")
	e.convo()
	add := obj{"convoId": group, "didList": []string{bob}, "keyPackageHashes": []obj{{"did": bob, "hash": hashOf("k1")}}}
	e.post(alice, "addMembers", add).want(t, "")
	find("k2")
	add["didList"], add["keyPackageHashes"] = []string{carol}, []obj{{"did": carol, "hash": hashOf("k2")}}
	e.post(alice, "addMembers", add).want(t, conversation.KeyPackageNotFound) // it is bob's
	if a := e.get(alice, "getEpoch", "convoId", group).want(t, ""); a.num("currentEpoch") != 1 {
		t.Errorf("a refused change moved the epoch: %s", a.raw)
	}
}

// A repeat gets its first answer whatever has changed since: the clock and the
// policy too.
func TestRepeatsAfterTheRulesHaveChanged(t *testing.T) {
	t.Parallel()
	var late atomic.Bool
	var policy *conversation.Policy
	e := newEnv(t, func(c *Config) {
		c.Policy = conversation.DefaultPolicy()
		c.Clock = func() time.Time {
			if late.Load() {
				return time.Now().Add(time.Hour)
			}
			return time.Now()
		}
	})
	policy = &e.rt.config.Policy
	publish := obj{"keyPackage": b64("k"), "cipherSuite": suite, "expires": time.Now().Add(time.Minute).UTC(), "idempotencyKey": "p"}
	e.post(bob, "publishKeyPackage", publish).want(t, "")
	create := obj{"groupId": "abcd", "cipherSuite": suite, "initialMembers": []string{bob, carol}, "idempotencyKey": "c"}
	first := e.post(alice, "createConvo", create)
	first.want(t, "")
	late.Store(true)
	policy.MaxMembers = 2
	e.post(bob, "publishKeyPackage", publish).want(t, "")
	if again := e.post(alice, "createConvo", create); string(again.raw) != string(first.raw) {
		t.Errorf("got %s, want the first answer %s", again.raw, first.raw)
	}
	publish["idempotencyKey"], create["idempotencyKey"], create["groupId"] = "q", "d", "abce"
	e.post(bob, "publishKeyPackage", publish).want(t, conversation.InvalidRequest)
	e.post(alice, "createConvo", create).want(t, conversation.TooManyMembers)
}

func TestKeyPackageForms(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	largest := strings.Repeat("k", conversation.MaxKeyPackage)
	in90Days := time.Now().Add(conversation.MaxKeyPackageLife - time.Minute)
	for name, tt := range map[string]struct {
		in   obj
		want conversation.Code
	}{
		"the largest":        {obj{"keyPackage": b64(largest), "cipherSuite": suite}, ""},
		"larger":             {obj{"keyPackage": b64(largest + "k"), "cipherSuite": suite}, conversation.InvalidKeyPackage},
		"another suite":      {obj{"keyPackage": b64("k"), "cipherSuite": "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448"}, ""},
		"an unknown suite":   {obj{"keyPackage": b64("k"), "cipherSuite": "mls_128_dhkemx25519_aes128gcm_sha256_ed25519"}, conversation.InvalidCipherSuite},
		"the longest life":   {obj{"keyPackage": b64("l"), "cipherSuite": suite, "expires": in90Days}, ""},
		"a time with a zone": {obj{"keyPackage": b64("m"), "cipherSuite": suite, "expires": in90Days.In(time.FixedZone("", -3600))}, ""},
	} {
		if a := e.post(bob, "publishKeyPackage", tt.in); a.name() != tt.want {
			t.Errorf("%s: got %d %s, want %q", name, a.status, a.raw, tt.want)
		}
	}
	e.get(alice, "getKeyPackages", "dids", bob, "cipherSuite", "x").want(t, conversation.InvalidCipherSuite)
	e.get(alice, "getKeyPackages", "dids", bob, "cipherSuite", "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448").want(t, "")
}

func TestFormsOfBytes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo()
	const raw = "\xfb\xff\xbe\x01" // has + and / in standard base64
	for i, form := range []any{
		obj{"$bytes": "+/++AQ=="}, obj{"$bytes": "+/++AQ"}, "+/++AQ==", "+/++AQ", "-_--AQ==", "-_--AQ", obj{"$bytes": "-_--AQ"},
	} {
		a := e.post(alice, "sendMessage", obj{"convoId": group, "epoch": 0, "ciphertext": form}).want(t, "")
		m := e.get(alice, "getMessages", "convoId", group, "limit", "1").want(t, "").list("messages")[0]
		if m["id"] != a.body["messageId"] || unblob(t, m["ciphertext"]) != raw {
			t.Errorf("form %d gives %v", i, m)
		}
	}
	for epoch, form := range []string{"+/++AQ==", "+/++AQ", "-_--AQ==", "-_--AQ"} {
		e.post(alice, "commit", obj{"convoId": group, "commit": form, "expectedEpoch": epoch}).want(t, "")
		cs := e.get(alice, "getCommits", "convoId", group, "fromEpoch", fmt.Sprint(epoch+1)).want(t, "").list("commits")
		if len(cs) != 1 || unblob(t, cs[0]["commitData"]) != raw {
			t.Errorf("form %q gives %v", form, cs)
		}
	}
	e.post(alice, "sendMessage", obj{"convoId": group, "epoch": 4, "ciphertext": b64("x"), "embedType": "link", "embedUri": "https://x.example"}).want(t, "")
	m := e.get(alice, "getMessages", "convoId", group, "limit", "1").want(t, "").list("messages")[0]
	if m["embedType"] != "link" || m["embedUri"] != "https://x.example" {
		t.Errorf("embed: %v", m)
	}
}
