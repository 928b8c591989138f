package conversation

import (
	"encoding/hex"
	"time"
)

// State is what deciding needs to know of a conversation. It is immutable:
// Decide returns the next one.
type State struct {
	// Epoch is the current MLS epoch, Seq the number of the newest row of the
	// log. Both start at 0 and only rise.
	Epoch, Seq int64
	// MLS says that the log holds a commit with an MLS header: from then on the
	// epoch moves only by the group's own commits.
	MLS bool
	// Creator may remove others where the policy says so.
	Creator string
	// Members are the active ones.
	Members Members
}

// Kind is the kind of a row of the log.
type Kind string

// The kinds of rows, as the API and the database name them.
const (
	KindApp    Kind = "app"
	KindCommit Kind = "commit"
)

// Row is one row of a conversation's log. Its id is the id of the change that
// made it.
type Row struct {
	ID         string
	Sender     string
	Kind       Kind
	Epoch, Seq int64
	Ciphertext []byte
	At         time.Time
	Expires    time.Time // zero: never
	EmbedType  string
	EmbedURI   string
	// ClientID is the msgId that the client gave, "" for none.
	ClientID string
}

// MemberChange is one member's row after a change.
type MemberChange struct {
	DID string
	// Joined says that the member is active from JoinedSeq on: unread messages
	// are counted after it. At is when.
	Joined    bool
	JoinedSeq int64
	// Left says that the member is not active any more and may read the log up
	// to LeftSeq. With both set the member joined and left again.
	Left    bool
	LeftSeq int64
	At      time.Time
}

// Welcome is a welcome message for one member that was added.
type Welcome struct {
	Recipient      string
	Data           []byte
	KeyPackageHash []byte // nil: not said
	// Epoch and Seq are where the recipient's reading begins.
	Epoch, Seq int64
	At         time.Time
}

// KeyPackageRef names a key package that a change uses up.
type KeyPackageRef struct {
	DID  string
	Hash []byte // SHA-256 of the key package's bytes
}

// Result is what a change led to, enough to answer the client, first time and
// again.
type Result struct {
	ID         string
	Epoch, Seq int64
	At         time.Time
}

// Record remembers a change's result under its idempotency key, or, with no
// key, under its id alone: for a change that leaves no row in the log.
type Record struct {
	ID       string
	Caller   string
	Endpoint Op
	Key      string // "" for none
	Digest   []byte
	Result   Result
	// Response is the whole answer where Result does not suffice (createConvo).
	Response []byte
}

// Change is what Decide made of a request: data for the store, and the result
// to tell once it is stored.
type Change struct {
	Row         *Row
	Members     []MemberChange
	Welcomes    []Welcome
	KeyPackages []KeyPackageRef
	Record      *Record
	Result      Result
}

// Alters reports whether the change alters epoch or members: what readers in
// memory may not be shown an old value of.
func (c *Change) Alters() bool {
	return len(c.Members) > 0 || (c.Row != nil && c.Row.Kind == KindCommit)
}

// Version is the state of a conversation that a unit was built on, or leads
// to. The fence is the number of the claim, see package actor.
type Version struct {
	Epoch, Seq, Fence int64
}

// Unit is a conditional append: changes decided one after another on one
// state, to be stored together or not at all, and only where the conversation
// is still at Base.
type Unit struct {
	Convo string
	Base  Version
	// Epoch and Seq after the unit, and whether the group is an MLS group then.
	Epoch, Seq int64
	MLS        bool

	IDs         []string // of all changes, rows or not
	Rows        []Row
	Members     []MemberChange // at most one a DID
	Welcomes    []Welcome      // at most one a recipient
	KeyPackages []KeyPackageRef
	Records     []Record
	At          time.Time // of the newest change
	LastMessage time.Time // of the newest application message, zero: none

	rows, size int // see Weight
}

// NewUnit returns an empty unit on s, which the database holds under fence.
func NewUnit(convo string, s State, fence int64) *Unit {
	return &Unit{
		Convo: convo,
		Base:  Version{Epoch: s.Epoch, Seq: s.Seq, Fence: fence},
		Epoch: s.Epoch, Seq: s.Seq, MLS: s.MLS,
	}
}

// Add appends c, which led to next.
func (u *Unit) Add(c Change, next State) {
	u.Epoch, u.Seq, u.MLS = next.Epoch, next.Seq, next.MLS
	u.IDs = append(u.IDs, c.Result.ID)
	u.At = c.Result.At
	if c.Row != nil {
		u.Rows = append(u.Rows, *c.Row)
		if c.Row.Kind == KindApp {
			u.LastMessage = c.Row.At
		}
	}
	for _, m := range c.Members {
		u.addMember(m)
	}
	for _, w := range c.Welcomes {
		u.addWelcome(w)
	}
	u.KeyPackages = append(u.KeyPackages, c.KeyPackages...)
	u.weigh(&c)
	if c.Record != nil {
		u.Records = append(u.Records, *c.Record)
	}
}

// addMember folds m into what the unit already says of that member: one
// statement cannot write a row twice.
func (u *Unit) addMember(m MemberChange) {
	for i := range u.Members {
		old := &u.Members[i]
		if old.DID != m.DID {
			continue
		}
		if m.Joined { // left, came back: as if only joined now
			*old = m
		} else { // joined (or not), left
			old.Left, old.LeftSeq, old.At = true, m.LeftSeq, m.At
		}
		return
	}
	u.Members = append(u.Members, m)
}

func (u *Unit) addWelcome(w Welcome) {
	for i := range u.Welcomes {
		if u.Welcomes[i].Recipient == w.Recipient {
			u.Welcomes[i] = w
			return
		}
	}
	u.Welcomes = append(u.Welcomes, w)
}

// Empty reports whether nothing was added.
func (u *Unit) Empty() bool { return len(u.IDs) == 0 }

// Alters reports whether the unit alters epoch or members.
func (u *Unit) Alters() bool { return u.Epoch != u.Base.Epoch || len(u.Members) > 0 }

// Weight returns about how many rows and bytes the unit writes: what the
// journal cuts its transactions by.
func (u *Unit) Weight() (rows, size int) { return u.rows, u.size }

func (u *Unit) weigh(c *Change) {
	u.rows += len(c.Members) + len(c.Welcomes) + len(c.KeyPackages)
	if c.Row != nil {
		u.rows++
		u.size += len(c.Row.Ciphertext) + rowOverhead
	}
	if c.Record != nil {
		u.rows++
		u.size += len(c.Record.Response) + rowOverhead
	}
	for i := range c.Welcomes {
		u.size += len(c.Welcomes[i].Data) + rowOverhead
	}
}

// rowOverhead is about what a row weighs beside its payload, in bytes.
const rowOverhead = 256

// groupID returns the MLS group id that convo stands for; ok is false for an
// id from before that is no hex.
func groupID(convo string) (id []byte, ok bool) {
	id, err := hex.DecodeString(convo)
	return id, err == nil
}
