package replay

import (
	"fmt"

	"catbird/testdata/transcripts"
)

const (
	app    = "app"
	commit = "commit"
)

// row is a row of the log as the recording says it must be.
type row struct {
	step   int // of the transcript
	seq    int64
	epoch  int64
	kind   string
	sender string
	bytes  []byte
}

// stay is what one person was to the group.
type stay struct {
	joined     bool
	joinedSeq  int64
	left       bool
	lastSeq    int64 // the newest row that they may see
	lastEpoch  int64 // the newest commit that they may see
	unread     int64 // as long as they have read nothing
	hasWelcome bool
}

// history is what a service must know of a group after all its steps. It is
// worked out from the recording alone, by nothing that the service is made of.
type history struct {
	creator string
	epoch   int64
	rows    []row // rows[i] has seq i+1
	stays   map[string]*stay
	used    map[string]bool // hashes of key packages that were used up
}

func historyOf(t *transcripts.Transcript) history {
	h := history{stays: make(map[string]*stay), used: make(map[string]bool)}
	for _, p := range t.People {
		h.stays[p.DID] = &stay{}
	}
	for i, s := range t.Steps {
		switch s.Op {
		case transcripts.CreateConvo:
			h.creator, h.epoch = s.By, s.EpochAfter
			h.stays[s.By].joined = true
		case transcripts.AddMembers:
			h.append(i, s, commit, s.EpochAfter, s.Commit)
			for _, did := range s.DIDs {
				*h.stays[did] = stay{joined: true, joinedSeq: h.seq(), hasWelcome: len(s.Welcome) > 0}
			}
			for _, k := range s.KeyPackageHashes {
				h.used[k.Hash] = true
			}
		case transcripts.LeaveConvo:
			h.append(i, s, commit, s.EpochAfter, s.Commit)
			p := h.stays[leaver(s)]
			p.left, p.lastSeq, p.lastEpoch = true, h.seq(), h.epoch
		case transcripts.SendMessage:
			h.append(i, s, app, s.Epoch, s.Ciphertext)
			for did, p := range h.stays {
				if p.active() && did != s.By {
					p.unread++
				}
			}
		}
	}
	for _, p := range h.stays {
		if p.active() {
			p.lastSeq, p.lastEpoch = h.seq(), h.epoch
		}
	}
	return h
}

func (h *history) append(step int, s transcripts.Step, kind string, epoch int64, b []byte) {
	h.epoch = epoch
	h.rows = append(h.rows, row{step: step, seq: h.seq() + 1, epoch: epoch, kind: kind, sender: s.By, bytes: b})
}

func (h *history) seq() int64 { return int64(len(h.rows)) }

func (s *stay) active() bool { return s.joined && !s.left }

func leaver(s transcripts.Step) string {
	if s.TargetDID != "" {
		return s.TargetDID
	}
	return s.By
}

// seen returns the rows that somebody with that stay may see.
func (h *history) seen(s *stay) []row { return h.rows[:s.lastSeq] }

// commits returns the commits among rows.
func commits(rows []row) []row {
	var out []row
	for _, r := range rows {
		if r.kind == commit {
			out = append(out, r)
		}
	}
	return out
}

func (h *history) members() []string {
	var out []string
	for did, s := range h.stays {
		if s.active() {
			out = append(out, did)
		}
	}
	return out
}

func stepName(i int, s transcripts.Step) string {
	return fmt.Sprintf("step %d (%s by %s)", i, s.Op, s.By)
}
