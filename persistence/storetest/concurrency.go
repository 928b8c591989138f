package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var concurrencyTests = []test{
	{name: "ConcurrentDirectChangesGetOneEpochEach", run: concurrentDirectChanges},
	{name: "ConcurrentCreatesOfOneKeyMakeOne", run: concurrentCreatesOfOneKey},
	{name: "ConcurrentCreatesOfOneIDMakeOne", run: concurrentCreatesOfOneID},
	{name: "ConcurrentRepeatsHappenOnce", run: concurrentRepeats},
	{name: "ConcurrentAppendsOneWins", run: concurrentAppends},
	{name: "ConcurrentBatchesInOppositeOrder", run: concurrentBatches},
	{name: "ConcurrentClaimsOneWins", run: concurrentClaims},
	{name: "ConcurrentUsesOfOneKeyPackage", run: concurrentKeyPackage},
	{name: "ConcurrentUnreadStaysExact", run: concurrentUnread},
	{name: "ConcurrentReadsSeeOneSnapshot", run: concurrentReads},
	{name: "ConcurrentHousekeepersShareTheWork", alone: true, run: concurrentHousekeepers},
}

// failures collects what goroutines report: they must not end the test
// themselves.
type failures struct {
	mu   sync.Mutex
	list []error
}

func (e *failures) addf(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Errorf(format, args...))
}

// together runs do n times at once and ends the test if one of them failed.
func (f *fixture) together(n int, do func(i int) error) {
	f.t.Helper()
	var all failures
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if err := do(i); err != nil {
				all.addf("goroutine %d: %w", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(all.list...); err != nil {
		f.t.Fatalf("%v", err)
	}
}

func concurrentDirectChanges(t *testing.T, f *fixture) {
	const n = 20
	alice := f.did("alice")
	convo := f.convo(alice)
	results := make([]conversation.Result, n)
	f.together(n, func(i int) (err error) {
		r := f.request(convo, alice, add(f.did(fmt.Sprint("m", i))))
		results[i], err = f.Store.Direct(f.ctx, "", r, env())
		return err
	})
	var got []int64
	for _, r := range results {
		equal(f, r.Seq, r.Epoch, "seq of a commit")
		got = append(got, r.Epoch)
	}
	slices.Sort(got)
	if want := upTo(1, n); !slices.Equal(got, want) {
		t.Fatalf("epochs: got %v, want %v", got, want)
	}
	f.epochsAre(f.commits(persistence.CommitsQuery{Convo: convo, Caller: alice}), upTo(1, n), "commits")
	equal(f, len(f.members(convo, alice)), n+1, "members")
	for i, m := range f.log(convo, alice).Messages {
		equal(f, m.Seq, int64(i+1), "seq")
	}
}

func concurrentCreatesOfOneKey(t *testing.T, f *fixture) {
	const n = 8
	alice := f.did("alice")
	id := newConvoID()
	answers, firsts := make([][]byte, n), make([]bool, n)
	f.together(n, func(i int) error {
		r := &conversation.Request{ID: newID(), Convo: id, Caller: alice, Key: "k", Digest: []byte("d")}
		answer, repeated, err := f.Store.Create(f.ctx, f.creationOf(r, conversation.Creation{Creator: alice, CipherSuite: cipherSuite}, env()))
		answers[i], firsts[i] = answer, !repeated
		return err
	})
	created := 0
	for i := range n {
		f.sameBytes(answers[i], answers[0], "answer")
		if firsts[i] {
			created++
		}
	}
	equal(f, created, 1, "creations that were the first")
	equal(f, len(f.members(id, alice)), 1, "members")
}

func concurrentCreatesOfOneID(t *testing.T, f *fixture) {
	const n = 8
	id := newConvoID()
	made := make([]bool, n)
	f.together(n, func(i int) error {
		_, _, err := f.Store.Create(f.ctx, f.creation(id, conversation.Creation{Creator: f.did(fmt.Sprint("m", i))}, env()))
		made[i] = err == nil
		if err != nil && conversation.CodeOf(err) != conversation.ConvoAlreadyExists {
			return err
		}
		return nil
	})
	creator := slices.Index(made, true)
	if creator < 0 || slices.Contains(made[creator+1:], true) {
		t.Fatalf("created: %v, want one", made)
	}
	equal(f, len(f.members(id, f.did(fmt.Sprint("m", creator)))), 1, "members")
}

func concurrentRepeats(t *testing.T, f *fixture) {
	const n = 8
	alice := f.did("alice")
	convo := f.convo(alice)
	byKey, byID := make([]conversation.Result, n), make([]conversation.Result, n)
	one := f.request(convo, alice, send(0, "by id"))
	one.Retry = true
	f.together(2*n, func(i int) (err error) {
		if i < n {
			byKey[i], err = f.Store.Direct(f.ctx, "", f.keyed(convo, alice, "k", send(0, "by key")), env())
		} else {
			byID[i-n], err = f.Store.Direct(f.ctx, "", one, env())
		}
		return err
	})
	for i := range n {
		equal(f, byKey[i].ID, byKey[0].ID, "id by key")
		equal(f, byKey[i].Seq, byKey[0].Seq, "seq by key")
		equal(f, byID[i].Seq, byID[0].Seq, "seq by id")
	}
	equal(f, len(f.log(convo, alice).Messages), 2, "messages")
}

func concurrentAppends(t *testing.T, f *fixture) {
	const n, rounds = 6, 4
	alice := f.did("alice")
	h := f.held(alice)
	for range rounds {
		units, states := make([]*conversation.Unit, n), make([]conversation.State, n)
		for i := range n {
			units[i], states[i] = h.unit(env(), f.request(h.convo, alice, send(0, "x")), f.request(h.convo, alice, send(0, "y")))
		}
		outcomes := make([]persistence.AppendOutcome, n)
		f.together(n, func(i int) error {
			got, err := f.Store.Append(f.ctx, units[i:i+1])
			if err == nil {
				outcomes[i] = got[0]
			}
			return err
		})
		winner := slices.Index(outcomes, persistence.Appended)
		if winner < 0 {
			t.Fatalf("outcomes: %v, want one appended", outcomes)
		}
		for i, o := range outcomes {
			if i != winner {
				equal(f, o, persistence.Conflict, "outcome of the others")
			}
		}
		h.state = states[winner]
	}
	p := f.log(h.convo, alice)
	f.seqsAre(p, upTo(1, 2*rounds), "the log")
}

// Batches that name the same conversations in opposite order neither deadlock
// nor tear each other's units.
func concurrentBatches(t *testing.T, f *fixture) {
	const n, convos = 6, 4
	alice := f.did("alice")
	session := f.session().ID
	var holds []*hold
	for range convos {
		holds = append(holds, f.hold(session, f.convo(alice)))
	}
	batches := make([][]*conversation.Unit, n)
	for i := range n {
		for _, h := range holds {
			u, _ := h.unit(env(), f.request(h.convo, alice, send(0, "x")))
			batches[i] = append(batches[i], u)
		}
		if i%2 == 1 {
			slices.Reverse(batches[i])
		}
	}
	var mu sync.Mutex
	won := map[string]int{}
	f.together(n, func(i int) error {
		got, err := f.Store.Append(f.ctx, batches[i])
		mu.Lock()
		defer mu.Unlock()
		for j := range got {
			if got[j] == persistence.Appended {
				won[batches[i][j].Convo]++
			}
		}
		return err
	})
	for _, h := range holds {
		equal(f, won[h.convo], 1, "units appended to one base")
		equal(f, f.log(h.convo, alice).LastSeq, 1, "last seq")
	}
}

func concurrentClaims(t *testing.T, f *fixture) {
	const n = 6
	convo := f.convo(f.did("alice"))
	var sessions []string
	for range n {
		sessions = append(sessions, f.session().ID)
	}
	got := make([]persistence.Claimed, n)
	f.together(n, func(i int) error {
		c, err := f.Store.Claim(f.ctx, sessions[i], []string{convo})
		if err == nil {
			got[i] = c[0]
		}
		return err
	})
	winner := slices.IndexFunc(got, func(c persistence.Claimed) bool { return c.Outcome == persistence.ClaimGranted })
	if winner < 0 {
		t.Fatal("nobody got the claim")
	}
	for i, c := range got {
		if i != winner {
			equal(f, c.Outcome, persistence.ClaimHeld, "outcome of the others")
			equal(f, c.Holder.Session, sessions[winner], "holder")
			equal(f, c.Holder.Fence, got[winner].Fence, "fence")
		}
	}
}

func concurrentKeyPackage(t *testing.T, f *fixture) {
	const n = 6
	bob := f.did("bob")
	k := f.publish(bob, "one")
	var convos, callers []string
	for i := range n {
		callers = append(callers, f.did(fmt.Sprint("m", i)))
		convos = append(convos, f.convo(callers[i]))
	}
	used := make([]bool, n)
	f.together(n, func(i int) error {
		err := f.tryDirect(convos[i], callers[i], conversation.AddMembers{
			DIDs: []string{bob}, KeyPackages: []conversation.KeyPackageRef{{DID: bob, Hash: k.Hash}},
		})
		used[i] = err == nil
		if err != nil && conversation.CodeOf(err) != conversation.KeyPackageNotFound {
			return err
		}
		return nil
	})
	count := 0
	for i, u := range used {
		if u {
			count++
		}
		equal(f, f.epoch(convos[i], callers[i]) == 1, u, "bob was added")
	}
	equal(f, count, 1, "uses of one key package")
}

// Appends, folds and resets at the same time: at the end everybody has unread
// what others sent after what they read last.
func concurrentUnread(t *testing.T, f *fixture) {
	const rounds = 25
	members := []string{f.did("alice"), f.did("bob"), f.did("carol")}
	h := f.held(members[0], members[1:]...)
	var mu sync.Mutex
	read := map[string]int64{}
	f.together(1+2+len(members)-1, func(i int) error {
		switch {
		case i == 0: // the one who holds it appends
			for round := range rounds {
				u, next := h.unit(env(), f.request(h.convo, members[round%3], send(0, "x")))
				if got, err := f.Store.Append(f.ctx, []*conversation.Unit{u}); err != nil || got[0] != persistence.Appended {
					return fmt.Errorf("append: outcome %v, error %w", got, err)
				}
				h.state = next
			}
		case i <= 2:
			for range rounds / 2 {
				if err := f.Store.Fold(f.ctx, []string{h.convo}); err != nil {
					return err
				}
			}
		default: // the last member never reads
			did := members[i-3]
			for range rounds / 2 {
				p, err := f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: h.convo, Caller: did, Limit: 1})
				if err != nil {
					return err
				}
				if err := f.Store.ResetUnread(f.ctx, h.convo, did, p.LastSeq); err != nil {
					return err
				}
				mu.Lock()
				read[did] = p.LastSeq
				mu.Unlock()
			}
		}
		return nil
	})
	want := map[string]int64{}
	for _, m := range f.log(h.convo, members[0]).Messages {
		for _, did := range members {
			if m.Sender != did && m.Seq > read[did] {
				want[did]++
			}
		}
	}
	f.unreadOf(h.convo, want, "before the last fold")
	f.fold(h.convo)
	f.unreadOf(h.convo, want, "after the last fold")
}

// Every page is one moment: who reads while members come and go sees a log
// that ends where the page says, and epochs without holes.
func concurrentReads(t *testing.T, f *fixture) {
	const n = 15
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice, bob)
	f.together(4, func(i int) error {
		if i == 0 {
			for range n {
				for _, c := range []conversation.Command{conversation.Leave{Target: bob}, add(bob)} {
					if err := f.tryDirect(convo, alice, c); err != nil {
						return err
					}
				}
			}
			return nil
		}
		for range n {
			p, err := f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: convo, Caller: bob, Limit: 100, SinceSeq: ptr[int64](0)})
			if err != nil {
				return err
			}
			if got := seqs(p.Messages); !slices.Equal(got, upTo(1, p.LastSeq)) {
				return fmt.Errorf("seqs %v, last %d", got, p.LastSeq)
			}
			// An odd number of commits has bob out: the last thing he sees is a
			// commit either way, and the epoch is that of the last commit.
			v, err := f.Store.Convo(f.ctx, convo, alice)
			if err != nil {
				return err
			}
			if out := v.Epoch%2 == 1; out != (len(v.Members) == 1) {
				return fmt.Errorf("epoch %d with %d members", v.Epoch, len(v.Members))
			}
		}
		return nil
	})
}

func concurrentHousekeepers(t *testing.T, f *fixture) {
	const n = 9
	alice := f.did("alice")
	convo := f.convo(alice)
	for range n {
		f.directAt(expired(), convo, alice, send(0, "goes"))
	}
	var mu sync.Mutex
	total := int64(0)
	f.together(4, func(int) error {
		for {
			got, err := f.Store.Housekeep(f.ctx, persistence.Retention{Requests: time.Hour}, 2)
			if err != nil {
				return err
			}
			mu.Lock()
			total += got.Messages
			mu.Unlock()
			if !got.Busy && !got.More {
				return nil
			}
		}
	})
	equal(f, total, n, "messages deleted")
}
