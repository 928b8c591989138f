package actor

import (
	"time"

	"catbird/conversation"
)

// decision is what a batch comes to: one unit, and a verdict for each of the
// first letters. Letters beyond the verdicts did not fit.
type decision struct {
	unit     *conversation.Unit
	state    conversation.State // after the unit
	verdicts []verdict
}

// decide decides letters one after another, each on the state that those before
// it led to. It stops where the append is full, and around a change that uses
// key packages, which is a unit of its own (rule 23), as every change is with
// single.
func decide(policy conversation.Policy, snap *snapshot, convo string, letters []*letter, earlier []*conversation.Earlier, single bool) decision {
	d := decision{
		unit:     conversation.NewUnit(convo, snap.state, snap.fence),
		state:    snap.state,
		verdicts: make([]verdict, 0, len(letters)),
	}
	env := conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: policy}
	seen := repeats{}
	for i, l := range letters {
		v := verdict{follows: -1}
		switch {
		case l.req == nil: // wanted the conversation loaded, and it is
		case earlier != nil && earlier[i] != nil:
			v.result, v.err = conversation.Repeat(l.req, *earlier[i])
		default:
			first, repeated := seen.first(l.req)
			if repeated {
				v.follows = first
				break
			}
			ch, next, err := conversation.Decide(env, d.state, l.req)
			if err != nil {
				v.err = err
				break
			}
			alone := single || len(ch.KeyPackages) > 0
			if alone && !d.unit.Empty() {
				return d
			}
			d.unit.Add(ch, next)
			d.state = next
			v.result = ch.Result
			seen.add(l.req, i, len(letters))
			if rows, size := d.unit.Weight(); alone || rows >= maxRows || size >= maxBytes {
				d.verdicts = append(d.verdicts, v)
				return d
			}
		}
		d.verdicts = append(d.verdicts, v)
	}
	return d
}

// repeats finds the same change, by id or by key, twice in one batch: the
// second waits for the first (rule 26).
type repeats struct {
	ids  map[string]int
	keys map[repeatKey]int
}

type repeatKey struct {
	caller string
	op     conversation.Op
	key    string
}

func (s *repeats) first(r *conversation.Request) (i int, ok bool) {
	if i, ok = s.ids[r.ID]; ok {
		return i, true
	}
	if r.Key == "" {
		return 0, false
	}
	i, ok = s.keys[repeatKey{r.Caller, r.Command.Op(), r.Key}]
	return i, ok
}

func (s *repeats) add(r *conversation.Request, i, batch int) {
	if batch == 1 {
		return // nobody to follow
	}
	if s.ids == nil {
		s.ids = make(map[string]int, batch)
	}
	s.ids[r.ID] = i
	if r.Key != "" {
		if s.keys == nil {
			s.keys = map[repeatKey]int{}
		}
		s.keys[repeatKey{r.Caller, r.Command.Op(), r.Key}] = i
	}
}
