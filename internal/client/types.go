package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bytes is a value of the AT Protocol's type bytes: {"$bytes": base64}.
type Bytes []byte

// MarshalJSON writes padded standard base64.
func (b Bytes) MarshalJSON() ([]byte, error) {
	const head, tail = `{"$bytes":"`, `"}`
	out := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(b))+len(tail))
	out = append(out, head...)
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, tail...), nil
}

// UnmarshalJSON reads base64, padded or not.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	var wire struct {
		Bytes *string `json:"$bytes"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	if wire.Bytes == nil {
		return errors.New("no $bytes")
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(*wire.Bytes, "="))
	if err != nil {
		return fmt.Errorf("$bytes: %w", err)
	}
	*b = raw
	return nil
}

// KeyPackageHash names a key package that a change uses up.
type KeyPackageHash struct {
	DID  string `json:"did"`
	Hash string `json:"hash"` // SHA-256 of the key package, hex
}

// Metadata is what a conversation calls itself.
type Metadata struct {
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
}

// CreateConvo asks for a new conversation, whose id is GroupID.
type CreateConvo struct {
	GroupID          string           `json:"groupId"`
	CipherSuite      string           `json:"cipherSuite"`
	InitialMembers   []string         `json:"initialMembers,omitempty"`
	Welcome          []byte           `json:"welcomeMessage,omitempty"`
	KeyPackageHashes []KeyPackageHash `json:"keyPackageHashes,omitempty"`
	Commit           []byte           `json:"commit,omitempty"`
	CurrentEpoch     *int64           `json:"currentEpoch,omitempty"`
	Metadata         *Metadata        `json:"metadata,omitempty"`
	IdempotencyKey   string           `json:"idempotencyKey,omitempty"`
}

// AddMembers adds members to a conversation.
type AddMembers struct {
	ConvoID          string           `json:"convoId"`
	DIDs             []string         `json:"didList"`
	Commit           []byte           `json:"commit,omitempty"`
	Welcome          []byte           `json:"welcomeMessage,omitempty"`
	KeyPackageHashes []KeyPackageHash `json:"keyPackageHashes,omitempty"`
	IdempotencyKey   string           `json:"idempotencyKey,omitempty"`
	ExpectedEpoch    *int64           `json:"expectedEpoch,omitempty"`
}

// LeaveConvo takes a member out of a conversation: the caller, or TargetDID.
type LeaveConvo struct {
	ConvoID        string `json:"convoId"`
	TargetDID      string `json:"targetDid,omitempty"`
	Commit         []byte `json:"commit,omitempty"`
	IdempotencyKey string `json:"idempotencyKey,omitempty"`
	ExpectedEpoch  *int64 `json:"expectedEpoch,omitempty"`
}

// MakeCommit stores any other MLS commit.
type MakeCommit struct {
	ConvoID        string `json:"convoId"`
	Commit         []byte `json:"commit"`
	IdempotencyKey string `json:"idempotencyKey,omitempty"`
	ExpectedEpoch  *int64 `json:"expectedEpoch,omitempty"`
}

// Changed is what a change of members or keys led to.
type Changed struct {
	Success  bool  `json:"success"`
	NewEpoch int64 `json:"newEpoch"`
}

// SendMessage appends a message. MsgID works as the idempotency key where none
// is given.
type SendMessage struct {
	ConvoID        string `json:"convoId"`
	Ciphertext     Bytes  `json:"ciphertext"`
	Epoch          int64  `json:"epoch"`
	SenderDID      string `json:"senderDid,omitempty"`
	MsgID          string `json:"msgId,omitempty"`
	IdempotencyKey string `json:"idempotencyKey,omitempty"`
	EmbedType      string `json:"embedType,omitempty"`
	EmbedURI       string `json:"embedUri,omitempty"`
}

// Sent is what sending a message led to.
type Sent struct {
	MessageID  string    `json:"messageId"`
	ReceivedAt time.Time `json:"receivedAt"`
	Seq        int64     `json:"seq"`
	Epoch      int64     `json:"epoch"`
}

// Convo is a conversation as its member sees it.
type Convo struct {
	ID            string     `json:"id"`
	GroupID       string     `json:"groupId"`
	Creator       string     `json:"creator"`
	Members       []Member   `json:"members"`
	Epoch         int64      `json:"epoch"`
	CipherSuite   string     `json:"cipherSuite"`
	CreatedAt     time.Time  `json:"createdAt"`
	LastMessageAt *time.Time `json:"lastMessageAt"`
	UnreadCount   int64      `json:"unreadCount"`
	Metadata      *Metadata  `json:"metadata"`
}

// Member is an active member of a conversation.
type Member struct {
	DID      string    `json:"did"`
	JoinedAt time.Time `json:"joinedAt"`
}

// Convos is a page of the caller's conversations; Cursor is "" on the last one.
type Convos struct {
	Conversations []Convo `json:"conversations"`
	Cursor        string  `json:"cursor"`
}

// Message is a row of a conversation's log.
type Message struct {
	ID          string    `json:"id"`
	ConvoID     string    `json:"convoId"`
	Sender      string    `json:"sender"`
	Ciphertext  Bytes     `json:"ciphertext"`
	Epoch       int64     `json:"epoch"`
	Seq         int64     `json:"seq"`
	MessageType string    `json:"messageType"` // app or commit
	CreatedAt   time.Time `json:"createdAt"`
	EmbedType   string    `json:"embedType"`
	EmbedURI    string    `json:"embedUri"`
}

// GetMessages asks for a page of a conversation's log: what follows SinceSeq or
// SinceMessage, or with neither the newest page.
type GetMessages struct {
	ConvoID      string
	Limit        int // 0: the server's default
	SinceSeq     *int64
	SinceMessage string
}

// Messages is a page of a log, oldest first. LastSeq is the newest that the
// caller may see.
type Messages struct {
	Messages []Message `json:"messages"`
	LastSeq  int64     `json:"lastSeq"`
	Cursor   string    `json:"cursor"`
}

// Commit is a commit of a conversation's log.
type Commit struct {
	Epoch      int64     `json:"epoch"`
	Seq        int64     `json:"seq"`
	Sender     string    `json:"sender"`
	CommitData Bytes     `json:"commitData"`
	CreatedAt  time.Time `json:"createdAt"`
}

// Commits is a range of commits, in epoch order.
type Commits struct {
	ConvoID string   `json:"convoId"`
	Commits []Commit `json:"commits"`
}

// Epoch is the epoch a conversation is at.
type Epoch struct {
	ConvoID      string `json:"convoId"`
	CurrentEpoch int64  `json:"currentEpoch"`
}

// Welcome is what a member that was added joins with. Epoch and Seq are where
// their reading begins.
type Welcome struct {
	ConvoID string `json:"convoId"`
	Welcome []byte `json:"welcome"`
	Epoch   int64  `json:"epoch"`
	Seq     int64  `json:"seq"`
}

// ConfirmWelcome says whether joining by a welcome worked.
type ConfirmWelcome struct {
	ConvoID      string `json:"convoId"`
	Success      bool   `json:"success"`
	ErrorDetails string `json:"errorDetails,omitempty"`
}

// PublishKeyPackage stores a key package by which others add the caller.
type PublishKeyPackage struct {
	KeyPackage     []byte     `json:"keyPackage"`
	CipherSuite    string     `json:"cipherSuite"`
	Expires        *time.Time `json:"expires,omitempty"`
	IdempotencyKey string     `json:"idempotencyKey,omitempty"`
}

// KeyPackage is a key package that somebody published.
type KeyPackage struct {
	DID         string `json:"did"`
	KeyPackage  []byte `json:"keyPackage"`
	CipherSuite string `json:"cipherSuite"`
	Hash        string `json:"keyPackageHash"` // SHA-256, hex
}

// KeyPackages are the key packages of several DIDs, and who has none.
type KeyPackages struct {
	KeyPackages []KeyPackage `json:"keyPackages"`
	Missing     []string     `json:"missing"`
}
