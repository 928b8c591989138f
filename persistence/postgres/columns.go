package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"catbird/conversation"
)

// The columns that a flight sends as arrays, one element a row.

type unitColumns struct {
	convo                                            []string
	baseEpoch, baseSeq, baseFence, epoch, seq, fence []int64
	mls, release                                     []bool
	changed, active, messaged                        []pgtype.Timestamptz
}

func newUnitColumns(writes []*write) unitColumns {
	n := len(writes)
	ints := make([]int64, 6*n)
	part := func(i int) []int64 { return ints[i*n : i*n : (i+1)*n] }
	return unitColumns{
		convo:     make([]string, 0, n),
		baseEpoch: part(0), baseSeq: part(1), baseFence: part(2), epoch: part(3), seq: part(4), fence: part(5),
		mls: make([]bool, 0, n), release: make([]bool, 0, n),
		changed: make([]pgtype.Timestamptz, 0, n), active: make([]pgtype.Timestamptz, 0, n), messaged: make([]pgtype.Timestamptz, 0, n),
	}
}

func (c *unitColumns) add(w *write) {
	u := w.unit
	var active time.Time
	if len(u.Rows) > 0 {
		active = u.Rows[len(u.Rows)-1].At
	}
	c.convo = append(c.convo, u.Convo)
	c.baseEpoch, c.baseSeq, c.baseFence = append(c.baseEpoch, w.base.Epoch), append(c.baseSeq, w.base.Seq), append(c.baseFence, w.base.Fence)
	c.epoch, c.seq, c.fence = append(c.epoch, u.Epoch), append(c.seq, u.Seq), append(c.fence, w.fence)
	c.mls, c.release = append(c.mls, u.MLS), append(c.release, w.release)
	c.changed, c.active, c.messaged = append(c.changed, maybe(u.At)), append(c.active, maybe(active)), append(c.messaged, maybe(u.LastMessage))
}

func (c *unitColumns) args() []any {
	return []any{
		c.convo, c.baseEpoch, c.baseSeq, c.baseFence, c.epoch, c.seq, c.fence, c.mls, c.release, c.changed, c.active, c.messaged,
	}
}

type changeColumns struct {
	unit []int32
	id   []string
}

func (c *changeColumns) add(n int32, u *conversation.Unit) {
	for _, id := range u.IDs {
		c.unit, c.id = append(c.unit, n), append(c.id, id)
	}
}

// addRowless adds the changes that come without a row. Rows are in the order of
// the changes that made them.
func (c *changeColumns) addRowless(n int32, u *conversation.Unit) {
	row := 0
	for _, id := range u.IDs {
		if row < len(u.Rows) && u.Rows[row].ID == id {
			row++
			continue
		}
		c.unit, c.id = append(c.unit, n), append(c.id, id)
	}
}

type keyColumns struct {
	unit                         []int32
	convo, caller, endpoint, key []string
}

func (c *keyColumns) add(n int32, u *conversation.Unit) {
	for i := range u.Records {
		if r := &u.Records[i]; r.Key != "" {
			c.unit, c.convo, c.caller = append(c.unit, n), append(c.convo, u.Convo), append(c.caller, r.Caller)
			c.endpoint, c.key = append(c.endpoint, string(r.Endpoint)), append(c.key, r.Key)
		}
	}
}

type rowColumns struct {
	unit             []int32
	id, sender, kind []string
	epoch, seq       []int64
	ciphertext       blobs
	at               []time.Time
	expires          []pgtype.Timestamptz
	// Most rows have none of these: then the arrays stay nil, and NULL.
	embedType, embedURI, clientID []*string
}

func newRowColumns(writes []*write) rowColumns {
	n, extra := 0, false
	for _, w := range writes {
		n += len(w.unit.Rows)
		for i := range w.unit.Rows {
			r := &w.unit.Rows[i]
			extra = extra || r.EmbedType != "" || r.EmbedURI != "" || r.ClientID != ""
		}
	}
	c := rowColumns{
		unit: make([]int32, 0, n), id: make([]string, 0, n), sender: make([]string, 0, n), kind: make([]string, 0, n),
		epoch: make([]int64, 0, n), seq: make([]int64, 0, n), ciphertext: make(blobs, 0, n),
		at: make([]time.Time, 0, n), expires: make([]pgtype.Timestamptz, 0, n),
	}
	if extra {
		c.embedType, c.embedURI, c.clientID = make([]*string, 0, n), make([]*string, 0, n), make([]*string, 0, n)
	}
	return c
}

func (c *rowColumns) add(n int32, r *conversation.Row) {
	c.unit, c.id, c.sender, c.kind = append(c.unit, n), append(c.id, r.ID), append(c.sender, r.Sender), append(c.kind, string(r.Kind))
	c.epoch, c.seq = append(c.epoch, r.Epoch), append(c.seq, r.Seq)
	c.ciphertext = append(c.ciphertext, bytesOf(r.Ciphertext))
	c.at, c.expires = append(c.at, r.At), append(c.expires, maybe(r.Expires))
	if c.embedType != nil {
		c.embedType, c.embedURI = append(c.embedType, orNull(r.EmbedType)), append(c.embedURI, orNull(r.EmbedURI))
		c.clientID = append(c.clientID, orNull(r.ClientID))
	}
}

// args are all of the columns but the ciphertexts.
func (c *rowColumns) args() []any {
	return []any{
		c.unit, c.id, c.sender, c.kind, c.epoch, c.seq, c.at, c.expires, c.embedType, c.embedURI, c.clientID,
	}
}

// bytesOf makes empty bytes of none: the column may be NOT NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type memberColumns struct {
	convo, did         []string
	at                 []time.Time
	joinedSeq, leftSeq []int64
	gone               []bool
}

func (c *memberColumns) add(convo string, m conversation.MemberChange) {
	c.convo, c.did, c.at = append(c.convo, convo), append(c.did, m.DID), append(c.at, m.At)
	c.joinedSeq, c.leftSeq, c.gone = append(c.joinedSeq, m.JoinedSeq), append(c.leftSeq, m.LeftSeq), append(c.gone, m.Left)
}
