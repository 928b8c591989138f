package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
)

// fake is a service in memory that keeps to the API as far as a replay goes. It
// decides as the real one does, with package conversation; storing and reading
// are its own.
type fake struct {
	policy conversation.Policy
	// tamper, if set, may change an answer before it goes out.
	tamper func(endpoint, caller string, answer map[string]any)
	// fault, if set, may spoil the n-th request: see spoil.
	fault func(n int, endpoint string) spoil
	// late is how many times a list of conversations shows unread counts of 0
	// before it shows the right ones.
	late int

	mu          sync.Mutex
	n           int
	convos      map[string]*fakeConvo
	answers     map[string]any // by caller, endpoint, conversation and key
	keyPackages []*fakeKeyPackage
	shown       map[string]int // how often a person was shown their conversations
}

// spoil is what goes wrong with a request.
type spoil int

const (
	nothing  spoil = iota
	refuse         // 503 at once
	lose           // done, but the connection breaks
	doubtful       // done, but 504 OutcomeUnknown
)

type fakeConvo struct {
	state    conversation.State
	suite    string
	created  time.Time
	rows     []conversation.Row
	people   map[string]*fakePerson
	welcomes map[string]*conversation.Welcome
}

type fakePerson struct {
	active   bool
	joinedAt time.Time
	lastSeq  int64 // of who has left
	unread   int64
}

type fakeKeyPackage struct {
	did, suite, hash string
	data             []byte
	used             bool
}

func newFake(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{
		policy: conversation.DefaultPolicy(), convos: make(map[string]*fakeConvo), answers: make(map[string]any),
		shown: make(map[string]int),
	}
	f.policy.AnyMemberRemoves = true
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return f, server.URL
}

// ServeHTTP answers a request. The token is the caller's DID.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	caller := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	endpoint := strings.TrimPrefix(r.URL.Path, "/xrpc/"+client.Prefix)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	s := nothing
	if f.fault != nil {
		s = f.fault(f.n, endpoint)
	}
	if s == refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":"Unavailable","message":"later"}`)
		return
	}
	answer, err := f.serve(endpoint, caller, r, body)
	switch {
	case s == lose:
		panic(http.ErrAbortHandler)
	case s == doubtful:
		w.WriteHeader(http.StatusGatewayTimeout)
		fmt.Fprint(w, `{"error":"OutcomeUnknown","message":"ask again"}`)
	case err != nil:
		f.write(w, endpoint, caller, statusOf(err), map[string]any{"error": conversation.CodeOf(err), "message": err.Error()})
	default:
		f.write(w, endpoint, caller, http.StatusOK, answer)
	}
}

func (f *fake) write(w http.ResponseWriter, endpoint, caller string, status int, answer any) {
	b, _ := json.Marshal(answer)
	if f.tamper != nil {
		var m map[string]any
		_ = json.Unmarshal(b, &m)
		if status != http.StatusOK {
			endpoint = "refused " + endpoint
		}
		f.tamper(endpoint, caller, m)
		b, _ = json.Marshal(m)
	}
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func statusOf(err error) int {
	switch conversation.CodeOf(err) {
	case conversation.NotMember, conversation.NotAuthorized:
		return http.StatusForbidden
	case conversation.ConvoNotFound, conversation.WelcomeNotFound, conversation.KeyPackageNotFound:
		return http.StatusNotFound
	case conversation.EpochMismatch, conversation.AlreadyMember, conversation.ConvoAlreadyExists:
		return http.StatusConflict
	default:
		return http.StatusBadRequest
	}
}

func (f *fake) serve(endpoint, caller string, r *http.Request, body []byte) (any, error) {
	q := r.URL.Query()
	switch endpoint {
	case "createConvo":
		return once(f, endpoint, caller, body, f.createConvo)
	case "addMembers":
		return once(f, endpoint, caller, body, func(caller string, in client.AddMembers) (any, error) {
			refs := make([]conversation.KeyPackageRef, len(in.KeyPackageHashes))
			for i, k := range in.KeyPackageHashes {
				hash, _ := hex.DecodeString(k.Hash)
				refs[i] = conversation.KeyPackageRef{DID: k.DID, Hash: hash}
			}
			return f.change(caller, in.ConvoID, conversation.AddMembers{
				DIDs: in.DIDs, Commit: in.Commit, Welcome: in.Welcome, KeyPackages: refs, Expected: in.ExpectedEpoch,
			})
		})
	case "leaveConvo":
		return once(f, endpoint, caller, body, func(caller string, in client.LeaveConvo) (any, error) {
			return f.change(caller, in.ConvoID, conversation.Leave{Target: in.TargetDID, Commit: in.Commit, Expected: in.ExpectedEpoch})
		})
	case "sendMessage":
		return once(f, endpoint, caller, body, func(caller string, in client.SendMessage) (any, error) {
			return f.change(caller, in.ConvoID, conversation.Send{Ciphertext: in.Ciphertext, Epoch: in.Epoch})
		})
	case "publishKeyPackage":
		return once(f, endpoint, caller, body, f.publish)
	case "confirmWelcome":
		var in client.ConfirmWelcome
		_ = json.Unmarshal(body, &in)
		if in.Success {
			delete(f.convos[in.ConvoID].welcomes, caller)
		}
		return map[string]bool{"confirmed": true}, nil
	case "getKeyPackages":
		return f.getKeyPackages(q["dids"], q.Get("cipherSuite"))
	case "getConvos":
		return f.getConvos(caller), nil
	}
	return f.read(endpoint, caller, q.Get)
}

// once runs do, or gives the first answer again. Its key is the request's
// idempotencyKey or msgId.
func once[T any](f *fake, endpoint, caller string, body []byte, do func(string, T) (any, error)) (any, error) {
	var in T
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, conversation.Refuse(conversation.InvalidRequest, "%s", err)
	}
	var keys struct{ ConvoID, IdempotencyKey, MsgID string }
	_ = json.Unmarshal(body, &keys)
	key := strings.Join([]string{endpoint, caller, keys.ConvoID, keys.IdempotencyKey, keys.MsgID}, "|")
	if first, ok := f.answers[key]; ok {
		return first, nil
	}
	answer, err := do(caller, in)
	if err == nil {
		f.answers[key] = answer
	}
	return answer, err
}

func (f *fake) env() conversation.Env {
	return conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: f.policy}
}

func (f *fake) createConvo(caller string, in client.CreateConvo) (any, error) {
	if f.convos[in.GroupID] != nil {
		return nil, conversation.Refuse(conversation.ConvoAlreadyExists, "it exists")
	}
	env := f.env()
	c := conversation.Creation{Creator: caller, CipherSuite: in.CipherSuite}
	s, _, err := c.Create(env, &conversation.Request{Convo: in.GroupID, Caller: caller})
	if err != nil {
		return nil, err
	}
	f.convos[in.GroupID] = &fakeConvo{
		state: s, suite: in.CipherSuite, created: env.Now, welcomes: make(map[string]*conversation.Welcome),
		people: map[string]*fakePerson{caller: {active: true, joinedAt: env.Now}},
	}
	return f.view(in.GroupID, caller), nil
}

func (f *fake) change(caller, id string, cmd conversation.Command) (any, error) {
	c := f.convos[id]
	if c == nil {
		return nil, conversation.Refuse(conversation.ConvoNotFound, "there is none")
	}
	if err := cmd.Validate(); err != nil {
		return nil, err
	}
	r := &conversation.Request{ID: fmt.Sprintf("id-%s-%d", id, c.state.Seq+1), Convo: id, Caller: caller, Command: cmd}
	ch, next, err := conversation.Decide(f.env(), c.state, r)
	if err != nil {
		return nil, err
	}
	for _, ref := range ch.KeyPackages {
		i := slices.IndexFunc(f.keyPackages, func(k *fakeKeyPackage) bool {
			return !k.used && k.did == ref.DID && k.hash == hex.EncodeToString(ref.Hash)
		})
		if i < 0 {
			return nil, conversation.Refuse(conversation.KeyPackageNotFound, "it is gone")
		}
		f.keyPackages[i].used = true
	}
	c.apply(ch, next)
	if cmd.Op() == conversation.OpSend {
		return client.Sent{MessageID: ch.Result.ID, ReceivedAt: ch.Result.At, Seq: ch.Result.Seq, Epoch: ch.Result.Epoch}, nil
	}
	return client.Changed{Success: true, NewEpoch: ch.Result.Epoch}, nil
}

func (c *fakeConvo) apply(ch conversation.Change, next conversation.State) {
	c.state = next
	for _, m := range ch.Members {
		if m.Joined {
			c.people[m.DID] = &fakePerson{active: true, joinedAt: m.At}
		} else {
			c.people[m.DID].active, c.people[m.DID].lastSeq = false, m.LeftSeq
		}
	}
	for _, w := range ch.Welcomes {
		c.welcomes[w.Recipient] = &w
	}
	if ch.Row == nil {
		return
	}
	c.rows = append(c.rows, *ch.Row)
	for did, p := range c.people {
		if ch.Row.Kind == conversation.KindApp && p.active && did != ch.Row.Sender {
			p.unread++
		}
	}
}

func (f *fake) publish(caller string, in client.PublishKeyPackage) (any, error) {
	sum := sha256.Sum256(in.KeyPackage)
	f.keyPackages = append(f.keyPackages, &fakeKeyPackage{
		did: caller, suite: in.CipherSuite, hash: hex.EncodeToString(sum[:]), data: in.KeyPackage,
	})
	return struct{}{}, nil
}

func (f *fake) getKeyPackages(dids []string, suite string) (any, error) {
	out := client.KeyPackages{KeyPackages: []client.KeyPackage{}, Missing: []string{}}
	for _, did := range dids {
		n := len(out.KeyPackages)
		for _, k := range f.keyPackages {
			if !k.used && k.did == did && k.suite == suite {
				out.KeyPackages = append(out.KeyPackages, client.KeyPackage{DID: did, KeyPackage: k.data, CipherSuite: suite, Hash: k.hash})
			}
		}
		if len(out.KeyPackages) == n {
			out.Missing = append(out.Missing, did)
		}
	}
	return out, nil
}

func (f *fake) getConvos(caller string) any {
	f.shown[caller]++
	out := client.Convos{Conversations: []client.Convo{}}
	for id, c := range f.convos {
		if p := c.people[caller]; p != nil && p.active {
			v := f.view(id, caller)
			if f.shown[caller] <= f.late {
				v.UnreadCount = 0
			}
			out.Conversations = append(out.Conversations, v)
		}
	}
	return out
}

func (f *fake) view(id, caller string) client.Convo {
	c := f.convos[id]
	v := client.Convo{
		ID: id, GroupID: id, Creator: c.state.Creator, Epoch: c.state.Epoch, CipherSuite: c.suite, CreatedAt: c.created,
		UnreadCount: c.people[caller].unread,
	}
	for did, p := range c.people {
		if p.active {
			v.Members = append(v.Members, client.Member{DID: did, JoinedAt: p.joinedAt})
		}
	}
	for _, r := range c.rows {
		if r.Kind == conversation.KindApp {
			v.LastMessageAt = &r.At
		}
	}
	return v
}

func (f *fake) read(endpoint, caller string, param func(string) string) (any, error) {
	id := param("convoId")
	c := f.convos[id]
	if c == nil {
		return nil, conversation.Refuse(conversation.ConvoNotFound, "there is none")
	}
	p := c.people[caller]
	if p == nil || (!p.active && endpoint == "getEpoch") {
		return nil, conversation.Refuse(conversation.NotMember, "you are none")
	}
	rows := c.rows
	if !p.active {
		rows = rows[:p.lastSeq]
	}
	switch endpoint {
	case "getEpoch":
		return client.Epoch{ConvoID: id, CurrentEpoch: c.state.Epoch}, nil
	case "getWelcome":
		if w := c.welcomes[caller]; w != nil {
			return client.Welcome{ConvoID: id, Welcome: w.Data, Epoch: w.Epoch, Seq: w.Seq}, nil
		}
		return nil, conversation.Refuse(conversation.WelcomeNotFound, "there is none")
	case "getMessages":
		p.unread = 0
		return page1(id, rows, param), nil
	case "getCommits":
		from, _ := strconv.ParseInt(param("fromEpoch"), 10, 64)
		to, err := strconv.ParseInt(param("toEpoch"), 10, 64)
		if err != nil {
			to = c.state.Epoch
		}
		out := client.Commits{ConvoID: id, Commits: []client.Commit{}}
		for _, r := range rows {
			if r.Kind == conversation.KindCommit && r.Epoch >= from && r.Epoch <= to {
				out.Commits = append(out.Commits, client.Commit{Epoch: r.Epoch, Seq: r.Seq, Sender: r.Sender, CommitData: r.Ciphertext, CreatedAt: r.At})
			}
		}
		return out, nil
	default:
		return nil, conversation.Refuse(conversation.MethodNotFound, "no %s", endpoint)
	}
}

func page1(id string, rows []conversation.Row, param func(string) string) client.Messages {
	limit, _ := strconv.Atoi(param("limit"))
	out := client.Messages{Messages: []client.Message{}, LastSeq: int64(len(rows))}
	since, err := strconv.Atoi(param("sinceSeq"))
	switch {
	case param("sinceMessage") != "":
		since = 1 + slices.IndexFunc(rows, func(r conversation.Row) bool { return r.ID == param("sinceMessage") })
	case err != nil:
		since = max(0, len(rows)-limit)
	}
	for _, r := range rows[since:min(since+limit, len(rows))] {
		out.Messages = append(out.Messages, client.Message{
			ID: r.ID, ConvoID: id, Sender: r.Sender, Ciphertext: r.Ciphertext, Epoch: r.Epoch, Seq: r.Seq,
			MessageType: string(r.Kind), CreatedAt: r.At,
		})
	}
	return out
}
