package conversation

import (
	"math"
	"time"
)

// Env is what Decide may use beside state and request.
type Env struct {
	// Now is the time of the change, in UTC, to the microsecond.
	Now    time.Time
	Policy Policy
}

// Decide says what r does to a conversation in state s: the change to store and
// the state after it, or an *Error and nothing. It is pure: equal arguments
// give equal answers. The caller has validated the command, has looked up id
// and key where that is due, and knows that the conversation exists.
//
// The order of the checks is the API's: membership, epoch, the rest.
func Decide(env Env, s State, r *Request) (Change, State, error) {
	if !s.Members.Has(r.Caller) {
		return Change{}, s, Refuse(NotMember, "the caller is not a member of this conversation")
	}
	c, next, err := r.Command.decide(env, r.Convo, s, r)
	if err != nil {
		return Change{}, s, err
	}
	return c, next, nil
}

func (c AddMembers) decide(env Env, convo string, s State, r *Request) (Change, State, error) {
	if err := checkEpoch(convo, s, c.Commit, c.Expected); err != nil {
		return Change{}, s, err
	}
	for _, did := range c.DIDs {
		if s.Members.Has(did) {
			return Change{}, s, Refuse(AlreadyMember, "%s is a member already", did)
		}
	}
	if s.Members.Len()+len(c.DIDs) > env.Policy.MaxMembers {
		return Change{}, s, Refuse(TooManyMembers, "a conversation has at most %d members", env.Policy.MaxMembers)
	}
	ch, next := commitRow(env, s, r, c.Commit)
	next.Members = s.Members.With(c.DIDs...)
	for _, did := range c.DIDs {
		ch.Members = append(ch.Members, MemberChange{DID: did, Joined: true, JoinedSeq: next.Seq, At: env.Now})
	}
	ch.Welcomes = welcomes(c.Welcome, c.DIDs, c.KeyPackages, next, env.Now)
	ch.KeyPackages = c.KeyPackages
	ch.finish(env, r, next, OpAddMembers)
	return ch, next, nil
}

func (c Leave) decide(env Env, convo string, s State, r *Request) (Change, State, error) {
	if err := checkEpoch(convo, s, c.Commit, c.Expected); err != nil {
		return Change{}, s, err
	}
	target := c.Target
	if target == "" {
		target = r.Caller
	}
	if !s.Members.Has(target) {
		return Change{}, s, Refuse(TargetNotMember, "%s is not a member", target)
	}
	if target != r.Caller && s.Creator != r.Caller && !env.Policy.AnyMemberRemoves {
		return Change{}, s, Refuse(NotAuthorized, "only the creator removes other members")
	}
	if s.Members.Len() == 1 {
		return Change{}, s, Refuse(LastMember, "the last member cannot leave")
	}
	ch, next := commitRow(env, s, r, c.Commit)
	next.Members = s.Members.Without(target)
	ch.Members = []MemberChange{{DID: target, Left: true, LeftSeq: next.Seq, At: env.Now}}
	ch.finish(env, r, next, OpLeave)
	return ch, next, nil
}

func (c Commit) decide(env Env, convo string, s State, r *Request) (Change, State, error) {
	if err := checkEpoch(convo, s, c.Commit, c.Expected); err != nil {
		return Change{}, s, err
	}
	ch, next := commitRow(env, s, r, c.Commit)
	ch.finish(env, r, next, OpCommit)
	return ch, next, nil
}

func (c Send) decide(env Env, convo string, s State, r *Request) (Change, State, error) {
	if c.Epoch != s.Epoch {
		return Change{}, s, epochMismatch(c.Epoch, s.Epoch)
	}
	if err := checkHeaderEpoch(s, c.Ciphertext); err != nil {
		return Change{}, s, err
	}
	if err := checkGroup(convo, c.Ciphertext, InvalidRequest, "ciphertext"); err != nil {
		return Change{}, s, err
	}
	next := s
	next.Seq++
	row := &Row{
		ID: r.ID, Sender: r.Caller, Kind: KindApp, Epoch: s.Epoch, Seq: next.Seq, Ciphertext: c.Ciphertext,
		At: env.Now, EmbedType: c.EmbedType, EmbedURI: c.EmbedURI, ClientID: c.ClientID,
	}
	if env.Policy.Retention > 0 {
		row.Expires = env.Now.Add(env.Policy.Retention)
	}
	ch := Change{Row: row}
	ch.finish(env, r, next, OpSend)
	return ch, next, nil
}

// checkEpoch refuses a commit that the conversation cannot take as its next
// one. What bytes say of themselves was checked before ([checkCommit]).
func checkEpoch(convo string, s State, commit []byte, expected *int64) error {
	_, hasHeader := ParseHeader(commit)
	if s.MLS && len(commit) > 0 && !hasHeader {
		return Refuse(InvalidCommit, "commit: this conversation is an MLS group, and these bytes are no MLS commit")
	}
	if expected != nil && *expected != s.Epoch {
		return epochMismatch(*expected, s.Epoch)
	}
	if err := checkHeaderEpoch(s, commit); err != nil {
		return err
	}
	return checkGroup(convo, commit, InvalidCommit, "commit")
}

// checkHeaderEpoch refuses MLS bytes that were made for another epoch.
func checkHeaderEpoch(s State, b []byte) error {
	h, ok := ParseHeader(b)
	if !ok || h.Epoch == uint64(s.Epoch) {
		return nil
	}
	return epochMismatch(int64(min(h.Epoch, math.MaxInt64)), s.Epoch)
}

// commitRow starts a change that comes with commit, or without one: then it
// gets an empty commit row and the next epoch all the same, except in an MLS
// group, whose epoch moves only by the group's own commits.
func commitRow(env Env, s State, r *Request, commit []byte) (Change, State) {
	next := s
	if s.MLS && len(commit) == 0 {
		return Change{}, next
	}
	next.Epoch++
	next.Seq++
	if _, ok := ParseHeader(commit); ok {
		next.MLS = true
	}
	return Change{Row: &Row{
		ID: r.ID, Sender: r.Caller, Kind: KindCommit, Epoch: next.Epoch, Seq: next.Seq, Ciphertext: commit, At: env.Now,
	}}, next
}

// finish sets the result, and the record where one is due: for a request with
// a key, and for a change that leaves no row to be found by.
func (c *Change) finish(env Env, r *Request, next State, op Op) {
	c.Result = Result{ID: r.ID, Epoch: next.Epoch, Seq: next.Seq, At: env.Now}
	if r.Key != "" || c.Row == nil {
		c.Record = &Record{ID: r.ID, Caller: r.Caller, Endpoint: op, Key: r.Key, Digest: r.Digest, Result: c.Result}
	}
}

// Earlier is what the store remembers of a change that was asked for before.
type Earlier struct {
	Result   Result
	Digest   []byte // nil where none was stored
	Response []byte
}

// Repeat answers r by what an earlier request with its id or its key led to:
// the same result, or IdempotencyConflict if that had another body.
func Repeat(r *Request, e Earlier) (Result, error) {
	if r.Key != "" && e.Digest != nil && string(e.Digest) != string(r.Digest) {
		return Result{}, Refuse(IdempotencyConflict, "the idempotencyKey was used with another body")
	}
	return e.Result, nil
}
