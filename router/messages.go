package router

import (
	"fmt"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

type sendMessageInput struct {
	ConvoID        string     `json:"convoId" xrpc:"required"`
	Ciphertext     wire.Bytes `json:"ciphertext" xrpc:"required"`
	Epoch          int64      `json:"epoch" xrpc:"required"`
	SenderDID      string     `json:"senderDid"`
	MsgID          string     `json:"msgId"`
	IdempotencyKey string     `json:"idempotencyKey"`
	EmbedType      string     `json:"embedType"`
	EmbedURI       string     `json:"embedUri"`
}

type sendMessageOutput struct {
	MessageID  string    `json:"messageId"`
	ReceivedAt wire.Time `json:"receivedAt"`
	Seq        int64     `json:"seq"`
	Epoch      int64     `json:"epoch"`
}

// sendMessage appends an application message or a proposal.
func (rt *Router) sendMessage(c *call, in *sendMessageInput) (sendMessageOutput, error) {
	if in.SenderDID != "" && in.SenderDID != c.caller {
		return sendMessageOutput{}, conversation.Refuse(conversation.InvalidRequest, "senderDid: is not the caller")
	}
	key := in.IdempotencyKey
	if key == "" {
		key = in.MsgID
	}
	result, err := rt.change(c, in.ConvoID, key, conversation.Send{
		Ciphertext: in.Ciphertext, Epoch: in.Epoch, ClientID: in.MsgID, EmbedType: in.EmbedType, EmbedURI: in.EmbedURI,
	})
	return sendMessageOutput{
		MessageID: result.ID, ReceivedAt: timeOf(result.At), Seq: result.Seq, Epoch: result.Epoch,
	}, err
}

type getMessagesInput struct {
	ConvoID      string `json:"convoId" xrpc:"required"`
	Limit        *int64 `json:"limit"`
	SinceSeq     *int64 `json:"sinceSeq"`
	SinceMessage string `json:"sinceMessage"`
	// Cursor is what the page before gave: the same as SinceMessage.
	Cursor string `json:"cursor"`
}

type getMessagesOutput struct {
	Messages []messageView `json:"messages"`
	LastSeq  int64         `json:"lastSeq"`
	Cursor   string        `json:"cursor,omitempty"`
}

// getMessages returns a page of the log and marks the conversation read. If the
// marking fails, so does the whole: an answer would leave the count wrong, and
// asking again does no harm.
func (rt *Router) getMessages(c *call, in *getMessagesInput) (getMessagesOutput, error) {
	q, err := in.query(c)
	if err != nil {
		return getMessagesOutput{}, err
	}
	rt.config.Reading(c.ctx, conversation.OpGetMessages, q.Convo)
	page, err := rt.config.Store.Messages(c.ctx, q)
	if err != nil {
		return getMessagesOutput{}, err
	}
	if err := rt.inFlight.hold(c, sizeOf(page.Messages)); err != nil {
		return getMessagesOutput{}, err
	}
	if page.Unread {
		if err := rt.config.Store.ResetUnread(c.ctx, q.Convo, c.caller, page.LastSeq); err != nil {
			return getMessagesOutput{}, fmt.Errorf("reset the unread count: %w", err)
		}
	}
	out := getMessagesOutput{Messages: viewMessages(q.Convo, page.Messages), LastSeq: page.LastSeq}
	if n := len(page.Messages); n > 0 && page.More {
		out.Cursor = page.Messages[n-1].ID
	}
	return out, nil
}

func (in *getMessagesInput) query(c *call) (persistence.MessagesQuery, error) {
	convo, err := c.about(in.ConvoID)
	if err != nil {
		return persistence.MessagesQuery{}, err
	}
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return persistence.MessagesQuery{}, err
	}
	given := 0
	for _, is := range []bool{in.SinceSeq != nil, in.SinceMessage != "", in.Cursor != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return persistence.MessagesQuery{}, conversation.Refuse(conversation.InvalidRequest,
			"sinceSeq: only one of sinceSeq, sinceMessage and cursor says where a page starts")
	case in.SinceSeq != nil && *in.SinceSeq < 0:
		return persistence.MessagesQuery{}, conversation.Refuse(conversation.InvalidRequest, "sinceSeq: must not be negative")
	}
	return persistence.MessagesQuery{
		Convo: convo, Caller: c.caller, Limit: limit, SinceSeq: in.SinceSeq, SinceID: in.SinceMessage + in.Cursor,
	}, nil
}

type getEpochInput struct {
	ConvoID string `json:"convoId" xrpc:"required"`
}

type getEpochOutput struct {
	ConvoID      string `json:"convoId"`
	CurrentEpoch int64  `json:"currentEpoch"`
}

// getEpoch returns the epoch that a conversation is at.
func (rt *Router) getEpoch(c *call, in *getEpochInput) (getEpochOutput, error) {
	convo, err := c.about(in.ConvoID)
	if err != nil {
		return getEpochOutput{}, err
	}
	epoch, err := rt.config.Delivery.Epoch(c.ctx, convo, c.caller)
	return getEpochOutput{ConvoID: convo, CurrentEpoch: epoch}, err
}
