package chaos

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/internal/history"
)

// moreFolds is how often counts that were right are looked at again, each time
// after a message more has been folded. Nodes answer with what is not folded yet
// added, so that before a fold its mistakes are not seen. Two folds of one
// conversation by one owner are as far apart as any node's are, so that another
// node that counts it, too, has done so in between.
const moreFolds = 2

const (
	worksAgain  = "when it is over everything works again"
	unreadExact = "unread counts are exact"
)

// checkUnread holds the unread counts of those who never read to the logs, and
// then again after folds. Counts may reach the clients a moment late, never
// wrongly. A conversation is told of once.
func (t *theatre) checkUnread(ctx context.Context) (found []Finding) {
	node := t.crowd.doors.open()[0]
	topics := slices.Clone(t.topics)
	for round := range 1 + moreFolds {
		if round > 0 {
			found = append(found, drop(&topics, func(c *topic) *Finding { return t.sendOneMore(ctx, node, c) })...)
			if err := t.awaitFolds(ctx, topics); err != nil {
				return append(found, Finding{Rule: worksAgain, Text: err.Error()})
			}
		}
		logs, err := t.ground.readLogs(ctx)
		if err != nil {
			return append(found, Finding{Rule: worksAgain, Text: err.Error()})
		}
		found = append(found, drop(&topics, func(c *topic) *Finding { return t.wrongUnread(ctx, node, c, logs) })...)
	}
	return found
}

// drop looks at each of topics and takes those out of which something is found.
func drop(topics *[]*topic, look func(*topic) *Finding) (found []Finding) {
	*topics = slices.DeleteFunc(*topics, func(c *topic) bool {
		f := look(c)
		if f != nil {
			f.Convo = c.id
			found = append(found, *f)
		}
		return f != nil
	})
	return found
}

// epochTries bounds how often a message is sent anew: nobody commits any more but
// requests that nobody waits for.
const epochTries = 3

// sendOneMore lets the creator send a message, as part of the history.
func (t *theatre) sendOneMore(ctx context.Context, node string, c *topic) *Finding {
	out := t.insist(ctx, node, history.Op{Convo: c.id, Caller: c.creator(), Kind: history.GetEpoch})
	for range epochTries {
		if out.Outcome != history.Succeeded && out.Code != conversation.EpochMismatch {
			break
		}
		out = t.insist(ctx, node, history.Op{
			Convo: c.id, Caller: c.creator(), Kind: history.SendMessage,
			Input: history.Input{Epoch: new(out.Epoch), Payload: c.payload(), Key: rand.Text()},
		})
		if out.Outcome == history.Succeeded {
			return nil
		}
	}
	return &Finding{Rule: worksAgain, Text: fmt.Sprintf("sendMessage at node %s: %s %s", node, out.Outcome, out.Code)}
}

// unfoldedSQL counts conversations with messages that no fold has counted. Commits
// alone are no reason to fold.
const unfoldedSQL = `
SELECT count(*) FROM conversations c WHERE id = ANY($1) AND EXISTS (
	SELECT FROM messages m WHERE m.convo_id = c.id AND m.message_type = 'app' AND m.seq > coalesce(c.catbird_folded_seq, 0))`

// awaitFolds waits until the members' rows hold the counts of all messages in the
// logs, for a while.
func (t *theatre) awaitFolds(ctx context.Context, topics []*topic) error {
	ids := make([]string, len(topics))
	for i, c := range topics {
		ids[i] = c.id
	}
	conn, err := t.ground.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	wait, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		var open int
		err := conn.QueryRow(ctx, unfoldedSQL, ids).Scan(&open)
		switch {
		case err != nil:
			return fmt.Errorf("looking for what is not folded: %w", err)
		case open == 0:
			return nil
		case !pause(wait, 100*time.Millisecond):
			return fmt.Errorf("the unread counts of %d conversations are not folded after %v", open, recovery)
		}
	}
}

// wrongUnread waits for the count of the mute one, and tells if it is not that of
// the logs.
func (t *theatre) wrongUnread(ctx context.Context, node string, c *topic, logs []stored) *Finding {
	want := unread(logs, c.id, c.mute())
	got, err := awaitUnread(ctx, t.crowd.doors.through(node), c, want)
	if err == nil && got > want {
		// A request that nobody waited for may have taken effect in between.
		logs, err = t.ground.readLogs(ctx)
		want = unread(logs, c.id, c.mute())
	}
	switch {
	case err != nil:
		return &Finding{Rule: worksAgain, Text: err.Error()}
	case got != want:
		return &Finding{Rule: unreadExact, Text: fmt.Sprintf("%s has %d unread, and the log holds %d messages of others", c.mute(), got, want)}
	}
	return nil
}

// unread counts the messages of others in a log.
func unread(logs []stored, convo, did string) (n int64) {
	for _, r := range logs {
		if r.Convo == convo && r.Kind == "app" && r.Sender != did {
			n++
		}
	}
	return n
}

// awaitUnread waits for a count of want, or more, and returns what it is.
func awaitUnread(ctx context.Context, api *client.Client, c *topic, want int64) (got int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		var page client.Convos
		page, err = api.As(c.mute()).GetConvos(ctx, 100, "")
		if i := slices.IndexFunc(page.Conversations, func(v client.Convo) bool { return v.ID == c.id }); err == nil && i < 0 {
			err = fmt.Errorf("%s is not among the conversations of %s", c.id, c.mute())
		} else if err == nil {
			got = page.Conversations[i].UnreadCount
		}
		if err == nil && got >= want || !pause(ctx, 100*time.Millisecond) {
			return got, err
		}
	}
}
