package load

import (
	"fmt"
	"sync"
)

// fate is what became of a change.
type fate uint8

const (
	asked        fate = iota // no answer yet
	acknowledged             // to be found in the log
	refused                  // must not be there
	uncertain                // may be there
	found                    // seen in the log, and so not to be seen again
)

// receipt is what an acknowledgement said. seq 0 and id "" are not told.
type receipt struct {
	id    string
	seq   int64
	epoch int64
}

// entry is a change whose answer and whose row have not met yet.
type entry struct {
	what  Op
	by    string   // a DID
	built int64    // the epoch it was made for
	told  *receipt // nil: not acknowledged
	row   *receipt // nil: not seen
}

// mark is what was known of a conversation at some instant: what is asked after
// it must not be answered from before it.
type mark struct{ seq, epoch int64 }

// books keep what was said of a conversation's changes. They are safe for use by
// several goroutines at once.
type books struct {
	convo    string
	findings *findings

	mu    sync.Mutex
	fates []fate
	open  map[uint32]*entry
	told  mark // the highest of what clients were told
	// unread counts acknowledged changes whose row was not seen yet, cleared
	// those whose outcome was unknown until it was.
	unread  int
	cleared int64
}

func newBooks(convo string, f *findings) *books {
	return &books{convo: convo, findings: f, open: map[uint32]*entry{}}
}

// begin enters a change that is about to be asked for.
func (b *books) begin(what Op, by string, built int64) (serial uint32, before mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	serial = uint32(len(b.fates))
	b.fates = append(b.fates, asked)
	b.open[serial] = &entry{what: what, by: by, built: built}
	return serial, b.told
}

// mark returns what was told up to now.
func (b *books) mark() mark {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}

// acknowledge enters a change's acknowledgement. rowless says that it left no row
// in the log.
func (b *books) acknowledge(serial uint32, before mark, r receipt, rowless bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.open[serial]
	b.checkReceipt(e, before, r, rowless)
	b.told.epoch, b.told.seq = max(b.told.epoch, r.epoch), max(b.told.seq, r.seq)
	switch {
	case rowless:
		b.fates[serial] = found
		delete(b.open, serial)
	case e.row != nil:
		b.compare(serial, r, *e.row)
		delete(b.open, serial)
	default:
		b.fates[serial] = acknowledged
		e.told = &r
		b.unread++
	}
}

func (b *books) checkReceipt(e *entry, before mark, r receipt, rowless bool) {
	if r.epoch < before.epoch || (!rowless && e.what != SendMessage && r.epoch == before.epoch) {
		b.report(StaleAnswer, "%s was acknowledged with epoch %d when epoch %d had been told", e.what, r.epoch, before.epoch)
	}
	if e.what != SendMessage {
		return
	}
	if r.epoch != e.built {
		b.report(WrongEpoch, "a message for epoch %d was acknowledged with epoch %d", e.built, r.epoch)
	}
	if r.seq <= before.seq {
		b.report(StaleAnswer, "a message was acknowledged with seq %d when seq %d had been told", r.seq, before.seq)
	}
}

// refuse enters that a change did not happen.
func (b *books) refuse(serial uint32, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.open[serial]; e.row != nil {
		b.report(RefusedButStored, "%s was refused (%s) and is stored at seq %d", e.what, why, e.row.seq)
		b.fates[serial] = found
	} else {
		b.fates[serial] = refused
	}
	delete(b.open, serial)
}

// doubt enters that nobody knows if a change happened.
func (b *books) doubt(serial uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[serial].row != nil {
		b.cleared++
		delete(b.open, serial)
		return
	}
	b.fates[serial] = uncertain
}

// read checks an answer that told where the conversation stands: not before what
// had been told before it was asked for.
func (b *books) read(what Op, before, now mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.epoch < before.epoch {
		b.report(StaleAnswer, "%s told epoch %d after epoch %d had been told", what, now.epoch, before.epoch)
	}
	if now.seq < before.seq {
		b.report(StaleAnswer, "%s told seq %d after seq %d had been told", what, now.seq, before.seq)
	}
	b.told.epoch, b.told.seq = max(b.told.epoch, now.epoch), max(b.told.seq, now.seq)
}

// backlog returns how many acknowledged changes were not read back yet.
func (b *books) backlog() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unread
}

// peek returns the entry of a change that may still be missing its row.
func (b *books) peek(serial uint32) (e entry, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(serial) >= len(b.fates) {
		return entry{}, false
	}
	if e := b.open[serial]; e != nil {
		return *e, true
	}
	return entry{}, true
}

// see enters a row of the log that holds the change serial.
func (b *books) see(serial uint32, row receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.open[serial]
	switch b.fates[serial] {
	case found:
		b.report(Duplicated, "change %d is stored again at seq %d", serial, row.seq)
	case refused:
		b.report(RefusedButStored, "change %d was refused and is stored at seq %d", serial, row.seq)
		b.fates[serial] = found
	case acknowledged:
		b.compare(serial, *e.told, row)
		b.unread--
		delete(b.open, serial)
	case uncertain:
		b.fates[serial] = found
		b.cleared++
		delete(b.open, serial)
	case asked:
		b.fates[serial] = found
		e.row = &row
	}
}

func (b *books) compare(serial uint32, told, row receipt) {
	b.fates[serial] = found
	if told.epoch != row.epoch {
		b.report(WrongEpoch, "change %d was acknowledged with epoch %d and is stored with epoch %d, at seq %d", serial, told.epoch, row.epoch, row.seq)
	}
	if told.seq != 0 && told.seq != row.seq {
		b.report(Misplaced, "change %d was acknowledged with seq %d and is stored at seq %d", serial, told.seq, row.seq)
	}
	if told.id != "" && told.id != row.id {
		b.report(Misplaced, "change %d was acknowledged as %q and is stored as %q", serial, told.id, row.id)
	}
}

// close looks for what is missing, when the whole log was read. It returns how
// many changes of unknown outcome are in the log, and how many are not.
func (b *books) close() (stored, missing int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for serial, e := range b.open {
		switch b.fates[serial] {
		case acknowledged:
			b.report(Lost, "%s, change %d, was acknowledged with %s and is not in the log", e.what, serial, e.told)
		case uncertain:
			missing++
		}
	}
	return b.cleared, missing
}

func (b *books) report(k Kind, format string, args ...any) {
	b.findings.add(k, b.convo, fmt.Sprintf(format, args...))
}

// String says what was told.
func (r receipt) String() string {
	if r.seq == 0 {
		return fmt.Sprintf("epoch %d", r.epoch)
	}
	return fmt.Sprintf("epoch %d and seq %d", r.epoch, r.seq)
}
