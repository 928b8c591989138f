package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/term"

	"catbird/internal/client"
	"catbird/testdata/transcripts"
)

// Config says what is replayed, where, and how it is shown.
type Config struct {
	// BaseURLs are the nodes; requests go to them in turn. At least one.
	BaseURLs []string
	// Token gives the tokens of the recorded people. Required.
	Token client.TokenSource
	// HTTP makes the requests, through a load balancer for example; nil: see
	// client.Config.
	HTTP *http.Client
	// Observe, if set, is told of every attempt of a request, see client.Config.
	Observe func(client.Observation)
	// Groups are replayed at the same time; none: those of package transcripts.
	Groups []*transcripts.Transcript
	// VerifyOnly writes nothing: the groups are there from an earlier replay.
	VerifyOnly bool
	// BeforeStep, if set, is called before each recorded step of each group and
	// may block; an error ends that group's replay. Groups call it at the same
	// time.
	BeforeStep func(context.Context, Step) error

	// Out gets the progress and the summary; nil: nobody.
	Out io.Writer
	// Terminal says that Out is a terminal: progress is one line drawn again and
	// again. Else it is plain lines.
	Terminal bool
	// Width returns the terminal's columns; nil: what Out says, or 80.
	Width func() int

	// Settle is how long unread counts may take to become right, as they reach
	// the database late; 0: 30 s. A count that is too high is wrong at once.
	Settle time.Duration
}

// Step is a recorded step that is about to be taken.
type Step struct {
	Group   string // the transcript's name
	ConvoID string
	Index   int // from 0
	Total   int
	Op      transcripts.Op
	By      string // a DID
}

// ErrExists says that a group is on the server already. A group can be written
// once per database.
var ErrExists = errors.New("the group is on this server already, and as its id is part of the recorded bytes it cannot be written twice: " +
	"verify it instead of writing it, or start with an empty database")

func (c Config) withDefaults() (Config, error) {
	if len(c.BaseURLs) == 0 {
		return c, errors.New("replay: no base URL")
	}
	if c.Token == nil {
		return c, errors.New("replay: no token source")
	}
	if len(c.Groups) == 0 {
		c.Groups = transcripts.All()
	}
	seen := make(map[string]bool)
	for _, g := range c.Groups {
		if seen[g.GroupID] {
			return c, fmt.Errorf("replay: group %s is there twice", g.Name)
		}
		seen[g.GroupID] = true
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Width == nil {
		c.Width = widthOf(c.Out)
	}
	if c.Settle == 0 {
		c.Settle = 30 * time.Second
	}
	return c, nil
}

func widthOf(out io.Writer) func() int {
	const usual = 80
	f, ok := out.(*os.File)
	if !ok {
		return func() int { return usual }
	}
	return func() int {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
		return usual
	}
}
