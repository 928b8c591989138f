package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/internal/testenv"
)

// Cluster measures the figures of several nodes.
func Cluster(ctx context.Context, o Options) (rows []Row, err error) {
	if o.wants("P11") {
		fmt.Fprintln(o.Log, "measuring P11")
		row, err := ringAtScale()
		if err != nil {
			return nil, fmt.Errorf("P11: %w", err)
		}
		rows = append(rows, row)
	}
	if !slices.ContainsFunc([]string{"P6", "P8", "P9", "P10"}, o.wants) {
		return rows, nil
	}
	pg, err := testenv.StartPostgresWith(statementCounter)
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer pg.Close()
	rd, err := testenv.StartRedis()
	if err != nil {
		return nil, fmt.Errorf("starting Redis: %w", err)
	}
	defer rd.Close()
	const lease = 5 * time.Second
	if o.wants("P6") {
		fmt.Fprintln(o.Log, "measuring P6")
		row, err := quietFleet(ctx, pg.URL(), rd.URL(), lease, o.Effort)
		if err != nil {
			return nil, fmt.Errorf("P6: %w", err)
		}
		rows = append(rows, row)
	}
	if !slices.ContainsFunc([]string{"P8", "P9", "P10"}, o.wants) {
		return rows, nil
	}
	// Nodes tell of hand-offs in lines of this level.
	f, err := startTestbed(ctx, pg.URL(), rd.URL(), lease, "warn,app=info,delivery=info", "a", "b", "c")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	steps := []struct {
		name    string
		measure func() (Row, error)
	}{
		{"P9", func() (Row, error) { return rollingRestart(ctx, f, 10_000) }},
		{"P10", func() (Row, error) { return killed(ctx, f, lease) }},
		{"P8", func() (Row, error) { return idleNode(ctx, f, pg.URL(), rd.URL(), 100_000) }},
	}
	for _, s := range steps {
		if !o.wants(s.name) {
			continue
		}
		fmt.Fprintf(o.Log, "measuring %s\n", s.name)
		row, err := s.measure()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// quietFleet is P6 on nodes that log no line for a request, as the other side
// of the ratio does not.
func quietFleet(ctx context.Context, databaseURL, redisURL string, lease time.Duration, e Effort) (row Row, err error) {
	f, err := startTestbed(ctx, databaseURL, redisURL, lease, "warn,app=info", "a", "b")
	if err != nil {
		return Row{}, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return throughNonOwner(ctx, f, e)
}

// makeGroups makes conversations through the fleet's API.
func makeGroups(ctx context.Context, f *testbed, prefix string, count int) ([]group, error) {
	api, err := f.api()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	n := &node{api: api}
	return n.groups(ctx, prefix, count, 10)
}

// throughNonOwner is P6: getEpoch through a node that does not own the
// conversation against the owner itself, and against a reverse proxy before it.
func throughNonOwner(ctx context.Context, f *testbed, e Effort) (Row, error) {
	all, err := makeGroups(ctx, f, "p6", 1)
	if err != nil {
		return Row{}, err
	}
	g := all[0]
	path := nsid + "getEpoch?convoId=" + g.id
	next := func(buf *bytes.Buffer, c, _ int) { writeGet(buf, path, g.tokens[c%len(g.tokens)]) }
	warm := Plan{Address: f.pick(), Connections: 1, For: 300 * time.Millisecond, Next: next}
	if _, err := warm.Run(ctx); err != nil {
		return Row{}, err
	}
	owner, other := "", ""
	for _, p := range f.Nodes() {
		n, err := activeActors(p.Internal())
		if err != nil {
			return Row{}, err
		}
		if n > 0 {
			owner = p.Clients()
		} else {
			other = p.Clients()
		}
	}
	if owner == "" || other == "" {
		return Row{}, errors.New("no node owns the conversation")
	}
	target, err := url.Parse("http://" + owner)
	if err != nil {
		return Row{}, err
	}
	rp := httputil.NewSingleHostReverseProxy(target)
	rp.Transport = &http.Transport{MaxIdleConnsPerHost: 128}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Row{}, err
	}
	proxy := &http.Server{Handler: rp, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- proxy.Serve(ln) }()
	defer func() {
		proxy.Close()
		<-done
	}()
	plan := func(addr string) side { return side{plan: Plan{Address: addr, Connections: 64, Next: next}} }
	a, b, err := alternate(ctx, e, plan(other), plan(owner))
	if err != nil {
		return Row{}, err
	}
	again, c, err := alternate(ctx, e, plan(other), plan(ln.Addr().String()))
	if err != nil {
		return Row{}, err
	}
	direct, proxied := median(a.rates)/median(b.rates), median(again.rates)/median(c.rates)
	errs := a.errors + b.errors + c.errors + again.errors
	return Row{
		Name: "P6 getEpoch through a non-owner / owner", Ratio: direct, Bar: ">= 0.5, 2 x a reverse proxy",
		Ours: fmt.Sprintf("%.0f/s", median(a.rates)), Other: fmt.Sprintf("%.0f/s", median(b.rates)),
		Reached:  direct >= .5 && proxied >= 2 && errs == 0,
		Comments: fmt.Sprintf("%.1f x a reverse proxy (%.0f/s), errors %d %s", proxied, median(c.rates), errs, a.firstErr+b.firstErr+c.firstErr),
	}, nil
}

// activeActors asks a node's operator API, and counts up to 1,000.
func activeActors(internal string) (int, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+internal+"/actors?limit=1000", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		return 0, err
	}
	return strings.Count(b.String(), `"convoId"`), nil
}

// touch reads the epoch of every group once, which loads it where it belongs.
func touch(ctx context.Context, f *testbed, ids []string, tok string) error {
	const connections = 64
	var wg sync.WaitGroup
	errs := make([]error, connections)
	for c := range connections {
		wg.Go(func() {
			h := &http.Client{Transport: &http.Transport{}}
			defer h.CloseIdleConnections()
			for i := c; i < len(ids) && errs[c] == nil; i += connections {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.pick()+nsid+"getEpoch?convoId="+ids[i], nil)
				if err != nil {
					errs[c] = err
					return
				}
				req.Header.Set("Authorization", "Bearer "+tok)
				res, err := h.Do(req)
				if err != nil {
					errs[c] = err
					return
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					errs[c] = fmt.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// load sends small messages to groups in turn, over a number of connections,
// until stop is called, which returns what became of each.
func (f *testbed) load(ctx context.Context, groups []group, connections int) (stop func() []event, err error) {
	bodies := make([][]byte, len(groups))
	for i, g := range groups {
		if bodies[i], err = sendBody(g.id, 256); err != nil {
			return nil, err
		}
	}
	next := func(buf *bytes.Buffer, c, n int) {
		i := (c + n*connections) % len(groups)
		writePost(buf, nsid+"sendMessage", groups[i].tokens[n%10], bodies[i])
	}
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan []event, 1)
	go func() { result <- f.watched(ctx, connections, next) }()
	return func() []event {
		cancel()
		return <-result
	}, nil
}

// rollingRestart is P9: the nodes restarted one after another under load, with
// active conversations in memory.
func rollingRestart(ctx context.Context, f *testbed, active int) (Row, error) {
	some, err := makeGroups(ctx, f, "p9", 200)
	if err != nil {
		return Row{}, err
	}
	all, err := bareGroups(ctx, f, "p9x", active-len(some))
	if err != nil {
		return Row{}, err
	}
	if err := touch(ctx, f, all.ids, all.token); err != nil {
		return Row{}, fmt.Errorf("loading %d conversations: %w", active, err)
	}
	stop, err := f.load(ctx, some, 16)
	if err != nil {
		return Row{}, err
	}
	pause(ctx, 8*time.Second)
	began := time.Now()
	slowest, moved := time.Duration(0), 0
	for _, name := range f.names {
		p, err := f.stop(ctx, name)
		if err != nil {
			return Row{}, errors.Join(err, fmt.Errorf("after %d requests", len(stop())))
		}
		slowest, moved = max(slowest, p.Handed().Took()), max(moved, p.Handed().Moved)
		if err := f.start(ctx, name); err != nil {
			return Row{}, err
		}
		pause(ctx, time.Second)
	}
	ended := time.Now()
	pause(ctx, 2*time.Second)
	events := stop()
	calm, rolling, failed, first := []time.Duration{}, []time.Duration{}, 0, ""
	for _, e := range events {
		switch {
		case e.err != "":
			failed++
			if first == "" {
				first = e.err
			}
		case e.at.Before(began):
			calm = append(calm, e.took)
		case e.at.Before(ended):
			rolling = append(rolling, e.took)
		}
	}
	slices.Sort(calm)
	slices.Sort(rolling)
	before, during := Load{Latencies: calm}.Quantile(.99), Load{Latencies: rolling}.Quantile(.99)
	ratio := float64(during) / float64(before)
	return Row{
		Name: "P9 rolling restart of 3 nodes, p99 during / calm", Ratio: ratio, Bar: "no failed request, < 5, hand-off < 1 s",
		Ours: fmt.Sprintf("p99 %.1f ms", during.Seconds()*1e3), Other: fmt.Sprintf("p99 %.1f ms", before.Seconds()*1e3),
		Reached: failed == 0 && ratio < 5 && slowest < time.Second,
		Comments: fmt.Sprintf("%d active, %d requests, %d failed %s; slowest hand-off of one node %v (at most %d moved)",
			active, len(events), failed, first, slowest.Round(time.Millisecond), moved),
	}, nil
}

// killed is P10: a node killed under load, and the last request that failed or
// was slow after it.
func killed(ctx context.Context, f *testbed, lease time.Duration) (Row, error) {
	some, err := makeGroups(ctx, f, "p10", 200)
	if err != nil {
		return Row{}, err
	}
	stop, err := f.load(ctx, some, 64)
	if err != nil {
		return Row{}, err
	}
	pause(ctx, 5*time.Second)
	at := time.Now()
	if err := f.kill("b"); err != nil {
		return Row{}, err
	}
	pause(ctx, lease+8*time.Second)
	events := stop()
	if err := f.start(ctx, "b"); err != nil {
		return Row{}, err
	}
	last, failed, unanswered := time.Duration(0), 0, 0
	for _, e := range events {
		if e.at.Before(at) {
			continue
		}
		if e.err != "" {
			failed++
		}
		if e.err != "" || e.took > time.Second {
			last = max(last, e.at.Sub(at))
			unanswered++
		}
	}
	return Row{
		Name: "P10 last failed or slow (1 s) request after SIGKILL", Ratio: last.Seconds() / lease.Seconds(),
		Bar: "within LEASE_TTL + 1 s", Ours: last.Round(time.Millisecond).String(), Other: lease.String(),
		Reached:  last <= lease+time.Second,
		Comments: fmt.Sprintf("%d requests, %d failed, %d failed or slow", len(events), failed, unanswered),
	}, nil
}

// bare are conversations of one member, made in the database itself.
type bare struct {
	ids   []string
	token string
}

func bareGroups(ctx context.Context, f *testbed, prefix string, count int) (bare, error) {
	did := "did:plc:" + prefix + "aaaaaaaaaaaaaaaaaaaa"
	tok, err := token(did)
	if err != nil {
		return bare{}, err
	}
	b := bare{token: tok, ids: make([]string, count)}
	for i := range b.ids {
		b.ids[i] = fmt.Sprintf("%x", fmt.Sprintf("%s-%07d", prefix, i))
	}
	conn, err := pgx.Connect(ctx, f.database)
	if err != nil {
		return bare{}, err
	}
	defer conn.Close(ctx)
	for chunk := range slices.Chunk(b.ids, 5000) {
		if _, err := conn.Exec(ctx, `WITH c AS (INSERT INTO conversations (id, creator_did, current_epoch, created_at, updated_at)
				SELECT id, $2, 0, now(), now() FROM unnest($1::text[]) id RETURNING id)
			INSERT INTO members (convo_id, member_did, joined_at, unread_count) SELECT id, $2, now(), 0 FROM c`, chunk, did); err != nil {
			return bare{}, fmt.Errorf("making conversations: %w", err)
		}
	}
	return b, nil
}
