package postgres

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// A page neither repeats nor skips a conversation, whatever is written while a
// reader turns the pages: by transactions that were open at the first one too,
// and under whatever times nodes with wrong clocks write down.
func TestConvosPagesStayWhole(t *testing.T) {
	s, conn := fresh(t)
	const n = 30
	want := []string{}
	for i := range n {
		convo := fmt.Sprintf("%04x", i)
		newConvo(t, s, convo, "did:plc:alice")
		change(t, s, convo, "did:plc:alice", text("x"))
		want = append(want, convo)
	}
	slices.Reverse(want)
	// An append that is on its way when the first page is read, stamped by a
	// clock that is behind.
	open := connect(t, conn.Config().ConnString())
	run(t, open, "BEGIN")
	run(t, open, `UPDATE conversations SET catbird_seq = 2, catbird_last_activity = now() - interval '1 second' WHERE id = '0003'`)
	run(t, open, `INSERT INTO messages (id, convo_id, message_type, epoch, seq, ciphertext, created_at, catbird_v)
		VALUES ('open', '0003', 'app', 0, 2, '', now() - interval '1 second', 1)`)
	run(t, open, `INSERT INTO messages (id, convo_id, message_type, epoch, seq, ciphertext, created_at)
		VALUES ('open old', '0005', 'app', 0, 2, '', now() - interval '1 second'), ('open commit', '0006', 'commit', 1, 0, '', now() - interval '1 second')`)
	// Conversations whose messages have ended still know when the last one was.
	run(t, conn, `DELETE FROM messages WHERE convo_id IN ('001d', '0002')`)
	ses := session(t, s)
	var got []string
	cursor := ""
	for turn := 0; ; turn++ {
		p, err := s.Convos(patience(t), persistence.ConvosQuery{Caller: "did:plc:alice", Limit: 7, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Convos {
			got = append(got, v.ID)
		}
		if cursor = p.Cursor; cursor == "" {
			break
		}
		if turn == 0 {
			run(t, open, "COMMIT")
			hold(t, s, ses, "001d")
			hold(t, s, ses, "0002")
		}
		env := envNow()
		env.Now = env.Now.Add(-time.Minute) // this one's clock is behind, too
		for _, convo := range []string{"0001", got[1], fmt.Sprintf("%04x", 10+turn)} {
			if _, err := s.Direct(patience(t), "", request(convo, "did:plc:alice", text("meanwhile")), env); err != nil {
				t.Fatal(err)
			}
		}
		newConvo(t, s, fmt.Sprintf("ff%02x", turn), "did:plc:alice")
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConvosCursorIsChecked(t *testing.T) {
	s, _ := fresh(t)
	newConvo(t, s, "aa", "did:plc:alice")
	for _, text := range []string{
		"", "{", `{"s":"1:1:","t":1,"a":1}`, `{"s":"9:1:","t":1,"a":1,"i":"x"}`, `{"s":"'; DROP TABLE members","t":1,"a":1,"i":"x"}`,
		`{"s":"1:1:","t":0,"a":1,"i":"x"}`, `{"s":"1:1:","t":1,"a":1,"i":"x","z":1}`, `{"s":"99999999999999999999:99999999999999999999:","t":1,"a":1,"i":"x"}`,
		`{"s":"1:9:3,2","t":1,"a":1,"i":"x"}`, `{"s":"1:1:","t":1,"a":1,"i":"\u0000"}`,
	} {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(text))
		if text == "" {
			cursor = "no base64!"
		}
		_, err := s.Convos(patience(t), persistence.ConvosQuery{Caller: "did:plc:alice", Limit: 7, Cursor: cursor})
		if conversation.CodeOf(err) != conversation.InvalidCursor {
			t.Errorf("%s: got %v, want InvalidCursor", text, err)
		}
	}
}

// An answer holds so many bytes at most, and one message at least.
func TestMessagesFitAnAnswer(t *testing.T) {
	s, _ := fresh(t)
	newConvo(t, s, "aa", "did:plc:alice")
	for range 4 {
		change(t, s, "aa", "did:plc:alice", conversation.Send{Ciphertext: make([]byte, 7<<20)})
	}
	zero := int64(0)
	for name, c := range map[string]struct {
		q    persistence.MessagesQuery
		want []int64
		more bool
	}{
		"Newest":    {persistence.MessagesQuery{}, []int64{3, 4}, false},
		"FromStart": {persistence.MessagesQuery{SinceSeq: &zero}, []int64{1, 2}, true},
	} {
		c.q.Convo, c.q.Caller = "aa", "did:plc:alice"
		p := page(t, s, c.q)
		var got []int64
		for _, m := range p.Messages {
			got = append(got, m.Seq)
			if len(m.Ciphertext) != 7<<20 {
				t.Errorf("%s: message %d has %d bytes", name, m.Seq, len(m.Ciphertext))
			}
		}
		if !slices.Equal(got, c.want) || p.More != c.more || p.LastSeq != 4 {
			t.Errorf("%s: got %v, more %v, want %v, more %v", name, got, p.More, c.want, c.more)
		}
	}
}

func TestCut(t *testing.T) {
	rows := func(seqs ...int64) []messageRow {
		out := make([]messageRow, len(seqs))
		for i, n := range seqs {
			out[i].Seq = n
		}
		return out
	}
	tooBig := rows(1, 2, 3)
	tooBig[1].cut, tooBig[2].cut = true, true
	tooBigNewest := rows(1, 2, 3)
	tooBigNewest[0].cut, tooBigNewest[1].cut = true, true
	for name, c := range map[string]struct {
		rows  []messageRow
		limit int
		kind  pageKind
		want  []int64
		more  bool
	}{
		"all fit":                      {rows(1, 2, 3), 3, afterSeq, []int64{1, 2, 3}, false},
		"one too many":                 {rows(1, 2, 3), 2, afterSeq, []int64{1, 2}, true},
		"newest, one too many":         {rows(1, 2, 3), 2, newestPage, []int64{2, 3}, false},
		"one seq at the end":           {rows(1, 2, 2), 2, afterSeq, []int64{1}, true},
		"one seq throughout":           {rows(2, 2, 2), 2, afterSeq, []int64{2, 2}, true},
		"one seq, by id":               {rows(1, 2, 2), 2, afterID, []int64{1, 2}, true},
		"too many bytes":               {tooBig, 3, afterSeq, []int64{1}, true},
		"too many bytes in the newest": {tooBigNewest, 3, newestPage, []int64{3}, false},
		"none":                         {nil, 3, newestPage, nil, false},
	} {
		got, more := cut(c.rows, c.limit, c.kind)
		var seqs []int64
		for _, m := range got {
			seqs = append(seqs, m.Seq)
		}
		if !slices.Equal(seqs, c.want) || more != c.more {
			t.Errorf("%s: got %v, more %v, want %v, more %v", name, seqs, more, c.want, c.more)
		}
	}
}
