package archtest

import (
	"slices"
	"strings"
	"testing"
)

// ban says what a package must not import, and why. Patterns name packages of
// this module without its name, and others by their path; a trailing /... stands
// for what is below too.
type ban struct {
	in   string
	from []string
	why  string
}

var (
	parts   = []string{"actor/...", "cluster/...", "delivery/...", "router/...", "operator/...", "peer/..."}
	stores  = []string{"persistence/postgres/...", "persistence/sqlite/..."}
	drivers = []string{"github.com/jackc/pgx/...", "database/sql", "modernc.org/sqlite/...", "github.com/redis/..."}
	http    = []string{"net/http/...", "github.com/gin-gonic/gin/..."}
)

func without(list []string, gone ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(gone, s) })
}

var bans = []ban{
	{
		"conversation", slices.Concat(parts, stores, drivers, http, []string{"persistence", "internal/...", "log/slog", "context", "os", "net"}),
		"the domain decides and does nothing: no input, no output, no waiting",
	},
	{
		"persistence", slices.Concat(parts, stores, drivers, http),
		"the contract of the store knows neither who asks nor who answers",
	},
	{
		"persistence/...", slices.Concat(parts, http),
		"a store stores what was decided, and does not know for whom",
	},
	{
		"actor", slices.Concat(without(parts, "actor/..."), stores, drivers, http),
		"an actor handles requests one after another, wherever they come from and whoever else there is",
	},
	{
		"cluster", slices.Concat(without(parts, "cluster/..."), stores, []string{"conversation", "github.com/gin-gonic/gin/...", "github.com/jackc/pgx/..."}),
		"who is alive and who owns what is the same question for anything that has a name",
	},
	{
		"delivery", slices.Concat([]string{"router/...", "operator/..."}, stores, drivers, http),
		"where a request runs does not depend on how it came or on what stores it",
	},
	{
		"peer", slices.Concat([]string{"router/...", "operator/...", "actor/..."}, stores, drivers),
		"what travels between nodes is bytes with an address",
	},
	{
		"router/...", slices.Concat([]string{"actor/...", "cluster/...", "delivery/...", "peer/...", "operator/..."}, stores, drivers),
		"the clients' API asks for what it needs by interfaces of its own",
	},
	{
		"operator", slices.Concat([]string{"actor/...", "cluster/...", "delivery/...", "peer/...", "router/..."}, stores, drivers),
		"the operators' API asks for what it needs by interfaces of its own",
	},
	{
		"internal/auth", slices.Concat(parts, stores, []string{"persistence", "github.com/gin-gonic/gin/...", "github.com/jackc/pgx/..."}),
		"who a caller is does not depend on what they ask for",
	},
	{
		"internal/config", slices.Concat(parts, stores, drivers, http),
		"settings do not know what is done with them",
	},
	{
		"internal/obs", slices.Concat(parts, stores, drivers, []string{"conversation", "persistence"}),
		"every part may use it, so it may know none",
	},
	{
		"internal/client", slices.Concat(parts, stores, drivers, []string{"persistence", "internal/app"}),
		"a client knows the API and nothing behind it",
	},
	{
		"internal/replay", slices.Concat(parts, stores, drivers, []string{"persistence", "internal/app"}),
		"what it checks, it sees through the API alone",
	},
	{
		"internal/load", slices.Concat(parts, stores, drivers, []string{"persistence", "internal/app"}),
		"what it measures and checks, it sees through the API alone",
	},
	{
		"internal/smoke", slices.Concat(parts, stores, drivers, []string{"persistence", "internal/app"}),
		"a deployment is tried out as its clients see it",
	},
	{
		"internal/dev", slices.Concat(without(parts, "operator/..."), stores, drivers, []string{"persistence"}),
		"it puts whole nodes together, and looks at them through their ports",
	},
	{
		"internal/fleet", slices.Concat(parts, stores, drivers, http, []string{"conversation", "persistence", "internal/app", "internal/client", "internal/testenv"}),
		"it starts and ends processes, whatever they are asked",
	},
	{
		"internal/history", slices.Concat(parts, stores, drivers, http, []string{"persistence", "internal/app", "internal/client"}),
		"what clients saw is judged without asking the service or its database",
	},
	{
		"internal/broken", slices.Concat(parts, stores, drivers, http, []string{"conversation", "persistence", "log/slog", "context", "os"}),
		"a switch does not know what it switches",
	},
	{
		"internal/chaos", slices.Concat(parts, stores, []string{"persistence", "internal/app", "github.com/redis/..."}),
		"what it judges, it sees through ports and tables",
	},
	{
		"internal/rehearsal", slices.Concat(parts, stores, drivers, []string{"conversation", "persistence", "internal/app"}),
		"an orchestrator sees processes, ports and probes",
	},
	{
		"internal/tools/model", slices.Concat(parts, stores, drivers, http, []string{"conversation", "persistence", "internal/app", "internal/testenv"}),
		"a model is checked against itself; that the code is what it says is for tests",
	},
	{
		"internal/tools/apt", slices.Concat(parts, stores, drivers, http, []string{"conversation", "persistence", "internal/app", "internal/testenv"}),
		"installing a package does not depend on what it is for",
	},
	{
		"internal/testenv", slices.Concat(parts, stores, []string{"conversation", "persistence", "internal/app"}),
		"it starts servers that exist without us",
	},
	{
		"cmd/...", slices.Concat(parts, stores, drivers),
		"a command turns flags into settings; internal/app builds the parts",
	},
}

// exceptions are imports that a ban above would catch. Each says why.
var exceptions = map[string]string{
	"cmd/catbirdctl operator": "it speaks the operator API, whose types these are",
}

// onlyBy says who alone may import a package, beside its own folder.
var onlyBy = []struct {
	what string
	by   []string
	why  string
}{
	{"internal/app", []string{"cmd/...", "internal/app/...", "internal/bench/...", "internal/dev"}, "it knows every part, so whoever knows it does too"},
	{"internal/testenv", []string{"internal/tools/...", "internal/bench/...", "internal/chaos", "internal/rehearsal", "internal/app/apptest/..."}, "servers for tests do not belong into a program"},
	{"github.com/jackc/pgx/...", []string{"persistence/postgres/...", "internal/testenv/...", "internal/bench/...", "internal/chaos"}, "SQL of PostgreSQL has one home"},
	{"modernc.org/sqlite/...", []string{"persistence/sqlite/..."}, "SQL of SQLite has one home"},
	{"github.com/gin-gonic/gin/...", []string{"router/...", "internal/bench/..."}, "one framework in one place"},
	{"github.com/alecthomas/kong/...", []string{"cmd/...", "internal/config/...", "internal/tools/..."}, "flags are read in one place"},
	{"go.opentelemetry.io/otel/sdk/...", []string{"internal/obs/..."}, "spans leave the process in one place"},
	{"go.opentelemetry.io/otel/exporters/...", []string{"internal/obs/..."}, "spans leave the process in one place"},
	{"github.com/anishathalye/porcupine/...", []string{"internal/history"}, "what is linearizable is judged in one place"},
	{"github.com/hashicorp/memberlist/...", []string{"cluster/..."}, "gossip has one home"},
	{"github.com/buraksezer/consistent/...", []string{"cluster/..."}, "the ring has one home"},
}

// matches reports whether the import p, of this module or not, is what pattern
// names.
func matches(pattern, p string) bool {
	if own, ok := strings.CutPrefix(p, module+"/"); ok {
		p = own
	}
	below, all := strings.CutSuffix(pattern, "/...")
	return p == below || (all && strings.HasPrefix(p, below+"/"))
}

func TestImports(t *testing.T) {
	used := map[string]bool{}
	for _, f := range source(t) {
		if f.test || strings.HasPrefix(f.dir, "internal/zdeps") {
			continue // tests put parts together as they need them
		}
		for _, p := range f.imports(t) {
			for _, b := range bans {
				if !matches(b.in, f.dir) {
					continue
				}
				for _, pattern := range b.from {
					if !matches(pattern, p) {
						continue
					}
					key := f.dir + " " + strings.TrimPrefix(p, module+"/")
					if exceptions[key] != "" {
						used[key] = true
						continue
					}
					t.Errorf("%s imports %s: %s", f.path, p, b.why)
				}
			}
			for _, o := range onlyBy {
				if matches(o.what, p) && !matches(o.what, module+"/"+f.dir) && !anyMatch(o.by, f.dir) {
					t.Errorf("%s imports %s, which only %s may: %s", f.path, p, strings.Join(o.by, ", "), o.why)
				}
			}
		}
	}
	for key := range exceptions {
		if !used[key] {
			t.Errorf("the exception %q is not needed any more", key)
		}
	}
}

func anyMatch(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, p) })
}

// The domain is pure: a package of the standard library that is not here either
// does something or has not been thought about.
func TestDomainImportsOnlyTheStandardLibrary(t *testing.T) {
	for _, f := range source(t) {
		if f.dir != "conversation" || f.test {
			continue
		}
		for _, p := range f.imports(t) {
			if first, _, _ := strings.Cut(p, "/"); first == module || strings.Contains(first, ".") {
				t.Errorf("%s imports %s, which is not of the standard library", f.path, p)
			}
		}
	}
}

// A ban of a package that is not there says nothing.
func TestBansNameWhatExists(t *testing.T) {
	dirs := map[string]bool{}
	for _, f := range source(t) {
		dirs[f.dir] = true
	}
	exists := func(pattern string) bool {
		for dir := range dirs {
			if matches(pattern, dir) {
				return true
			}
		}
		return false
	}
	for _, b := range bans {
		for _, pattern := range append([]string{b.in}, b.from...) {
			if first, _, _ := strings.Cut(pattern, "/"); !strings.Contains(first, ".") && !standard[first] && !exists(pattern) {
				t.Errorf("a rule names %s, which does not exist", pattern)
			}
		}
	}
}

// standard are the roots of the standard library's packages that rules name.
var standard = map[string]bool{"net": true, "database": true, "log": true, "context": true, "os": true}
