package load

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
)

// Defaults and limits of [Config].
const (
	DefaultConversations = 100
	DefaultMembers       = 5
	DefaultMessageBytes  = 1024
	DefaultClosedClients = 16
	DefaultOpenClients   = 256
	DefaultTimeout       = 30 * time.Second
	DefaultVerifyTimeout = 2 * time.Minute

	MaxConversations = 100_000
	MaxMembers       = 1000
	MaxClients       = 10_000
	MaxRate          = 1_000_000 // operations a second
	MaxDuration      = 31 * 24 * time.Hour
	// MinMessageBytes holds what tells one message from all others.
	MinMessageBytes = identityBytes + 1
	// MaxOperations bounds an open loop: Rate times Duration.
	MaxOperations = 1_000_000_000
)

// Payload says what messages and commits are made of.
type Payload string

const (
	// Random bytes carry no MLS header, so the service puts commits in line as
	// they come.
	Random Payload = "random"
	// MLS makes messages and commits from recorded ones, with the header of
	// their group and epoch. Of commits that were built on one epoch a single one
	// succeeds, as in real groups; the others count as conflicts.
	MLS Payload = "mls"
)

// Config says what load to put where. The zero value of a field that has a
// default means the default; [New] checks all of it.
type Config struct {
	// BaseURLs are the nodes, or load balancers before them; requests go to
	// them in turn. At least one.
	BaseURLs []string
	// Token gives the tokens of whoever takes part. Required.
	Token client.TokenSource
	// HTTP makes the requests; nil: a client of the engine's own that keeps as
	// many connections as there are Clients.
	HTTP *http.Client
	// People are the DIDs that take part; none: people are made up, others for
	// each conversation. A conversation needs Members of them, and more to add.
	People []string

	// Conversations are created for the run, each with Members members. What
	// addMembers and leaveConvo do keeps a conversation between half and twice
	// its first size: beyond that the one stands in for the other.
	Conversations int
	Members       int

	Mix     Mix // nil: DefaultMix
	Payload Payload
	// MessageBytes is the size of messages and commits of Random; MLS has the
	// sizes that were recorded, and takes 0 only.
	MessageBytes int

	// Clients is how many operations are under way at most. In a closed loop
	// each client begins its next operation when it is done with the last. 0:
	// DefaultClosedClients or DefaultOpenClients.
	Clients int
	// Rate makes the loop an open one: so many operations are due each second,
	// evenly spaced. An operation that finds all Clients busy starts late, and
	// its latency says so. 0: a closed loop.
	Rate float64
	// Duration is for how long operations are begun. Required.
	Duration time.Duration
	// Seed decides the sequence of operations: which, where and by whom. Who
	// wins a race is not its business.
	Seed uint64

	// Timeout bounds an operation with all its repetitions, AttemptTimeout each
	// one; 0: DefaultTimeout, and that of package client. Attempts is how often
	// a request is made at most, with one idempotency key; 0: the client's
	// default, 1: never repeated.
	Timeout        time.Duration
	AttemptTimeout time.Duration
	Attempts       int
	// VerifyTimeout bounds the reading back in the end.
	VerifyTimeout time.Duration

	// EventsFile, if set, is read for events while the run lasts, see
	// [FollowEvents]. What happened before it began is left out.
	EventsFile string

	// Observe, if set, is told of every operation of the load when it has ended,
	// and Progress each second how things stand. Observe is called by several
	// goroutines at once; both must not block.
	Observe  func(Operation)
	Progress func(Progress)
}

// ConfigError says which setting cannot be used, by its name in [Config].
type ConfigError struct {
	Field  string
	Reason string
}

// Error names the field and what is wrong with it.
func (e *ConfigError) Error() string { return "load: " + e.Field + ": " + e.Reason }

func (c Config) withDefaults() (Config, error) {
	if c.Mix == nil {
		c.Mix = DefaultMix()
	}
	c.Conversations = or(c.Conversations, DefaultConversations)
	c.Members = or(c.Members, DefaultMembers)
	c.Payload = or(c.Payload, Random)
	if c.Payload == Random {
		c.MessageBytes = or(c.MessageBytes, DefaultMessageBytes)
	}
	if c.Rate > 0 {
		c.Clients = or(c.Clients, DefaultOpenClients)
	}
	c.Clients = or(c.Clients, DefaultClosedClients)
	c.Timeout = or(c.Timeout, DefaultTimeout)
	c.VerifyTimeout = or(c.VerifyTimeout, DefaultVerifyTimeout)
	return c, c.validate()
}

func (c Config) validate() error {
	return errors.Join(
		c.validateLoop(),
		within("Conversations", c.Conversations, 1, MaxConversations),
		within("Members", c.Members, 1, MaxMembers),
		within("Clients", c.Clients, 1, MaxClients),
		within("Timeout", c.Timeout, time.Millisecond, time.Hour),
		within("VerifyTimeout", c.VerifyTimeout, time.Millisecond, 24*time.Hour),
		c.validatePayload(),
		c.validatePeople(),
	)
}

func (c Config) validateLoop() error {
	if err := c.Mix.validate(); err != nil {
		return &ConfigError{"Mix", err.Error()}
	}
	if c.Duration <= 0 || c.Duration > MaxDuration {
		return &ConfigError{"Duration", fmt.Sprintf("must be more than 0 and at most %v", MaxDuration)}
	}
	if math.IsNaN(c.Rate) || c.Rate < 0 || c.Rate > MaxRate {
		return &ConfigError{"Rate", fmt.Sprintf("must be from 0 to %d a second", MaxRate)}
	}
	if c.Rate*c.Duration.Seconds() > MaxOperations {
		return &ConfigError{"Rate", fmt.Sprintf("comes to more than %d operations in %v", MaxOperations, c.Duration)}
	}
	return nil
}

func (c Config) validatePayload() error {
	switch c.Payload {
	case Random:
		return within("MessageBytes", c.MessageBytes, MinMessageBytes, conversation.MaxMessage)
	case MLS:
		if c.MessageBytes != 0 {
			return &ConfigError{"MessageBytes", "recorded messages have the size that they have"}
		}
		return nil
	default:
		return &ConfigError{"Payload", fmt.Sprintf("%q is neither %q nor %q", c.Payload, Random, MLS)}
	}
}

func (c Config) validatePeople() error {
	if len(c.People) > 0 && len(c.People) < c.Members {
		return &ConfigError{"People", fmt.Sprintf("%d are too few for conversations of %d members", len(c.People), c.Members)}
	}
	seen := make(map[string]bool, len(c.People))
	for _, did := range c.People {
		if seen[did] {
			return &ConfigError{"People", did + " is there twice"}
		}
		seen[did] = true
	}
	return nil
}

func within[T int | time.Duration](field string, v, low, high T) error {
	if v < low || v > high {
		return &ConfigError{field, fmt.Sprintf("must be from %v to %v", low, high)}
	}
	return nil
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
