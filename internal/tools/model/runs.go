package main

import (
	"fmt"
	"strings"
	"time"
)

// run is one search through one model.
type run struct {
	name  string // model/what, unique
	model string
	// sizes and switches are names, or name=value, that the model is built with.
	sizes []string
	// without is the safeguard that is taken out, as the model calls it, "" where
	// all are in.
	without string
	// unsafe says that sizes alone break what must hold.
	unsafe bool
	// live says that the property is about what happens at last, under weak
	// fairness, not about what never happens.
	live bool
	// stuck says that processes that wait for ever are no error.
	stuck bool
	long  bool
}

// family is a model with its safeguards.
type family struct {
	model string
	live  bool
	stuck bool
	// holds are the sizes, each a run, that must hold; the first have no name.
	holds []sized
	// missed are safeguards, each taken out in a run with sizes.
	missed []string
	sizes  []string
	// more are further runs that must go wrong.
	more []sized
}

type sized struct {
	name    string
	sizes   []string
	without string
	long    bool
}

var families = []family{
	{
		model: "claim",
		holds: []sized{
			{name: "small", sizes: []string{"EMAX=1", "FMAX=2"}},
			{name: "slow", sizes: []string{"EMAX=1", "FMAX=2", "T=2", "TTL=2"}},
			{name: "both-lapse", sizes: []string{"EMAX=1", "FMAX=2", "LAPSE", "PROMPT"}},
			{name: "more-fences", sizes: []string{"EMAX=1", "FMAX=3"}},
			{name: "both-lapse-late", sizes: []string{"EMAX=1", "FMAX=2", "LAPSE"}, long: true},
			{name: "large", sizes: []string{"EMAX=2", "FMAX=3"}, long: true},
		},
		missed: []string{
			"RENEW_IGNORES_END", "MARK_UNCOND", "DEADLINE_FROM_RECEIPT", "CHECK_FIRST", "CUR_SESSION", "END_FIRST",
			"RELEASE_BEFORE_DROP", "DIRECT_IGNORES_CLAIM", "DIRECT_KEEPS_FENCE", "APPEND_NOFENCE",
			"NO_SILENCE", "RELOAD_NOBUMP", "UNKNOWN_GOES_ON",
		},
		sizes: []string{"EMAX=1", "FMAX=2"},
		more: []sized{
			{name: "RELEASE_NOFENCE", sizes: []string{"EMAX=2", "FMAX=3"}, without: "RELEASE_NOFENCE"}, // it takes three fences
			{name: "trust-outlasts-ttl", sizes: []string{"EMAX=1", "FMAX=2", "T=2", "TTL=1"}},
		},
	},
	{
		model:  "mailbox",
		holds:  []sized{{name: "built"}},
		missed: []string{"CHECK_THEN_MARK", "GONE_ACCEPTS", "FORGET_ANY", "KEEP_SNAPSHOT", "RELEASE_NOFENCE", "NO_SECOND_LOOK", "MAIL_LEFT"},
	},
	{
		model:  "batch",
		holds:  []sized{{name: "built"}},
		missed: []string{"UNORDERED", "READ_BEFORE_LOCK", "ALL_OR_NOTHING", "PART_IS_NOTHING", "NO_IDLE_TIMEOUT", "ANSWER_FIRST"},
	},
	{
		model:  "unread",
		holds:  []sized{{name: "built"}},
		missed: []string{"READ_BEFORE_LOCK", "OWN_PLACE", "RESET_ZERO", "JOIN_AT_ZERO", "PURGE_UNCOUNTED"},
	},
	{
		model:  "progress",
		live:   true,
		holds:  []sized{{name: "built"}},
		missed: []string{"NO_IDLE_TIMEOUT", "NOBODY_ENDS"},
	},
	{
		model: "handoff",
		live:  true,
		holds: []sized{
			{name: "served"},
			{name: "ends", sizes: []string{"MOVES"}},
			{name: "lapsed", sizes: []string{"LAPSED"}},
		},
		missed: []string{"RING_STRICT", "NO_AGREE"},
		more: []sized{
			{name: "LAPSED_REFUSES", sizes: []string{"LAPSED"}, without: "LAPSED_REFUSES"},
			{name: "ends-NO_AGREE", sizes: []string{"MOVES"}, without: "NO_AGREE"},
		},
	},
	{
		model:  "wants",
		live:   true,
		holds:  []sized{{name: "built"}},
		missed: []string{"ASK_ONCE", "HOLDER_STAYS"},
	},
	{
		model:  "reach",
		holds:  []sized{{name: "built"}},
		missed: []string{"ANY_RENEWAL", "AT_ONCE"},
	},
	{
		model:  "retry",
		stuck:  true,
		holds:  []sized{{name: "epoch"}, {name: "no-epoch", sizes: []string{"KIND=2"}}},
		missed: []string{"NO_LOOKUP", "PASS_REFUSAL"},
		more: []sized{
			{name: "no-epoch-NO_LOOKUP", sizes: []string{"KIND=2"}, without: "NO_LOOKUP"},
			{name: "no-epoch-PASS_REFUSAL", sizes: []string{"KIND=2"}, without: "PASS_REFUSAL"},
		},
	},
}

// runs returns every run, in order.
func runs() []run {
	var out []run
	for _, f := range families {
		base := run{model: f.model, live: f.live, stuck: f.stuck}
		add := func(s sized, unsafe bool) {
			r := base
			r.name, r.sizes, r.without, r.long, r.unsafe = f.model+"/"+s.name, s.sizes, s.without, s.long, unsafe
			out = append(out, r)
		}
		for _, s := range f.holds {
			add(s, false)
		}
		for _, m := range f.missed {
			add(sized{name: m, sizes: f.sizes, without: m}, true)
		}
		for _, s := range f.more {
			add(s, true)
		}
	}
	return out
}

// flags are what the model is built with.
func (r run) flags() []string {
	var out []string
	for _, s := range r.sizes {
		out = append(out, "-D"+s)
	}
	if r.without != "" {
		out = append(out, "-DM_"+r.without)
	}
	return out
}

func (r run) defines() string { return strings.Join(r.flags(), " ") }

const (
	shortMemory, longMemory = 3000, 9000 // MB
	// Of the time on a clock: many times what an idle machine needs.
	shortLimit, longLimit = 15 * time.Minute, time.Hour
	depth                 = 400_000 // steps
)

// limit is how long the search may take.
func (r run) limit() time.Duration {
	if r.long {
		return longLimit
	}
	return shortLimit
}

// build are the C compiler's flags.
func (r run) build() []string {
	memory := shortMemory
	if r.long {
		memory = longMemory
	}
	out := []string{"-O1", "-w", fmt.Sprintf("-DMEMLIM=%d", memory)}
	if r.live {
		return append(out, "-DNFAIR=4")
	}
	return append(out, "-DSAFETY", "-DCOLLAPSE")
}

// search are pan's arguments.
func (r run) search() []string {
	out := []string{fmt.Sprintf("-m%d", depth)}
	if r.live {
		out = append(out, "-a", "-f")
	}
	if r.stuck {
		out = append(out, "-E")
	}
	return out
}

// judge returns what is wrong with a result, "" where it is as it should be.
func (r run) judge(res result) string {
	switch {
	case r.unsafe && res.errors == 0:
		return "expected to go wrong"
	case !r.unsafe && res.errors > 0:
		return "expected to hold"
	case !r.unsafe && res.partial != "":
		return res.partial
	default:
		return ""
	}
}
