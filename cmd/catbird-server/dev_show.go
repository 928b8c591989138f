package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/term"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/dev"
	"catbird/internal/replay"
	"catbird/testdata/transcripts"
)

// show is what dev shows a person.
type show struct {
	out     io.Writer
	screen  *screen
	cluster *dev.Cluster
	secret  []byte // of tokens
	admin   config.Secret
}

func newShow(out io.Writer, c *dev.Cluster, cfg *config.Config) *show {
	return &show{
		out: out, screen: &screen{out: out, terminal: isTerminal(out)}, cluster: c,
		secret: []byte(cfg.Auth.JWTSecret), admin: cfg.Cluster.Secret,
	}
}

// screen is where a line that is drawn again and again and lines that stay come
// together.
type screen struct {
	out      io.Writer
	terminal bool
	mu       sync.Mutex
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// line prints a line that stays, in place of the one that moves.
func (s *screen) line(text string) {
	if s.terminal {
		text = "\r\x1b[K" + text
	}
	_, _ = io.WriteString(s, text+"\n") // a person who does not look
}

func (s *show) say(text string) { s.screen.line(text) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// replay replays the recorded groups, where an earlier run has not left them in
// the data folder, and makes a tour of a cluster meanwhile.
func (s *show) replay(ctx context.Context) error {
	nodes := s.cluster.Nodes()
	cfg := replay.Config{
		Token: client.HS256(s.secret, ""), HTTP: &http.Client{Transport: s.cluster.Transport()},
		Out: s.screen, Terminal: s.screen.terminal, Width: s.width(),
	}
	for _, n := range nodes {
		cfg.BaseURLs = append(cfg.BaseURLs, n.URL())
	}
	if len(nodes) == 1 {
		return s.replayed(replay.Run(ctx, cfg))
	}
	s.introduce()
	tour, err := dev.NewTour(ctx, dev.TourConfig{
		Cluster: s.cluster, Token: cfg.Token, Say: s.say,
		Groups: []string{transcripts.Large().GroupID, transcripts.Small().GroupID},
	})
	if err != nil {
		return err
	}
	cfg.BeforeStep, cfg.Observe = tour.BeforeStep, tour.Observe
	return s.both(ctx, tour, cfg)
}

// both replays and makes the tour at the same time. Neither goes on without the
// other.
func (s *show) both(ctx context.Context, tour *dev.Tour, cfg replay.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var events []dev.Event
	var tourErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		if events, tourErr = tour.Run(ctx); tourErr != nil {
			cancel(fmt.Errorf("the tour ended: %w", tourErr))
		}
	})
	summary, err := replay.Run(ctx, cfg)
	if err = s.replayed(summary, err); err != nil {
		cancel(err)
	}
	tour.Begin() // also where there was nothing to replay
	wg.Wait()
	if tourErr != nil && context.Cause(ctx) != err {
		return tourErr
	}
	if err != nil {
		return err
	}
	if err := dev.PrintEvents(s.out, events); err != nil {
		return err
	}
	if err := s.cluster.Integrity(ctx); err != nil {
		return err
	}
	s.say("\nevery epoch has one commit, and every conversation's log is without a gap")
	return nil
}

// replayed says what the end of a replay means to a person.
func (s *show) replayed(_ replay.Summary, err error) error {
	if errors.Is(err, replay.ErrExists) {
		s.say("the recorded groups are in this folder already: an empty one would let them be replayed")
		return nil
	}
	if err != nil {
		return fmt.Errorf("replaying the recorded groups: %w", err)
	}
	return nil
}

// width returns what finds out how wide the terminal is.
func (s *show) width() func() int {
	return func() int {
		if f, ok := s.out.(*os.File); ok {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
				return w
			}
		}
		return 80
	}
}

// introduce says who is there.
func (s *show) introduce() {
	nodes := s.cluster.Nodes()
	s.say(fmt.Sprintf("%d nodes are up, in one process, on one embedded database, with gossip, streams and a Redis between them:", len(nodes)))
	for _, n := range nodes {
		s.say(fmt.Sprintf("  %s  clients %s  operators %s", n.Name(), n.URL(), n.OperatorURL()))
	}
}

// hints prints requests that work when pasted, each to another node.
func (s *show) hints() error {
	group := transcripts.Small()
	first, epoch := group.Steps[0], int64(0)
	for _, step := range group.Steps {
		epoch = max(epoch, step.EpochAfter)
	}
	token, err := s.token(first.By)
	if err != nil {
		return err
	}
	text := base64.StdEncoding.EncodeToString([]byte("only its members could read this"))
	nodes := s.cluster.Nodes()
	url := func(i int) string { return nodes[i%len(nodes)].URL() }
	api := func(i int) string { return url(i) + "/xrpc/" + client.Prefix }
	up := "The node is up."
	if len(nodes) > 1 {
		up = fmt.Sprintf("All %d nodes are up, and any of them may be asked.", len(nodes))
	}
	fmt.Fprintf(s.out, `
%s As a member of one of the groups, in another terminal:

  curl -H 'Authorization: Bearer %s' '%sgetConvos'

  curl -H 'Authorization: Bearer %s' '%sgetMessages?convoId=%s&limit=2'

  curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{"convoId":"%s","epoch":%d,"ciphertext":{"$bytes":"%s"}}' '%ssendMessage'

As its operator:

  curl %s/health
%s
Ctrl-C stops it.
`, up, token, api(0), token, api(1), group.GroupID, token, group.GroupID, epoch, text, api(2), url(0), s.operator(group.GroupID))
	return nil
}

// operator returns what an operator may try.
func (s *show) operator(convo string) string {
	nodes, tool := s.cluster.Nodes(), operatorTool()
	if len(nodes) == 1 {
		return fmt.Sprintf("  curl %s/actors\n", nodes[0].OperatorURL())
	}
	return fmt.Sprintf(`
  export CATBIRD_NODE=%s CLUSTER_SECRET=%s
  %s nodes
  %s owner %s
  %s watch
`, nodes[0].OperatorURL(), s.admin.Reveal(), tool, tool, convo, tool)
}

// operatorTool returns how catbirdctl is called from here: it lies beside this
// program.
func operatorTool() string {
	const name = "catbirdctl"
	self, err := os.Executable()
	if err != nil {
		return name
	}
	tool := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(tool); err != nil {
		return name
	}
	here, err := os.Getwd()
	if err != nil {
		return tool
	}
	if rel, err := filepath.Rel(here, tool); err == nil && !strings.HasPrefix(rel, "..") {
		return "." + string(filepath.Separator) + rel
	}
	return tool
}

// token is good for every endpoint, for a day, and more than once.
func (s *show) token(did string) (string, error) {
	if !conversation.CheckDID(did) {
		return "", fmt.Errorf("%q is not a DID", did)
	}
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Issuer: did, ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
	})
	signed, err := t.SignedString(s.secret)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed, nil
}
