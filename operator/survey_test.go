package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/persistence"
)

// fakeCluster is what node a knows.
type fakeCluster struct {
	view  ClusterView
	lease *Hold
	err   error // of Lease
	ask   func(ctx context.Context, address string) (Status, error)

	asked, most, now atomic.Int64
}

var statusOfA = Status{
	Name: "a", State: "ready", Version: "v", ActorsEnabled: true, RolloutPercent: 50, ActiveActors: 7, RingVersion: 9,
	Checks: Checks{Database: "healthy", Redis: "healthy", Cluster: "3 members"},
}

func (f *fakeCluster) Status(context.Context) Status { return statusOfA }

func (f *fakeCluster) Roster() ClusterView {
	v := f.view
	v.Node, v.Members = "a", append([]Member(nil), f.view.Members...)
	return v
}

func (f *fakeCluster) Place(string) (int, string) { return 5, "b" }

func (f *fakeCluster) Lease(context.Context, string) (*Hold, error) { return f.lease, f.err }

func (f *fakeCluster) Ask(ctx context.Context, address string) (Status, error) {
	f.asked.Add(1)
	now := f.now.Add(1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	defer f.now.Add(-1)
	return f.ask(ctx, address)
}

func membersOf(names ...string) []Member {
	var out []Member
	for _, n := range names {
		out = append(out, Member{Name: n, Address: n + ":8081", State: "ready"})
	}
	return out
}

func viewOf(t *testing.T, a *API) ClusterView {
	t.Helper()
	w := ask(a, "GET", "/cluster", "")
	var v ClusterView
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
		t.Fatalf("/cluster answers %d %s (%v)", w.Code, w.Body, err)
	}
	return v
}

func TestClusterAsksTheOthers(t *testing.T) {
	c := &fakeCluster{
		view: ClusterView{Members: membersOf("a", "b", "c", "d"), Ring: Ring{Partitions: 100, Version: 1<<53 - 1}},
		ask: func(_ context.Context, address string) (Status, error) {
			switch address {
			case "b:8081":
				return Status{Name: "b", ActiveActors: 3, RingVersion: 8, Checks: Checks{Redis: "unreachable"}}, nil
			case "c:8081":
				return Status{}, errors.New("gone")
			default:
				return Status{Name: "somebody else", ActiveActors: 99}, nil
			}
		},
	}
	v := viewOf(t, newAPIOf(&fakeNode{}, c, ""))
	want := ClusterView{Node: "a", Members: membersOf("a", "b", "c", "d"), Ring: c.view.Ring}
	want.Members[0].add(statusOfA)
	want.Members[1].add(Status{ActiveActors: 3, RingVersion: 8, Checks: Checks{Redis: "unreachable"}})
	if !reflect.DeepEqual(v, want) {
		t.Errorf("/cluster = %+v, want %+v", v, want)
	}
	if body := ask(newAPIOf(&fakeNode{}, c, ""), "GET", "/cluster", "").Body.String(); strings.Count(body, `"activeActors":null,"ringVersion":null,"checks":null`) != 2 {
		t.Errorf("what is not known of c and d is not null: %s", body)
	}
}

// A node that hangs costs the look at the cluster a second, whoever watches, and
// the others are told of all the same.
func TestOneNodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCluster{view: ClusterView{Members: membersOf("a", "b", "c")}}
		c.ask = func(ctx context.Context, address string) (Status, error) {
			if address == "c:8081" {
				return Status{Name: "c", ActiveActors: 3}, nil
			}
			<-ctx.Done()
			return Status{}, ctx.Err()
		}
		a := newAPIOf(&fakeNode{}, c, "")
		began := time.Now()
		var watching sync.WaitGroup
		for range 20 {
			watching.Go(func() {
				v := viewOf(t, a)
				if v.Members[1].ActiveActors != nil || v.Members[2].ActiveActors == nil {
					t.Errorf("members %+v", v.Members)
				}
			})
		}
		watching.Wait()
		if took := time.Since(began); took != surveyTimeout {
			t.Errorf("20 looks at the cluster took %v, want %v", took, surveyTimeout)
		}
		if n := c.asked.Load(); n != 2 {
			t.Errorf("20 who watch at once asked two nodes %d times", n)
		}
	})
}

func TestManyNodesAreNotAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCluster{}
		for i := range 3 * surveyAtOnce {
			c.view.Members = append(c.view.Members, Member{Name: fmt.Sprint("n", i), Address: fmt.Sprint("n", i)})
		}
		c.ask = func(_ context.Context, address string) (Status, error) {
			<-time.After(time.Millisecond)
			return Status{Name: address}, nil
		}
		for _, m := range viewOf(t, newAPIOf(&fakeNode{}, c, "")).Members {
			if m.ActiveActors == nil {
				t.Errorf("%s was not asked", m.Name)
			}
		}
		if most := c.most.Load(); most != surveyAtOnce {
			t.Errorf("%d nodes were asked at once, want %d", most, surveyAtOnce)
		}
	})
}

// Who gives up does not spoil the look that others wait for.
func TestOneWhoGivesUpSpoilsNothing(t *testing.T) {
	c := &fakeCluster{view: ClusterView{Members: membersOf("a", "b")}}
	c.ask = func(ctx context.Context, _ string) (Status, error) { return Status{Name: "b"}, ctx.Err() }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if v := newAPIOf(&fakeNode{}, c, "").survey(gone); v.Members[1].ActiveActors == nil {
		t.Error("a caller who has gone kept b from being asked")
	}
}

func TestOwner(t *testing.T) {
	held := persistence.Holder{Node: "c", Session: "s", Address: "c:8081", Fence: 4}
	for _, test := range []struct {
		name  string
		held  persistence.Holder
		lease *Hold
		err   error
		want  string
	}{
		{"all agree", held, &Hold{"c", "s", 4}, nil, `"lease":{"node":"c","session":"s","fence":4},"claim":{"node":"c","session":"s","fence":4}}`},
		{"no claim", persistence.Holder{}, &Hold{"c", "s", 4}, nil, `"lease":{"node":"c","session":"s","fence":4},"claim":null}`},
		{"no Redis", held, nil, errors.New("down"), `"lease":null,"leaseUnknown":true,"claim":{"node":"c","session":"s","fence":4}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := ask(newAPIOf(&fakeNode{held: test.held}, &fakeCluster{lease: test.lease, err: test.err}, ""), "GET", "/cluster/owner?convoId=ab", "")
			if want := `{"convoId":"ab","partition":5,"shouldOwn":"b",` + test.want; w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
				t.Errorf("answers %d\n%s, want\n%s", w.Code, w.Body, want)
			}
		})
	}
}

// What nodes show each other opens one door only, and is not the secret.
func TestStatusToken(t *testing.T) {
	a := newAPI(&fakeNode{}, "s3cret")
	token := StatusToken("s3cret")
	if strings.Contains(token, "s3cret") || token == StatusToken("other") || len(token) < 32 {
		t.Fatalf("the token %q says nothing of the secret, or too much", token)
	}
	for _, test := range []struct {
		method, target, token string
		status                int
	}{
		{"GET", "/node", token, 200},
		{"GET", "/node", StatusToken("other"), 401},
		{"GET", "/node", "", 401},
		{"GET", "/node", "s3cret", 200},
		{"GET", "/cluster", token, 401},
		{"GET", "/node/", token, 401},
		{"PUT", "/node", token, 401},
		{"PUT", "/flags", token, 401},
		{"POST", "/drain", token, 401},
	} {
		if w := ask(a, test.method, test.target, "", "Authorization", "Bearer "+test.token); w.Code != test.status {
			t.Errorf("%s %s with %q: status %d, want %d", test.method, test.target, test.token, w.Code, test.status)
		}
	}
	if StatusToken("") != "" {
		t.Error("there is a token where there is no secret")
	}
}
