package chaos

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/internal/history"
)

// stored is a row of a log, as it is in the database.
type stored struct {
	Convo   string
	ID      string
	Kind    string
	Sender  string
	Epoch   int64
	Seq     int64
	Payload string
}

func (s stored) String() string {
	return fmt.Sprintf("%s seq %d: %s %q of %s at epoch %d, id %s", s.Convo, s.Seq, s.Kind, s.Payload, s.Sender, s.Epoch, s.ID)
}

// readLogs reads the logs of all conversations, in order.
func (g *ground) readLogs(ctx context.Context) ([]stored, error) {
	conn, err := g.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT convo_id, id, message_type, coalesce(sender_did, ''), epoch, coalesce(seq, 0),
			convert_from(coalesce(ciphertext, ''), 'UTF8') FROM messages ORDER BY convo_id, seq, id`)
	if err != nil {
		return nil, fmt.Errorf("reading the logs: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	if err != nil {
		return nil, fmt.Errorf("reading the logs: %w", err)
	}
	return all, nil
}

// payload is what tells a change apart from all others.
type payload struct{ convo, text string }

// checkLedger holds the logs against what clients were told: everything that
// was acknowledged is there once, as it was told; what was refused is not there;
// nothing is there that nobody asked for; a log is numbered without gap, and
// each epoch has one commit.
func checkLedger(ops []history.Op, logs []stored) []Finding {
	b := &books{byPayload: map[payload][]stored{}, commits: map[payload]stored{}}
	b.order(logs)
	asked := map[payload]outcomes{}
	for _, op := range ops {
		if !changes(op.Kind) {
			continue
		}
		if op.Output.Outcome == history.Succeeded {
			b.acknowledged(op)
		}
		if k := (payload{op.Convo, op.Input.Payload}); k.text != "" {
			o := asked[k]
			o.add(op.Output.Outcome)
			asked[k] = o
		}
	}
	for k, list := range b.byPayload {
		switch o := asked[k]; {
		case len(list) > 1:
			b.find("what was asked for once is stored once", list...)
		case o == outcomes{}:
			b.find("nothing is stored that nobody asked for", list...)
		case !o.may:
			b.find("what was refused is not stored", list...)
		}
	}
	return b.found
}

// outcomes are those of the attempts of one request.
type outcomes struct{ asked, may bool }

func (o *outcomes) add(out history.Outcome) {
	o.asked = true
	o.may = o.may || out == history.Succeeded || out == history.Unknown
}

type books struct {
	byPayload map[payload][]stored
	commits   map[payload]stored // by conversation and epoch
	found     []Finding
}

func (b *books) find(rule string, rows ...stored) {
	f := Finding{Rule: rule}
	for _, r := range rows {
		f.Convo = r.Convo
		f.Text += r.String() + "\n"
	}
	b.found = append(b.found, f)
}

func epochKey(convo string, epoch int64) payload { return payload{convo, fmt.Sprint(epoch)} }

// order goes through the logs, row by row.
func (b *books) order(logs []stored) {
	var last stored
	for _, r := range logs {
		if r.Convo != last.Convo {
			last = stored{Convo: r.Convo}
		}
		commit := r.Kind == string(conversation.KindCommit)
		want := last.Epoch
		if commit {
			want++
			b.commits[epochKey(r.Convo, r.Epoch)] = r
		}
		if r.Seq != last.Seq+1 || r.Epoch != want {
			b.find("a log is numbered 1, 2, 3, and each epoch begins with its one commit", last, r)
		}
		if r.Payload != "" {
			k := payload{r.Convo, r.Payload}
			b.byPayload[k] = append(b.byPayload[k], r)
		}
		last = r
	}
}

// acknowledged looks for what a client was told.
func (b *books) acknowledged(op history.Op) {
	var row stored
	there := false
	switch list := b.byPayload[payload{op.Convo, op.Input.Payload}]; {
	case op.Input.Payload == "":
		row, there = b.commits[epochKey(op.Convo, op.Output.Epoch)]
	case len(list) > 0:
		row, there = list[0], true
	}
	told := fmt.Sprintf("%s by %s of %s, payload %q, told epoch %d, seq %d, id %q",
		op.Kind, op.Caller, op.Convo, op.Input.Payload, op.Output.Epoch, op.Output.Seq, op.Output.MessageID)
	out := op.Output
	switch {
	case !there:
		b.found = append(b.found, Finding{Rule: "what was acknowledged is stored", Convo: op.Convo, Text: told})
	case row.Epoch != out.Epoch, row.Sender != op.Caller, out.Seq != 0 && row.Seq != out.Seq, out.MessageID != "" && row.ID != out.MessageID,
		(row.Kind == string(conversation.KindApp)) != (op.Kind == history.SendMessage):
		b.found = append(b.found, Finding{Rule: "what was acknowledged is stored as it was told", Convo: op.Convo, Text: told + "\n" + row.String()})
	}
}
