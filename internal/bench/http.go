package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

const nsid = "/xrpc/blue.catbird.mls."

// Effort is how long and how often each side of a ratio is measured.
type Effort struct {
	Rounds int
	For    time.Duration
}

// side is one of the two that are compared.
type side struct {
	before func(ctx context.Context) error // nil: nothing
	plan   Plan
}

// sums is what all rounds of a side gave.
type sums struct {
	rates, p99 []float64
	errors     int
	firstErr   string
}

// alternate runs a and b in turn, so that what else the machine does hits both,
// after one short round of each that does not count.
func alternate(ctx context.Context, e Effort, a, b side) (ra, rb sums, err error) {
	for round := range e.Rounds + 1 {
		for i, s := range []side{a, b} {
			if s.before != nil {
				if err := s.before(ctx); err != nil {
					return ra, rb, err
				}
			}
			s.plan.For = e.For
			if round == 0 {
				s.plan.For = e.For / 3
			}
			l, err := s.plan.Run(ctx)
			if err != nil {
				return ra, rb, err
			}
			into := &ra
			if i == 1 {
				into = &rb
			}
			into.errors += l.Errors
			if into.firstErr == "" {
				into.firstErr = l.FirstErr
			}
			if round > 0 {
				into.rates = append(into.rates, l.PerSecond())
				into.p99 = append(into.p99, float64(l.Quantile(.99))/1e6)
			}
		}
	}
	return ra, rb, nil
}

func sendBody(convo string, size int) ([]byte, error) {
	return json.Marshal(map[string]any{
		"convoId": convo, "epoch": 0,
		"ciphertext": map[string]string{"$bytes": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5a}, size))},
	})
}

// sends is a plan that sends 1 KiB messages to all of groups in turn.
func sends(address string, connections int, groups []group) (Plan, error) {
	bodies := make([][]byte, len(groups))
	for i, g := range groups {
		b, err := sendBody(g.id, 1024)
		if err != nil {
			return Plan{}, err
		}
		bodies[i] = b
	}
	return Plan{Address: address, Connections: connections, Next: func(buf *bytes.Buffer, c, n int) {
		i := (c + n*connections) % len(groups)
		g := &groups[i]
		writePost(buf, nsid+"sendMessage", g.tokens[n%len(g.tokens)], bodies[i])
	}}, nil
}

// actorsAgainstDirect is P1 and P2: sendMessage with actors on against off.
func actorsAgainstDirect(ctx context.Context, n *node, e Effort, name string, groups []group, bar float64, latency bool) (Row, error) {
	p, err := sends(n.app.Addr(), 64, groups)
	if err != nil {
		return Row{}, err
	}
	on := side{func(ctx context.Context) error { return n.actors(ctx, true) }, p}
	off := side{func(ctx context.Context) error { return n.actors(ctx, false) }, p}
	a, b, err := alternate(ctx, e, on, off)
	if err != nil {
		return Row{}, fmt.Errorf("%s: %w", name, err)
	}
	r := Row{
		Name: name, Ratio: median(a.rates) / median(b.rates), Bar: fmt.Sprintf(">= %.0f", bar),
		Ours:  fmt.Sprintf("%.0f/s, p99 %.1f ms", median(a.rates), median(a.p99)),
		Other: fmt.Sprintf("%.0f/s, p99 %.1f ms", median(b.rates), median(b.p99)),
	}
	r.Reached = r.Ratio >= bar && a.errors == 0
	r.Comments = fmt.Sprintf("errors %d on, %d off", a.errors, b.errors)
	if latency {
		r.Reached = r.Reached && median(a.p99) <= median(b.p99)
		r.Bar += ", p99 no higher"
	}
	if a.firstErr != "" || b.firstErr != "" {
		r.Comments += "; first: " + a.firstErr + b.firstErr
	}
	return r, nil
}

// epochOverHTTP is P5: getEpoch against an empty gin handler that returns the
// same bytes.
func epochOverHTTP(ctx context.Context, n *node, e Effort, g group) (Row, error) {
	if err := n.actors(ctx, true); err != nil {
		return Row{}, err
	}
	path := nsid + "getEpoch?convoId=" + g.id
	answer, err := json.Marshal(map[string]any{"convoId": g.id, "currentEpoch": 0})
	if err != nil {
		return Row{}, err
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET(nsid+"getEpoch", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", answer) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Row{}, err
	}
	empty := &http.Server{Handler: engine, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- empty.Serve(ln) }()
	defer func() {
		empty.Close()
		<-done
	}()
	next := func(buf *bytes.Buffer, c, _ int) { writeGet(buf, path, g.tokens[c%len(g.tokens)]) }
	a, b, err := alternate(ctx, e,
		side{plan: Plan{Address: n.app.Addr(), Connections: 64, Next: next}},
		side{plan: Plan{Address: ln.Addr().String(), Connections: 64, Next: next}})
	if err != nil {
		return Row{}, fmt.Errorf("P5: %w", err)
	}
	r := Row{
		Name: "P5 getEpoch over HTTP / empty gin handler", Ratio: median(a.rates) / median(b.rates), Bar: ">= 0.8",
		Ours: fmt.Sprintf("%.0f/s", median(a.rates)), Other: fmt.Sprintf("%.0f/s", median(b.rates)),
		Comments: fmt.Sprintf("errors %d; %s", a.errors+b.errors, a.firstErr),
	}
	r.Reached = r.Ratio >= .8 && a.errors+b.errors == 0
	return r, nil
}
