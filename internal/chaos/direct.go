package chaos

import (
	"time"

	"catbird/internal/history"
)

// leave is a planned end of a node's life. Times are on the clock of the history.
type leave struct {
	node string
	told time.Duration // to stop
	gone time.Duration // its process has ended
	back time.Duration // ready again; 0: not yet
}

// covers reports whether the attempt may have met the node when it listened no
// more. A client may have chosen the node just before it went.
func (l leave) covers(op history.Op) bool {
	return op.Node == l.node && op.Return >= l.told && (l.back == 0 || op.Call <= l.back)
}

// listening returns the instant up to which the node certainly listened: when the
// last of the attempts was made that it answered before it was gone.
func (l leave) listening(ops []history.Op) (last time.Duration) {
	for _, op := range ops {
		if op.Node == l.node && op.Call < l.gone && answered(op) {
			last = max(last, op.Call)
		}
	}
	return last
}

// missed returns a function that reports whether an attempt only came too late for
// a node that it addressed directly: nobody answered it, since the node had
// stopped listening, as it was to. An answer is no excuse, whatever it says, and
// neither is silence before another one was answered.
func missed(ops []history.Op, leaves []leave) func(history.Op) bool {
	last := make([]time.Duration, len(leaves))
	for i, l := range leaves {
		last[i] = l.listening(ops)
	}
	return func(op history.Op) bool {
		if c := code(op); c != unreachable && c != noAnswer {
			return false
		}
		for i, l := range leaves {
			if l.covers(op) && op.Return > last[i] {
				return true
			}
		}
		return false
	}
}
