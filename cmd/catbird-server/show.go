package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/term"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/internal/replay"
	"catbird/testdata/transcripts"
)

// show is what dev shows a person.
type show struct {
	out         io.Writer
	base, admin string // URLs of the two ports
	secret      []byte
}

// replay replays the recorded groups, where an earlier run has not left them in
// the data folder.
func (s *show) replay(ctx context.Context) error {
	cfg := replay.Config{
		BaseURLs: []string{s.base}, Token: client.HS256(s.secret, ""), Out: s.out, Terminal: isTerminal(s.out),
	}
	_, err := replay.Run(ctx, cfg)
	if errors.Is(err, replay.ErrExists) {
		fmt.Fprintln(s.out, "the recorded groups are in this folder already: an empty one would let them be replayed")
		return nil
	}
	if err != nil {
		return fmt.Errorf("replaying the recorded groups: %w", err)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// hints prints requests that work when pasted.
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
	url := s.base + "/xrpc/" + client.Prefix
	fmt.Fprintf(s.out, `
The node is up. As a member of one of the groups, in another terminal:

  TOKEN=%s
  curl -H "Authorization: Bearer $TOKEN" '%sgetConvos'
  curl -H "Authorization: Bearer $TOKEN" '%sgetMessages?convoId=%s&limit=2'
  curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{"convoId":"%s","epoch":%d,"ciphertext":{"$bytes":"%s"}}' '%ssendMessage'

As its operator:

  curl %s/health
  curl %s/actors

Ctrl-C stops it.
`, token, url, url, group.GroupID, group.GroupID, epoch, text, url, s.base, s.admin)
	return nil
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
