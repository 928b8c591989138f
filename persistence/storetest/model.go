package storetest

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"catbird/conversation"
	"catbird/persistence"
)

// model is what one conversation must look like after the operations so far,
// and who may do what to it next.
type model struct {
	f     *fixture
	convo string
	state conversation.State
	log   []conversation.Row

	members map[string]*modelMember
	dids    []string

	sessions []string         // that live
	holder   string           // the session whose claim is in the row; it may have ended
	holds    map[string]*hold // what each session believes, stale or not
	current  *hold            // the one whose base is still the conversation's, if any
	fence    int64            // the lowest that the next claim may give

	done map[persistence.Ref]doneRequest // by caller, endpoint and key
}

type modelMember struct {
	active             bool
	joined, read, left int64 // seqs
}

type doneRequest struct {
	digest string
	result conversation.Result
}

func newModel(f *fixture) *model {
	m := &model{
		f: f, members: map[string]*modelMember{}, holds: map[string]*hold{}, done: map[persistence.Ref]doneRequest{}, fence: 1,
	}
	for i := range 5 {
		m.dids = append(m.dids, f.did(fmt.Sprintf("%s-%d", randomHex(2), i)))
	}
	initial := m.dids[:3]
	m.convo = f.convo(initial[0], initial[1:]...)
	m.state = conversation.State{Creator: initial[0], Members: conversation.NewMembers(initial...)}
	for _, did := range initial {
		m.members[did] = &modelMember{active: true}
	}
	for range 3 {
		m.sessions = append(m.sessions, f.session().ID)
	}
	return m
}

// command draws something that somebody may ask for, sensible or not.
func (m *model) command(t *rapid.T, epoch int64) conversation.Command {
	text := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "text")
	did := rapid.SampledFrom(m.dids).Draw(t, "did")
	switch rapid.SampledFrom([]string{"send", "send", "add", "leave", "commit", "old"}).Draw(t, "command") {
	case "send":
		return send(epoch, text)
	case "add":
		return conversation.AddMembers{DIDs: []string{did}, Welcome: []byte(text)}
	case "leave":
		return conversation.Leave{Target: did}
	case "commit":
		if rapid.Bool().Draw(t, "mls") {
			return conversation.Commit{Commit: mlsCommit(m.convo, epoch)}
		}
		return conversation.Commit{Commit: []byte(text)}
	default:
		return send(epoch-1, text)
	}
}

func (m *model) request(t *rapid.T, epoch int64) *conversation.Request {
	caller := rapid.SampledFrom(m.dids).Draw(t, "caller")
	r := m.f.request(m.convo, caller, m.command(t, max(epoch, 1)))
	if epoch == 0 {
		if c, ok := r.Command.(conversation.Send); ok {
			c.Epoch = 0
			r.Command, r.Digest = c, conversation.DigestOf(c)
		}
	}
	r.Key = rapid.SampledFrom([]string{"", "k"}).Draw(t, "key")
	return r
}

func keyOf(r *conversation.Request) persistence.Ref {
	return persistence.Ref{Caller: r.Caller, Endpoint: r.Command.Op(), Key: r.Key}
}

// stored notes a change that the store has taken.
func (m *model) stored(r *conversation.Request, c conversation.Change, next conversation.State) {
	m.state = next
	if c.Row != nil {
		m.log = append(m.log, *c.Row)
	}
	for _, change := range c.Members {
		if change.Joined {
			m.members[change.DID] = &modelMember{active: true, joined: change.JoinedSeq, read: change.JoinedSeq}
		} else {
			member := m.members[change.DID]
			member.active, member.left = false, change.LeftSeq
		}
	}
	if r.Key != "" {
		m.done[keyOf(r)] = doneRequest{string(r.Digest), c.Result}
	}
}

func (m *model) live(session string) bool { return slices.Contains(m.sessions, session) }

// direct tries a change on the direct path and demands the answer that the
// model foretells.
func (m *model) direct(t *rapid.T) {
	f := m.f.with(t)
	r, e := m.request(t, m.state.Epoch), env()
	got, err := f.Store.Direct(f.ctx, "", r, e)
	if m.live(m.holder) {
		if _, ok := err.(*persistence.HeldError); !ok {
			t.Fatalf("direct while claimed: got error %v", err)
		}
		return
	}
	if before, ok := m.done[keyOf(r)]; ok && r.Key != "" {
		if before.digest != string(r.Digest) {
			f.refused(err, conversation.IdempotencyConflict, "a key with another body")
			return
		}
		f.ok(err, "a repeat")
		equal(f, got, before.result, "answer to a repeat")
		return
	}
	change, next, refusal := conversation.Decide(e, m.state, r)
	if refusal != nil {
		f.refused(err, conversation.CodeOf(refusal), "a refused change")
		return
	}
	f.ok(err, "a direct change")
	equal(f, got, change.Result, "result of a direct change")
	m.stored(r, change, next)
	m.holder, m.current = "", nil
	m.fence++
}

// append lets a session append what it decided on what it believes.
func (m *model) append(t *rapid.T) {
	var known []string
	for session := range m.holds {
		known = append(known, session)
	}
	if len(known) == 0 {
		return
	}
	slices.Sort(known)
	f, h := m.f.with(t), m.holds[rapid.SampledFrom(known).Draw(t, "session")]
	e, s := env(), h.state
	u := conversation.NewUnit(m.convo, s, h.fence)
	type decided struct {
		r      *conversation.Request
		change conversation.Change
		next   conversation.State
	}
	var all []decided
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		r := m.request(t, s.Epoch)
		if _, used := m.done[keyOf(r)]; used || slices.ContainsFunc(all, func(d decided) bool { return keyOf(d.r) == keyOf(r) }) {
			r.Key = "" // an actor has looked the key up before
		}
		change, next, err := conversation.Decide(e, s, r)
		if err != nil {
			continue
		}
		u.Add(change, next)
		all, s = append(all, decided{r, change, next}), next
	}
	if u.Empty() {
		return
	}
	if m.current != h {
		equal(f, f.appendOne(u), persistence.Conflict, "append on a base that is gone")
		return
	}
	equal(f, f.appendOne(u), persistence.Appended, "append on the base")
	for _, d := range all {
		m.stored(d.r, d.change, d.next)
	}
	h.state = s
}

func (m *model) claim(t *rapid.T) {
	f := m.f.with(t)
	session := rapid.SampledFrom(m.sessions).Draw(t, "session")
	c := f.claimOne(session, m.convo)
	if m.live(m.holder) && m.holder != session {
		equal(f, c.Outcome, persistence.ClaimHeld, "claim of what another holds")
		equal(f, c.Holder.Session, m.holder, "holder")
		return
	}
	equal(f, c.Outcome, persistence.ClaimGranted, "claim")
	if c.Fence < m.fence {
		t.Fatalf("fence %d, want %d at least", c.Fence, m.fence)
	}
	m.fence = c.Fence + 1
	equal(f, c.State.Epoch, m.state.Epoch, "epoch")
	equal(f, c.State.Seq, m.state.Seq, "seq")
	equal(f, c.State.MLS, m.state.MLS, "an MLS group")
	if got, want := c.State.Members.List(), m.state.Members.List(); !slices.Equal(got, want) {
		t.Fatalf("members: got %v, want %v", got, want)
	}
	h := &hold{f: m.f, convo: m.convo, session: session, state: c.State, fence: c.Fence}
	m.holder, m.holds[session], m.current = session, h, h
}

func (m *model) release(t *rapid.T) {
	f := m.f.with(t)
	session := rapid.SampledFrom(m.sessions).Draw(t, "session")
	h := m.holds[session]
	if h == nil {
		return
	}
	f.ok(f.Store.Release(f.ctx, session, []persistence.Claim{{Convo: m.convo, Fence: h.fence}}), "release")
	if m.holder == session && m.current == h {
		m.holder = ""
	}
}

// end ends a session and starts another.
func (m *model) end(t *rapid.T) {
	f := m.f.with(t)
	i := rapid.IntRange(0, len(m.sessions)-1).Draw(t, "session")
	f.ok(f.Store.EndSession(f.ctx, m.sessions[i]), "end a session")
	m.sessions[i] = f.session().ID
}

func (m *model) fold(t *rapid.T) { m.f.with(t).fold(m.convo) }

func (m *model) reset(t *rapid.T) {
	did := rapid.SampledFrom(m.dids).Draw(t, "did")
	member := m.members[did]
	low := int64(0)
	if member != nil {
		low = member.joined
	}
	seq := rapid.Int64Range(min(low, m.state.Seq), m.state.Seq).Draw(t, "seq")
	m.f.with(t).reset(m.convo, did, seq)
	if member != nil && member.active {
		member.read = seq
	}
}

// unread is how many messages by others a member has not read.
func (m *model) unread(did string) (n int64) {
	for _, r := range m.log {
		if r.Kind == conversation.KindApp && r.Sender != did && r.Seq > m.members[did].read {
			n++
		}
	}
	return n
}

// check demands that one of the members sees what the model says.
func (m *model) check(t *rapid.T) {
	m.checkView(t, rapid.SampledFrom(m.state.Members.List()).Draw(t, "reader"))
}

func (m *model) checkView(t *rapid.T, did string) {
	f := m.f.with(t)
	v, err := f.Store.Convo(f.ctx, m.convo, did)
	f.ok(err, "read the conversation")
	equal(f, v.Unread, m.unread(did), "unread messages")
	equal(f, v.Epoch, m.state.Epoch, "epoch")
	equal(f, len(v.Members), m.state.Members.Len(), "members")
}

// checkLogs demands that everybody reads the log as far as they may: seq
// without gap or repeat (I2), one commit an epoch (I1).
func (m *model) checkLogs(t *rapid.T) {
	f := m.f.with(t)
	for _, did := range m.state.Members.List() {
		m.checkView(t, did)
	}
	for _, did := range m.dids {
		member := m.members[did]
		if member == nil {
			_, err := f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: m.convo, Caller: did, Limit: 1})
			f.refused(err, conversation.NotMember, "the log for a stranger")
			continue
		}
		last := m.state.Seq
		if !member.active {
			last = member.left
		}
		p := f.log(m.convo, did)
		equal(f, p.LastSeq, last, "last seq")
		f.seqsAre(p, upTo(1, min(last, conversation.MaxPage)), "log")
		epoch := int64(0)
		for i, got := range p.Messages {
			want := m.log[i]
			equal(f, got.ID, want.ID, "id")
			equal(f, got.Kind, want.Kind, "kind")
			equal(f, got.Epoch, want.Epoch, "epoch")
			equal(f, got.Sender, want.Sender, "sender")
			f.sameBytes(got.Ciphertext, want.Ciphertext, "ciphertext")
			if got.Kind == conversation.KindCommit {
				epoch++
				equal(f, got.Epoch, epoch, "epoch of a commit")
			}
		}
	}
}
