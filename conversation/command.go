package conversation

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// Op names an operation, in the words of logs, metrics and records.
type Op string

// The operations on a conversation.
const (
	OpCreate      Op = "create_convo"
	OpAddMembers  Op = "add_members"
	OpLeave       Op = "leave_convo"
	OpCommit      Op = "commit"
	OpSend        Op = "send_message"
	OpGetEpoch    Op = "get_epoch"
	OpGetMessages Op = "get_messages"

	OpPublishKeyPackage Op = "publish_key_package"
)

// Command is a change of a conversation that a client asks for. Those of this
// package are all there are.
type Command interface {
	// Op names the operation.
	Op() Op
	// Size returns about how many bytes the command holds.
	Size() int
	// Validate checks the form: what can be said without looking at the
	// conversation. It returns an *Error.
	Validate() error

	decide(env Env, convo string, s State, r *Request) (Change, State, error)
}

// Request is a command with who sends it, to which conversation, and the ids
// that make a retry harmless.
type Request struct {
	// ID is the change's id, a UUIDv7 minted at the first node that saw the
	// request. Every attempt carries the same one.
	ID     string
	Convo  string
	Caller string
	// Key is the client's idempotency key, "" for none. It belongs to caller,
	// operation and conversation.
	Key string
	// Digest tells two bodies under one key apart; see [DigestOf].
	Digest []byte
	// Retry says that an earlier attempt may have been stored: its id must be
	// looked up before anything is refused.
	Retry   bool
	Command Command
}

// DigestOf returns the digest of a command: equal for equal commands, however
// the client wrote them down.
func DigestOf(c Command) []byte {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(c); err != nil {
		panic("conversation: a command that does not encode: " + err.Error()) // plain structs always do
	}
	return h.Sum(nil)
}

// AddMembers adds members to a conversation, with or without a commit.
type AddMembers struct {
	DIDs        []string
	Commit      []byte // nil: none
	Welcome     []byte // nil: none
	KeyPackages []KeyPackageRef
	Expected    *int64 // the epoch the client built on, nil: not said
}

// Leave takes Target out of a conversation: the caller or somebody else.
type Leave struct {
	Target   string // "" means the caller
	Commit   []byte
	Expected *int64
}

// Commit is any other MLS commit.
type Commit struct {
	Commit   []byte
	Expected *int64
}

// Send appends an application message, or a proposal, to the log.
type Send struct {
	Ciphertext []byte
	Epoch      int64
	ClientID   string // the client's own id of the message, "" for none
	EmbedType  string
	EmbedURI   string
}

// Op returns OpAddMembers.
func (AddMembers) Op() Op { return OpAddMembers }

// Op returns OpLeave.
func (Leave) Op() Op { return OpLeave }

// Op returns OpCommit.
func (Commit) Op() Op { return OpCommit }

// Op returns OpSend.
func (Send) Op() Op { return OpSend }

const commandOverhead = 256

// Size returns about how many bytes the command holds.
func (c AddMembers) Size() int {
	return commandOverhead + len(c.Commit) + len(c.Welcome) + 64*len(c.DIDs) + 128*len(c.KeyPackages)
}

// Size returns about how many bytes the command holds.
func (c Leave) Size() int { return commandOverhead + len(c.Commit) }

// Size returns about how many bytes the command holds.
func (c Commit) Size() int { return commandOverhead + len(c.Commit) }

// Size returns about how many bytes the command holds.
func (c Send) Size() int { return commandOverhead + len(c.Ciphertext) }

// Validate checks the form.
func (c AddMembers) Validate() error {
	if len(c.DIDs) == 0 || len(c.DIDs) > MaxAddMembers {
		return Refuse(InvalidRequest, "didList: must name 1 to %d members", MaxAddMembers)
	}
	if err := checkDIDs("didList", c.DIDs); err != nil {
		return err
	}
	if err := checkWelcome(c.Welcome, c.KeyPackages); err != nil {
		return err
	}
	return checkCommit(c.Commit, c.Expected)
}

// Validate checks the form.
func (c Leave) Validate() error {
	if c.Target != "" && !CheckDID(c.Target) {
		return Refuse(InvalidRequest, "targetDid: is not a DID")
	}
	return checkCommit(c.Commit, c.Expected)
}

// Validate checks the form.
func (c Commit) Validate() error {
	if len(c.Commit) == 0 {
		return Refuse(InvalidRequest, "commit: is required")
	}
	return checkCommit(c.Commit, c.Expected)
}

// Validate checks the form.
func (c Send) Validate() error {
	switch {
	case len(c.Ciphertext) == 0:
		return Refuse(InvalidRequest, "ciphertext: is required")
	case len(c.Ciphertext) > MaxMessage:
		return Refuse(MessageTooLarge, "ciphertext: more than %d bytes", MaxMessage)
	case c.Epoch < 0:
		return Refuse(InvalidRequest, "epoch: must not be negative")
	}
	if err := CheckText("msgId", c.ClientID, MaxClientID); err != nil {
		return err
	}
	if err := CheckText("embedType", c.EmbedType, MaxEmbedType); err != nil {
		return err
	}
	if err := CheckText("embedUri", c.EmbedURI, MaxEmbedURI); err != nil {
		return err
	}
	if h, ok := ParseHeader(c.Ciphertext); ok && h.Content == ContentCommit {
		return Refuse(InvalidCommit, "ciphertext: is an MLS commit, which goes through addMembers, leaveConvo or commit")
	}
	return nil
}

// Creation is a new conversation.
type Creation struct {
	Creator     string
	CipherSuite string
	// Initial members beside the creator.
	Initial     []string
	Welcome     []byte
	KeyPackages []KeyPackageRef
	Commit      []byte
	// Epoch is 0 or 1, see [Creation.Start].
	Epoch       int64
	Name        string
	Description string
}

// Op returns OpCreate.
func (Creation) Op() Op { return OpCreate }

// Start returns the epoch that the conversation starts at: 1 when the client
// says so or sends the commit that added its initial members, else 0.
func (c Creation) Start() int64 {
	if len(c.Commit) > 0 {
		return 1
	}
	return c.Epoch
}

// Validate checks the form. convo is the id of the conversation to be.
func (c Creation) Validate(convo string) error {
	if _, ok := CipherSuites[c.CipherSuite]; !ok {
		return Refuse(InvalidCipherSuite, "cipherSuite: is none that this service knows")
	}
	if len(c.Initial) > MaxInitialMembers {
		return Refuse(InvalidRequest, "initialMembers: more than %d", MaxInitialMembers)
	}
	if err := checkDIDs("initialMembers", c.Initial); err != nil {
		return err
	}
	if c.Epoch != 0 && c.Epoch != 1 {
		return Refuse(InvalidRequest, "currentEpoch: a new conversation is at epoch 0 or 1")
	}
	if err := CheckText("metadata.name", c.Name, MaxName); err != nil {
		return err
	}
	if err := CheckText("metadata.description", c.Description, MaxDescription); err != nil {
		return err
	}
	if err := checkWelcome(c.Welcome, c.KeyPackages); err != nil {
		return err
	}
	zero := int64(0)
	if err := checkCommit(c.Commit, &zero); err != nil {
		return err
	}
	return checkGroup(convo, c.Commit, InvalidCommit, "commit")
}

// Create returns the state, the unit and the result that make the new
// conversation. The unit's Base is the zero Version.
func (c Creation) Create(env Env, r *Request) (State, *Unit, error) {
	members := NewMembers(append([]string{c.Creator}, c.Initial...)...)
	if members.Len() > env.Policy.MaxMembers {
		return State{}, nil, Refuse(TooManyMembers, "a conversation has at most %d members", env.Policy.MaxMembers)
	}
	s := State{Creator: c.Creator, Members: members}
	ch := Change{}
	if c.Start() == 1 {
		s.Epoch, s.Seq = 1, 1
		_, s.MLS = ParseHeader(c.Commit)
		ch.Row = &Row{ID: r.ID, Sender: c.Creator, Kind: KindCommit, Epoch: 1, Seq: 1, Ciphertext: c.Commit, At: env.Now}
	}
	for _, did := range append([]string{c.Creator}, c.Initial...) {
		ch.Members = append(ch.Members, MemberChange{DID: did, Joined: true, JoinedSeq: s.Seq, At: env.Now})
	}
	ch.Welcomes = welcomes(c.Welcome, c.Initial, c.KeyPackages, s, env.Now)
	ch.KeyPackages = c.KeyPackages
	ch.finish(env, r, s, OpCreate)
	u := NewUnit(r.Convo, State{}, 0)
	u.Add(ch, s)
	return s, u, nil
}

// CheckText checks a text that a client gives for field: at most limit
// characters, and none that PostgreSQL cannot store (a NUL, invalid UTF-8),
// which would otherwise come back as a fault of ours. It returns an *Error of
// code InvalidRequest.
func CheckText(field, s string, limit int) error {
	if utf8.RuneCountInString(s) > limit {
		return Refuse(InvalidRequest, "%s: more than %d characters", field, limit)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return Refuse(InvalidRequest, "%s: holds a NUL or invalid UTF-8", field)
	}
	return nil
}

func checkDIDs(field string, dids []string) error {
	seen := make(map[string]bool, len(dids))
	for _, did := range dids {
		if !CheckDID(did) {
			return Refuse(InvalidRequest, "%s: holds something that is not a DID", field)
		}
		if seen[did] {
			return Refuse(InvalidRequest, "%s: names a member twice", field)
		}
		seen[did] = true
	}
	return nil
}

func checkWelcome(welcome []byte, refs []KeyPackageRef) error {
	if len(welcome) > MaxWelcome {
		return Refuse(MessageTooLarge, "welcomeMessage: more than %d bytes", MaxWelcome)
	}
	if len(refs) > MaxKeyPackageHashes {
		return Refuse(InvalidRequest, "keyPackageHashes: more than %d", MaxKeyPackageHashes)
	}
	type ref struct{ did, hash string }
	seen := make(map[ref]bool, len(refs))
	for _, r := range refs {
		// Not only of those who are added: a member's further device may come with
		// the same commit.
		if !CheckDID(r.DID) {
			return Refuse(InvalidRequest, "keyPackageHashes: holds something that is not a DID")
		}
		if len(r.Hash) != sha256.Size {
			return Refuse(InvalidRequest, "keyPackageHashes: a hash is %d hexadecimal characters", 2*sha256.Size)
		}
		if k := (ref{r.DID, string(r.Hash)}); seen[k] {
			return Refuse(InvalidRequest, "keyPackageHashes: names a key package twice")
		} else {
			seen[k] = true
		}
	}
	return nil
}

// checkCommit checks what the bytes of a commit say of themselves.
func checkCommit(commit []byte, expected *int64) error {
	if expected != nil && *expected < 0 {
		return Refuse(InvalidRequest, "expectedEpoch: must not be negative")
	}
	if len(commit) > MaxCommit {
		return Refuse(MessageTooLarge, "commit: more than %d bytes", MaxCommit)
	}
	h, ok := ParseHeader(commit)
	if !ok {
		return nil
	}
	if h.Content != ContentCommit {
		return Refuse(InvalidCommit, "commit: is an MLS message, but no commit")
	}
	if expected != nil && uint64(*expected) != h.Epoch {
		return Refuse(InvalidCommit, "commit: was made at epoch %d, which is not the expected %d", h.Epoch, *expected)
	}
	return nil
}

// checkGroup refuses MLS bytes that belong to another group.
func checkGroup(convo string, b []byte, code Code, field string) error {
	h, ok := ParseHeader(b)
	if !ok {
		return nil
	}
	if id, ok := groupID(convo); ok && string(id) != string(h.GroupID) {
		return Refuse(code, "%s: belongs to another MLS group", field)
	}
	return nil
}

func welcomes(data []byte, dids []string, refs []KeyPackageRef, s State, now time.Time) []Welcome {
	if len(data) == 0 {
		return nil
	}
	hash := make(map[string][]byte, len(refs))
	for _, r := range refs {
		if hash[r.DID] == nil {
			hash[r.DID] = r.Hash
		}
	}
	out := make([]Welcome, 0, len(dids))
	for _, did := range dids {
		out = append(out, Welcome{Recipient: did, Data: data, KeyPackageHash: hash[did], Epoch: s.Epoch, Seq: s.Seq, At: now})
	}
	return out
}
