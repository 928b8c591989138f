package router

import (
	"cmp"
	"encoding/hex"
	"time"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

// The forms that several endpoints answer with.

type memberView struct {
	DID      string    `json:"did"`
	JoinedAt wire.Time `json:"joinedAt"`
}

type metadataView struct {
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
}

type convoView struct {
	ID            string        `json:"id"`
	GroupID       string        `json:"groupId"`
	Creator       string        `json:"creator"`
	Members       []memberView  `json:"members"`
	Epoch         int64         `json:"epoch"`
	CipherSuite   string        `json:"cipherSuite"`
	CreatedAt     wire.Time     `json:"createdAt"`
	LastMessageAt *wire.Time    `json:"lastMessageAt,omitempty"`
	UnreadCount   int64         `json:"unreadCount"`
	Metadata      *metadataView `json:"metadata,omitempty"`
}

type messageView struct {
	ID          string            `json:"id"`
	ConvoID     string            `json:"convoId"`
	Sender      string            `json:"sender"`
	Ciphertext  wire.Blob         `json:"ciphertext"`
	Epoch       int64             `json:"epoch"`
	Seq         int64             `json:"seq"`
	MessageType conversation.Kind `json:"messageType"`
	CreatedAt   wire.Time         `json:"createdAt"`
	EmbedType   string            `json:"embedType,omitempty"`
	EmbedURI    string            `json:"embedUri,omitempty"`
}

type commitView struct {
	Epoch      int64     `json:"epoch"`
	Seq        int64     `json:"seq"`
	Sender     string    `json:"sender"`
	CommitData wire.Blob `json:"commitData"`
	CreatedAt  wire.Time `json:"createdAt"`
}

func viewConvo(v persistence.ConvoView) convoView {
	out := convoView{
		ID: v.ID, GroupID: v.GroupID, Creator: v.Creator, Members: make([]memberView, len(v.Members)),
		Epoch: v.Epoch, CipherSuite: v.CipherSuite, CreatedAt: timeOf(v.CreatedAt),
		UnreadCount: v.Unread, Metadata: viewMetadata(v.Name, v.Description),
	}
	for i, m := range v.Members {
		out.Members[i] = memberView{DID: m.DID, JoinedAt: timeOf(m.JoinedAt)}
	}
	if !v.LastMessageAt.IsZero() {
		out.LastMessageAt = &wire.Time{Time: v.LastMessageAt}
	}
	return out
}

func viewMetadata(name, description string) *metadataView {
	if name == "" && description == "" {
		return nil
	}
	return &metadataView{Name: name, Description: description}
}

func viewMessages(convo string, messages []persistence.Message) []messageView {
	out := make([]messageView, len(messages))
	for i, m := range messages {
		out[i] = messageView{
			ID: m.ID, ConvoID: convo, Sender: m.Sender, Ciphertext: wire.BlobOf(m.Ciphertext), Epoch: m.Epoch, Seq: m.Seq,
			MessageType: cmp.Or(m.Kind, conversation.KindApp), CreatedAt: timeOf(m.CreatedAt), EmbedType: m.EmbedType, EmbedURI: m.EmbedURI,
		}
	}
	return out
}

func viewCommits(commits []persistence.Message) []commitView {
	out := make([]commitView, len(commits))
	for i, m := range commits {
		out[i] = commitView{
			Epoch: m.Epoch, Seq: m.Seq, Sender: m.Sender, CommitData: wire.BlobOf(m.Ciphertext),
			CreatedAt: timeOf(m.CreatedAt),
		}
	}
	return out
}

// sizeOf is about how many bytes messages take as they are and as an answer.
func sizeOf(messages []persistence.Message) (n int64) {
	for i := range messages {
		n += int64(len(messages[i].Ciphertext))*7/3 + 512
	}
	return n
}

// hashInput names a key package.
type hashInput struct {
	DID  string `json:"did" xrpc:"required"`
	Hash string `json:"hash" xrpc:"required"`
}

// keyPackageRefs turns the hashes of an input into the domain's form; one that
// is no hex is an empty one, which the domain refuses by its length.
func keyPackageRefs(in []hashInput) []conversation.KeyPackageRef {
	var out []conversation.KeyPackageRef
	for _, h := range in {
		hash, err := hex.DecodeString(h.Hash)
		if err != nil {
			hash = nil
		}
		out = append(out, conversation.KeyPackageRef{DID: h.DID, Hash: hash})
	}
	return out
}

// pageLimit returns the size of a page that a client asks for.
func pageLimit(limit *int64) (int, error) {
	switch {
	case limit == nil:
		return conversation.DefaultPage, nil
	case *limit < 1 || *limit > conversation.MaxPage:
		return 0, conversation.Refuse(conversation.InvalidRequest, "limit: must be 1 to %d", conversation.MaxPage)
	default:
		return int(*limit), nil
	}
}

// timeOf returns the time that a client is told; rows of the old server may have
// none, which is told as the beginning of 1970.
func timeOf(t time.Time) wire.Time {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return wire.Time{Time: t}
}
