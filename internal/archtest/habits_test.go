package archtest

import (
	"go/token"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	type pkg struct {
		name string
		docs []string
	}
	packages := map[string]*pkg{}
	for _, f := range source(t) {
		if f.test {
			continue
		}
		p := packages[f.dir]
		if p == nil {
			p = &pkg{name: f.ast.Name.Name}
			packages[f.dir] = p
		}
		if f.ast.Doc != nil {
			p.docs = append(p.docs, f.ast.Doc.Text())
		}
	}
	for dir, p := range packages {
		prefix := "Package " + p.name + " "
		if p.name == "main" {
			prefix = "Command "
		}
		switch {
		case len(p.docs) == 0:
			t.Errorf("package %s has no comment that says what it is for", dir)
		case len(p.docs) > 1:
			t.Errorf("package %s has %d comments that say what it is for", dir, len(p.docs))
		case !strings.HasPrefix(p.docs[0], prefix):
			t.Errorf("the comment of package %s does not begin with %q", dir, prefix)
		}
	}
}

// forbidden are uses of other packages that do not belong here.
var forbidden = []struct {
	pkg   string
	names []string
	where func(f *file) bool
	why   string
}{
	{
		"time",
		[]string{"Sleep"},
		func(f *file) bool { return !f.test || !f.has("testing/synctest") },
		"wait for an event or until a context ends; in tests of time, use testing/synctest",
	},
	{
		"github.com/prometheus/client_golang/prometheus",
		[]string{"MustRegister", "Register", "Unregister", "DefaultRegisterer", "DefaultGatherer"},
		everywhere,
		"metrics are registered with an injected Registerer: several nodes live in one process in tests",
	},
	{
		"github.com/prometheus/client_golang/prometheus/promauto",
		[]string{
			"NewCounter", "NewCounterVec", "NewCounterFunc", "NewGauge", "NewGaugeVec", "NewGaugeFunc",
			"NewHistogram", "NewHistogramVec", "NewSummary", "NewSummaryVec", "NewUntypedFunc",
		},
		everywhere,
		"metrics are registered with an injected Registerer: promauto.With(reg)",
	},
	{
		"go.opentelemetry.io/otel",
		[]string{"Tracer", "GetTracerProvider", "SetTracerProvider", "GetTextMapPropagator", "SetTextMapPropagator", "SetErrorHandler"},
		everywhere,
		"tracers come from an injected TracerProvider: several nodes live in one process in tests",
	},
	{
		"os",
		[]string{"Exit"},
		func(f *file) bool { return f.ast.Name.Name != "main" && !f.test },
		"only a command ends the process",
	},
	{
		"log",
		[]string{"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Default"},
		everywhere,
		"log/slog is what is used here",
	},
	{
		"net/http",
		[]string{"DefaultServeMux", "HandleFunc", "Handle", "ListenAndServe"},
		everywhere,
		"nothing is served from global state",
	},
}

func everywhere(*file) bool { return true }

func TestForbiddenCalls(t *testing.T) {
	for _, f := range source(t) {
		for _, rule := range forbidden {
			if !rule.where(f) {
				continue
			}
			f.uses(t, rule.pkg, func(name string, at token.Pos) {
				for _, bad := range rule.names {
					if name == bad {
						t.Errorf("%s: %s.%s: %s", fileSet.Position(at), rule.pkg, name, rule.why)
					}
				}
			})
		}
	}
}

// Files that have grown beyond this are to be split by what they are about; tables
// of tests may be a little longer.
const (
	maxLines     = 500
	maxTestLines = 600
)

func TestFilesAreShort(t *testing.T) {
	for _, f := range source(t) {
		most := maxLines
		if f.test {
			most = maxTestLines
		}
		if lines := fileSet.Position(f.ast.End()).Line; lines > most {
			t.Errorf("%s has %d lines, more than %d", f.path, lines, most)
		}
	}
}

// Whoever starts a goroutine stops it: the tests of every package see to that.
func TestEveryPackageLooksForLeaks(t *testing.T) {
	looks := map[string]bool{}
	for _, f := range source(t) {
		if f.test {
			looks[f.dir] = looks[f.dir] || f.has("go.uber.org/goleak")
		}
	}
	for dir, ok := range looks {
		if !ok {
			t.Errorf("the tests of %s do not use goleak", dir)
		}
	}
}
