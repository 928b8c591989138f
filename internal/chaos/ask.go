package chaos

import (
	"context"
	"errors"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/internal/history"
)

// ask makes one attempt of a request and records it.
func ask(ctx context.Context, rec *history.Recorder, api *client.Client, op history.Op) history.Output {
	pending := rec.Invoke(op)
	out := call(ctx, api.As(op.Caller), op)
	pending.Return(out)
	return out
}

func call(ctx context.Context, c *client.Caller, op history.Op) history.Output {
	switch op.Kind {
	case history.GetEpoch:
		epoch, err := c.GetEpoch(ctx, op.Convo)
		return outcome(err, func() history.Output { return history.Output{Epoch: epoch} })
	case history.GetMessages:
		page, err := c.GetMessages(ctx, client.GetMessages{ConvoID: op.Convo, Limit: op.Input.Limit, SinceSeq: op.Input.Since})
		return outcome(err, func() history.Output { return history.Output{Seq: page.LastSeq, Rows: rows(page.Messages)} })
	case history.SendMessage:
		sent, err := c.SendMessage(ctx, client.SendMessage{
			ConvoID: op.Convo, Ciphertext: client.Bytes(op.Input.Payload), Epoch: *op.Input.Epoch, IdempotencyKey: op.Input.Key,
		})
		return outcome(err, func() history.Output {
			return history.Output{MessageID: sent.MessageID, Seq: sent.Seq, Epoch: sent.Epoch}
		})
	}
	changed, err := change(ctx, c, op)
	return outcome(err, func() history.Output { return history.Output{Epoch: changed.NewEpoch} })
}

func change(ctx context.Context, c *client.Caller, op history.Op) (client.Changed, error) {
	in := op.Input
	var commit []byte
	if in.Payload != "" {
		commit = []byte(in.Payload)
	}
	switch op.Kind {
	case history.AddMembers:
		return c.AddMembers(ctx, client.AddMembers{
			ConvoID: op.Convo, DIDs: in.DIDs, Commit: commit, IdempotencyKey: in.Key, ExpectedEpoch: in.Epoch,
		})
	case history.LeaveConvo:
		target := ""
		if len(in.DIDs) > 0 {
			target = in.DIDs[0]
		}
		return c.LeaveConvo(ctx, client.LeaveConvo{
			ConvoID: op.Convo, TargetDID: target, Commit: commit, IdempotencyKey: in.Key, ExpectedEpoch: in.Epoch,
		})
	}
	return c.Commit(ctx, client.MakeCommit{ConvoID: op.Convo, Commit: commit, IdempotencyKey: in.Key, ExpectedEpoch: in.Epoch})
}

// outcome says what an attempt's end means.
func outcome(err error, success func() history.Output) history.Output {
	var refusal *client.Error
	var lost *client.ConnectionError
	switch {
	case err == nil:
		out := success()
		out.Outcome = history.Succeeded
		return out
	case errors.As(err, &refusal):
		return history.Refusal(refusal.Name, refusal.CurrentEpoch)
	case errors.As(err, &lost) && !lost.Sent:
		return history.Output{Outcome: history.Failed, Code: unreachable}
	}
	return history.Lost()
}

// unreachable stands in tables and histories for: nobody was there.
const unreachable conversation.Code = "unreachable"

func rows(page []client.Message) (out []history.Row) {
	for _, m := range page {
		out = append(out, history.Row{
			ID: m.ID, Kind: conversation.Kind(m.MessageType), Sender: m.Sender, Epoch: m.Epoch, Seq: m.Seq, Payload: string(m.Ciphertext),
		})
	}
	return out
}

// changes reports whether requests of the kind change a conversation.
func changes(k history.Kind) bool { return k != history.GetEpoch && k != history.GetMessages }
