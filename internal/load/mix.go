package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Op is an operation, by its endpoint's name in the clients' API.
type Op string

// The operations that a load is made of.
const (
	SendMessage Op = "sendMessage"
	Commit      Op = "commit"
	AddMembers  Op = "addMembers"
	LeaveConvo  Op = "leaveConvo"
	GetEpoch    Op = "getEpoch"
	GetMessages Op = "getMessages"
	GetCommits  Op = "getCommits"
	GetConvos   Op = "getConvos"
)

// Ops are all operations, in the order in which reports list them.
func Ops() []Op {
	return []Op{SendMessage, Commit, AddMembers, LeaveConvo, GetEpoch, GetMessages, GetCommits, GetConvos}
}

const maxWeight = 1_000_000

// Mix says how often each operation is chosen: its weight over the sum of all.
// An operation that is missing is never chosen.
type Mix map[Op]int

// DefaultMix is mostly messages and reading, with the odd change of members.
func DefaultMix() Mix {
	return Mix{SendMessage: 70, GetMessages: 15, GetEpoch: 10, Commit: 2, AddMembers: 2, LeaveConvo: 1}
}

// ParseMix reads what [Mix.String] writes: name=weight, with commas between.
func ParseMix(s string) (Mix, error) {
	m := Mix{}
	for part := range strings.SplitSeq(s, ",") {
		name, weight, ok := strings.Cut(strings.TrimSpace(part), "=")
		op := Op(strings.TrimSpace(name))
		if !ok {
			return nil, fmt.Errorf("%q is not of the form operation=weight", part)
		}
		if _, twice := m[op]; twice {
			return nil, fmt.Errorf("%s is there twice", op)
		}
		n, err := strconv.Atoi(strings.TrimSpace(weight))
		if err != nil {
			return nil, fmt.Errorf("the weight of %s is %q, not a whole number", op, weight)
		}
		m[op] = n
	}
	return m, m.validate()
}

// String returns the mix in the form that ParseMix reads.
func (m Mix) String() string {
	var parts []string
	for _, op := range Ops() {
		if m[op] > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", op, m[op]))
		}
	}
	return strings.Join(parts, ",")
}

func (m Mix) validate() error {
	sum := 0
	for op, weight := range m {
		switch {
		case !slices.Contains(Ops(), op):
			return fmt.Errorf("%q is no operation; there are %v", op, Ops())
		case weight < 0 || weight > maxWeight:
			return fmt.Errorf("the weight of %s must be from 0 to %d", op, maxWeight)
		}
		sum += weight
	}
	if sum == 0 {
		return errors.New("no operation has a weight above 0")
	}
	return nil
}

// pick chooses an operation.
func (m Mix) pick(rng *rand.Rand) Op {
	sum := 0
	for _, weight := range m {
		sum += weight
	}
	at := rng.IntN(sum)
	for _, op := range Ops() { // not the map's order, so that a seed decides
		if at -= m[op]; at < 0 {
			return op
		}
	}
	panic("load: weights that do not add up")
}

// used are the operations that a report lists: those of the mix, and those that
// stood in for others.
func (m Mix) used(tracks map[Op]*track) []Op {
	return slices.DeleteFunc(Ops(), func(op Op) bool { return m[op] == 0 && tracks[op].whole.h.TotalCount() == 0 })
}
