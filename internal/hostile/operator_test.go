package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"catbird/internal/app/apptest"
	"catbird/internal/config"
	"catbird/internal/obs"
	"catbird/internal/testenv"
	"catbird/operator"
	"catbird/persistence"
)

// gap is a place of the operators' API where text can stand.
type gap struct {
	endpoint string // as docs/operator-api.md heads it
	// ask returns a path with its query, and a body, that text stands in.
	ask func(text string) (target, body string)
	// wrong says what is wrong with a success; nil: there may be none.
	wrong func(text string, answer map[string]any) string
}

func inPath(format string) func(string) (string, string) {
	return func(text string) (string, string) { return fmt.Sprintf(format, url.PathEscape(text)), "" }
}

func inQuery(format string) func(string) (string, string) {
	return func(text string) (string, string) { return fmt.Sprintf(format, url.QueryEscape(text)), "" }
}

func inJSON(target, format string) func(string) (string, string) {
	return func(text string) (string, string) {
		quoted, _ := json.Marshal(text) // never fails
		return target, fmt.Sprintf(format, quoted)
	}
}

func ignored(string, map[string]any) string { return "" }

// heldByNobody is what is right for an id that could be one: there is no such
// conversation, and what comes back is the id that was asked for.
func heldByNobody(text string, answer map[string]any) string {
	if answer["convoId"] != text || answer["claim"] != nil || answer["lease"] != nil {
		return fmt.Sprintf("comes back as %v", answer)
	}
	return ""
}

// gaps are all that docs/operator-api.md names, and beside them what no endpoint
// asks for.
var gaps = []gap{
	{"GET /conversations/{convoId}", inPath("/conversations/%s"), nil},
	{"GET /cluster/owner", inQuery("/cluster/owner?convoId=%s"), heldByNobody},
	{"GET /actors", inQuery("/actors?limit=%s"), nil},
	{"GET /actors", inQuery("/actors?cursor=%s"), ignored}, // where to go on: any text is a place between ids
	{"GET /integrity", inQuery("/integrity?since=%s"), nil},
	{"PUT /flags", inJSON("/flags", `{"actorSystem":%s}`), nil},
	{"PUT /flags", inJSON("/flags", `{"rolloutPercent":%s}`), nil},
	{"PUT /flags", inJSON("/flags", `{%s:0}`), nil},
	{"PUT /flags", func(text string) (string, string) { return "/flags", text }, nil},
	{"GET /flags", inQuery("/flags?%s=x"), ignored},
	{"GET /node", inQuery("/node?x=%s"), ignored},
	{"GET /cluster", inQuery("/cluster?%s"), ignored},
	{"GET /", inPath("/%s"), nil},
	{"PUT /", inPath("/flags/%s"), nil},
}

// drains is apart: after it the node is not what it was.
var drains = gap{"POST /drain", func(text string) (string, string) { return "/drain?" + url.QueryEscape(text) + "=x", text }, ignored}

// put puts text into one gap, with the secret, and says what is wrong with what
// came of it, "" for nothing.
func (i *injector) put(g gap, text string) string {
	i.t.Helper()
	verb, _, _ := strings.Cut(g.endpoint, " ")
	target, said := g.ask(text)
	var body io.Reader
	if said != "" {
		body = strings.NewReader(said)
	}
	plain := onOneLine(text)
	status, answer := i.send(verb, "http://"+i.node.InternalAddr()+target, body, http.Header{
		"Authorization": {"Bearer " + apptest.ClusterSecret}, "X-Request-Id": {plain}, "Traceparent": {plain}, "User-Agent": {plain},
	})
	name, _ := answer["error"].(string)
	switch {
	case (status == http.StatusOK || status == http.StatusAccepted) && g.wrong != nil:
		return g.wrong(text, answer)
	case status == http.StatusBadRequest && name != "", status == http.StatusNotFound && name != "":
		return ""
	default:
		return fmt.Sprintf("answered %d %v", status, answer)
	}
}

// fill puts each of texts into a gap.
func (i *injector) fill(g gap, texts []string) {
	i.t.Helper()
	for _, text := range texts {
		if wrong := i.put(g, text); wrong != "" {
			target, body := g.ask(text)
			i.t.Errorf("%s as %.80q %.60q: %s", g.endpoint, target, body, wrong)
		}
	}
}

// standing is all that an operator can see of what is stored, and of the flags.
type standing struct {
	flags    operator.Flags
	overview persistence.Overview
	found    persistence.Integrity
	actors   []string
}

func (i *injector) standing(convo string) (s standing) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), apptest.Patience)
	defer cancel()
	o := i.node.Operator(i.t)
	var page operator.ActorsPage
	for _, look := range []func() error{
		func() (err error) { s.flags, err = o.Flags(ctx); return err },
		func() (err error) { s.overview, err = o.Conversation(ctx, convo); return err },
		func() (err error) { s.found, err = o.Integrity(ctx, ""); return err },
		func() (err error) { page, err = o.Actors(ctx, 1000, ""); return err },
	} {
		if err := look(); err != nil {
			i.t.Fatal(err)
		}
	}
	for _, a := range page.Actors {
		s.actors = append(s.actors, fmt.Sprintf("%s at %d, %d, fence %d", a.Convo, a.Epoch, a.Seq, a.Fence))
	}
	return s
}

// Text is data to the operators' API too, whoever knows the secret: it is looked
// for or refused, is no fault, changes nothing, and writes no line of the log.
func TestInjectionThroughTheOperatorsAPI(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		format, fellow := obs.FormatJSON, func(c *config.Config) { c.Cluster.Secret = apptest.ClusterSecret }
		if strings.HasSuffix(t.Name(), "postgres") {
			format, fellow = obs.FormatText, apptest.Fellow("a", testenv.Redis(t)) // leases are looked up, too
		}
		var log journal
		n := apptest.StartLogging(t, log.logger(t, format), where, apptest.Actors(true), fellow)
		clients, operators := newInjector(t, n), newInjector(t, n)
		canary := clients.fresh()
		before := clients.standing(canary)
		// The last could be ids of conversations: these have no spaces.
		texts := append(slices.Clone(evil), `'/**/OR/**/'1'='1`, `';DROP/**/TABLE/**/messages;--`, "{convo}*?[a-z]")
		for _, g := range gaps {
			operators.fill(g, texts)
		}
		if after := clients.standing(canary); !reflect.DeepEqual(before, after) {
			t.Errorf("before %+v, afterwards %+v", before, after)
		}
		clients.unharmed(canary)
		operators.fill(drains, texts)
		log.check(t, format, clients.sent)
		if strings.Contains(log.String(), apptest.ClusterSecret) {
			t.Error("the secret is in the log")
		}
	})
}

// What docs/operator-api.md describes, the test above goes through.
func TestEveryOperatorsEndpointIsTried(t *testing.T) {
	raw, err := os.ReadFile("../../docs/operator-api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, described, _ := strings.Cut(string(raw), "\n## Endpoints")
	described, _, _ = strings.Cut(described, "\n## ")
	heads := regexp.MustCompile(`(?m)^### .*$`).FindAllString(described, -1)
	endpoint := regexp.MustCompile(`[A-Z]+ /[^\s,]*`)
	found := 0
	for _, name := range endpoint.FindAllString(strings.Join(heads, "\n"), -1) {
		found++
		if name != drains.endpoint && !slices.ContainsFunc(gaps, func(g gap) bool { return g.endpoint == name }) {
			t.Errorf("%s is described and not tried", name)
		}
	}
	if found < 9 {
		t.Errorf("only %d endpoints were found", found)
	}
}
