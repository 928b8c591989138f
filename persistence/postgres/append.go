package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"catbird/conversation"
	"catbird/persistence"
)

// write is a unit on its way into the database.
type write struct {
	unit *conversation.Unit
	// base is what the conversation's row must say; fence what it says after.
	base  conversation.Version
	fence int64
	// release: the claim in the row is void, and goes.
	release bool
	// suspect: one of its rows may be there already. Without it such a row is
	// an error of the whole transaction.
	suspect bool

	fits, stored bool // what came of it
}

// Append stores units, each of another conversation. Units that use key
// packages depend on other rows and run in transactions of their own.
func (s *Store) Append(ctx context.Context, units []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	st, err := s.prepared()
	if err != nil {
		return nil, err
	}
	out := make([]persistence.AppendOutcome, len(units))
	var together, alone []int
	for i, u := range units {
		if len(u.KeyPackages) > 0 {
			alone = append(alone, i)
		} else {
			together = append(together, i)
		}
	}
	if err := s.appendTogether(ctx, st, units, together, out); err != nil {
		return nil, err
	}
	for n, i := range alone {
		err := s.appendFlight(ctx, st, units, []int{i}, true, out)
		if err == nil {
			continue
		}
		if transient(err) {
			if n > 0 || len(together) > 0 { // the others are stored
				err = inDoubt(err)
			}
			return nil, err
		}
		s.refuseUnit(ctx, units[i], err)
		out[i] = persistence.Failed
	}
	return out, nil
}

// transient reports whether err is about the database as a whole, not about
// what was to be stored.
func transient(err error) bool {
	return errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown)
}

// inDoubt is for a call of which err has ended one part after another part was
// stored.
func inDoubt(err error) error {
	return fmt.Errorf("append: %w: stored in part: %v", persistence.ErrOutcomeUnknown, err)
}

// appendTogether stores the units at which in one transaction, and each in one
// of its own where the database refuses that for a reason nobody expected.
func (s *Store) appendTogether(ctx context.Context, st *statements, units []*conversation.Unit, which []int, out []persistence.AppendOutcome) error {
	if len(which) == 0 {
		return nil
	}
	err := s.appendFlight(ctx, st, units, which, false, out)
	if codeOf(err) == uniqueViolation {
		err = s.appendFlight(ctx, st, units, which, true, out)
	}
	if err == nil || errors.Is(err, persistence.ErrOutcomeUnknown) {
		return err
	}
	if errors.Is(err, persistence.ErrUnavailable) && (len(which) == 1 || codeOf(err) != lockTimeout) {
		return err
	}
	if len(which) == 1 {
		s.refuseUnit(ctx, units[which[0]], err)
		out[which[0]] = persistence.Failed
		return nil
	}
	s.log.WarnContext(ctx, "append refused, trying each unit alone", "units", len(which), "error", err)
	stored := false
	for _, i := range which {
		err := s.appendFlight(ctx, st, units, []int{i}, true, out)
		switch {
		case err == nil:
			stored = true
		case codeOf(err) == lockTimeout || !transient(err):
			s.refuseUnit(ctx, units[i], err)
			out[i] = persistence.Failed
		case stored: // some are, some are not
			return inDoubt(err)
		default:
			return err
		}
	}
	return nil
}

const (
	lockTimeout     = "55P03"
	uniqueViolation = "23505"
)

func (s *Store) refuseUnit(ctx context.Context, u *conversation.Unit, err error) {
	s.log.ErrorContext(ctx, "the database refused a change", "convo", u.Convo, "changes", len(u.IDs), "error", err)
}

// appendFlight stores the units at which in one transaction.
func (s *Store) appendFlight(ctx context.Context, st *statements, units []*conversation.Unit, which []int, suspect bool, out []persistence.AppendOutcome) error {
	writes := make([]*write, len(which))
	ids := make([]string, len(which))
	for n, i := range which {
		u := units[i]
		writes[n] = &write{unit: u, base: u.Base, fence: u.Base.Fence, suspect: suspect}
		ids[n] = u.Convo
	}
	err := s.flight(ctx, s.journal, "append", changes, func(b *pgx.Batch) {
		b.Queue(lockSQL, ids)
		st.queueWrites(b, writes)
	})
	if err != nil {
		return err
	}
	for n, i := range which {
		switch w := writes[n]; {
		case w.stored:
			out[i] = persistence.Appended
		case w.fits:
			out[i] = persistence.KeyPackageGone
		default:
			out[i] = persistence.Conflict
		}
	}
	return nil
}

// queueWrites queues the storing of writes, whose conversations are locked. Key
// packages go with a single write only.
func (st *statements) queueWrites(b *pgx.Batch, writes []*write) {
	dids, hashes := []string{}, []string{}
	if len(writes) == 1 {
		for _, k := range writes[0].unit.KeyPackages {
			dids, hashes = append(dids, k.DID), append(hashes, hex.EncodeToString(k.Hash))
		}
	}
	if len(dids) > 0 {
		b.Queue(st.lockKeyPackages, dids, hashes)
	}
	st.queueCore(b, writes, dids, hashes)
	st.queueMembers(b, writes)
	st.queueWelcomes(b, writes)
	queueRequests(b, writes)
	if len(dids) > 0 {
		b.Queue(st.consumeKeyPackages, dids, hashes, writes[0].unit.Convo)
	}
}

func (st *statements) queueCore(b *pgx.Batch, writes []*write, dids, hashes []string) {
	us, keys, rows := newUnitColumns(writes), keyColumns{}, newRowColumns(writes)
	var ids, asked changeColumns
	for i, w := range writes {
		n := int32(i + 1)
		us.add(w)
		ids.add(n, w.unit)
		if w.suspect {
			asked.add(n, w.unit)
		} else {
			asked.addRowless(n, w.unit)
		}
		keys.add(n, w.unit)
		for j := range w.unit.Rows {
			rows.add(n, &w.unit.Rows[j])
		}
	}
	args := append(us.args(), ids.unit, ids.id, keys.unit, keys.convo, keys.caller, keys.endpoint, keys.key, dids, hashes)
	// What is largest comes last: whatever came after it would move all of it to a
	// larger buffer.
	args = append(append(args, rows.args()...), asked.unit, asked.id, rows.ciphertext)
	b.Queue(st.core, args...).Query(each(func(r pgx.Rows) error {
		var n int32
		var fits, stored bool
		if err := r.Scan(&n, &fits, &stored); err != nil {
			return err
		}
		if n < 1 || int(n) > len(writes) {
			return fmt.Errorf("an answer for unit %d of %d", n, len(writes))
		}
		writes[n-1].fits, writes[n-1].stored = fits, stored
		return nil
	}))
}

func (st *statements) queueMembers(b *pgx.Batch, writes []*write) {
	var join, leave memberColumns
	for _, w := range writes {
		for _, m := range w.unit.Members {
			if m.Joined {
				join.add(w.unit.Convo, m)
			} else if m.Left {
				leave.add(w.unit.Convo, m)
			}
		}
	}
	if len(join.did) > 0 {
		b.Queue(st.upsertMembers, join.convo, join.did, join.at, join.joinedSeq, join.gone, join.leftSeq)
		b.Queue(dropWelcomesSQL, join.convo, join.did)
	}
	if len(leave.did) > 0 {
		b.Queue(leaveMembersSQL, leave.convo, leave.did, leave.at, leave.leftSeq)
	}
}

func (st *statements) queueWelcomes(b *pgx.Batch, writes []*write) {
	var convo, id, did []string
	var data, hash [][]byte
	var at []time.Time
	var epoch, seq []int64
	for _, w := range writes {
		for i := range w.unit.Welcomes {
			m := &w.unit.Welcomes[i]
			convo, id, did = append(convo, w.unit.Convo), append(id, newID()), append(did, m.Recipient)
			data, hash, at = append(data, m.Data), append(hash, m.KeyPackageHash), append(at, m.At)
			epoch, seq = append(epoch, m.Epoch), append(seq, m.Seq)
		}
	}
	if len(id) > 0 {
		b.Queue(st.insertWelcomes, convo, id, did, data, hash, at, epoch, seq)
	}
}

func queueRequests(b *pgx.Batch, writes []*write) {
	var convo, id, caller, endpoint, key []string
	var digest, response [][]byte
	var epoch, seq []int64
	var at []time.Time
	for _, w := range writes {
		for i := range w.unit.Records {
			r := &w.unit.Records[i]
			convo, id, caller = append(convo, w.unit.Convo), append(id, r.ID), append(caller, r.Caller)
			endpoint, key = append(endpoint, string(r.Endpoint)), append(key, r.Key)
			digest, response = append(digest, r.Digest), append(response, r.Response)
			epoch, seq, at = append(epoch, r.Result.Epoch), append(seq, r.Result.Seq), append(at, r.Result.At)
		}
	}
	if len(id) > 0 {
		b.Queue(insertRequestsSQL, convo, id, caller, endpoint, key, digest, epoch, seq, at, response)
	}
}

// newID returns an id for a row that no request has named.
func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic("postgres: the system has no randomness: " + err.Error())
	}
	return id.String()
}

// maybe is NULL for the zero time.
func maybe(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }
