package load

import (
	"sync"
)

// Kind says in which way a cluster did not keep its word.
type Kind string

// What can be wrong.
const (
	Lost             Kind = "lost"               // acknowledged and not in the log
	Duplicated       Kind = "duplicated"         // in the log more than once
	Misplaced        Kind = "misplaced"          // in the log, but not as acknowledged: seq, id, conversation
	WrongEpoch       Kind = "wrong-epoch"        // in the log or acknowledged with another epoch than said
	RefusedButStored Kind = "refused-but-stored" // refused, and yet in the log
	Gap              Kind = "gap"                // seq or epochs do not follow each other
	Altered          Kind = "altered"            // other bytes or another sender than were sent
	Foreign          Kind = "foreign"            // a row that nobody sent
	StaleAnswer      Kind = "stale-answer"       // an answer from before what had been told already
	Rewritten        Kind = "rewritten"          // rows that read differently the second time
)

// maxFindings is how many findings are kept; all are counted.
const maxFindings = 200

// Finding is one thing that is wrong.
type Finding struct {
	Kind  Kind   `json:"kind"`
	Convo string `json:"convo"`
	Text  string `json:"text"`
}

// findings collects what is wrong. It is safe for use by several goroutines at
// once.
type findings struct {
	mu     sync.Mutex
	list   []Finding
	counts map[Kind]int64
}

func newFindings() *findings { return &findings{counts: map[Kind]int64{}} }

func (f *findings) add(k Kind, convo, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[k]++
	if len(f.list) < maxFindings {
		f.list = append(f.list, Finding{Kind: k, Convo: convo, Text: text})
	}
}

func (f *findings) total() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int64
	for _, c := range f.counts {
		n += c
	}
	return n
}
