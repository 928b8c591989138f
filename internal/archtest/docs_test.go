package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"catbird/internal/config"
)

// manuals are what operators work by.
var manuals = []string{"docs/operations.md", "docs/kubernetes.md", "docs/migration.md", "docs/troubleshooting.md", runbooksFile}

// anchorsOf returns the anchors of the headings of a Markdown text.
func anchorsOf(text string) map[string]bool {
	out := map[string]bool{}
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		title := strings.TrimLeft(line, "#")
		if code || title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		out[strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			default:
				return -1
			}
		}, strings.TrimSpace(title))] = true
	}
	return out
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestManualsLinkToWhatExists(t *testing.T) {
	for _, name := range append([]string{"README.md"}, manuals...) {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if anchor != "" && !anchorsOf(read(t, target))[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], target)
			}
		}
	}
}

// variables returns those that a server reads.
func variables() map[string]bool {
	out := map[string]bool{}
	for _, name := range config.Vars() {
		out[name] = true
	}
	return out
}

// alien are names in the manuals that look like variables of ours and are those
// of others, or columns of tables.
var alien = map[string]string{
	"CATBIRD_NODE": "of catbirdctl",
}

var (
	variable = regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	code     = regexp.MustCompile("`([^`\n]+)`")
	// series is what may be a metric of ours: a word with the first part of one.
	series = regexp.MustCompile(`\b[a-z]+(?:_[a-z0-9]+)+\b`)
	// recorded is what rules compute.
	recorded = regexp.MustCompile(`\bcatbird:[a-z0-9_:]+`)
)

func TestManualsNameVariablesThatExist(t *testing.T) {
	known := variables()
	for _, name := range manuals {
		for _, v := range variable.FindAllString(read(t, name), -1) {
			if !known[v] && alien[v] == "" {
				t.Errorf("%s names %s, which no server reads", name, v)
			}
		}
	}
}

func TestManualsNameMetricsThatExist(t *testing.T) {
	exposed := metrics(t)
	kinds := map[string]bool{} // such as actor, http
	for m := range exposed {
		kind, _, _ := strings.Cut(m, "_")
		kinds[kind] = true
	}
	computed := map[string]bool{}
	for _, r := range rules(t) {
		computed[r.Record] = true
	}
	for _, name := range manuals {
		text := read(t, name)
		for _, r := range recorded.FindAllString(text, -1) {
			if !computed[r] {
				t.Errorf("%s names %s, which no rule computes", name, r)
			}
		}
		for _, quoted := range append(code.FindAllStringSubmatch(text, -1), blocks(text)...) {
			for _, s := range series.FindAllString(recorded.ReplaceAllString(quoted[1], ""), -1) {
				kind, _, _ := strings.Cut(s, "_")
				if kinds[kind] && exposed[s] == "" && metricOf(exposed, s) == "" && !notMetrics[s] {
					t.Errorf("%s names %s, which is no metric", name, s)
				}
			}
		}
	}
}

// notMetrics begin as metrics do and are none.
var notMetrics = map[string]bool{
	"session_over": true, "http_code": true, "catbird_restored": true, "catbird_rehearsal": true, "catbird_v": true,
}

// blocks returns the lines that are indented as code.
func blocks(text string) (out [][]string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			out = append(out, []string{line, line})
		}
	}
	return out
}

// served is a call of the server's program: its command, or a flag behind it.
var served = regexp.MustCompile(`catbird-server ((?:[a-z]+|--[a-z-]+)(?: [^\s` + "`" + `|;#]+)*)`)

// Flags that are not settings, and commands.
var (
	serverFlags    = map[string]bool{"help": true, "version": true, "once": true, "nodes": true, "data": true, "timeout": true}
	serverCommands = map[string]bool{"serve": true, "dev": true, "migrate": true, "version": true}
)

// The tool's own commands are held to in cmd/catbirdctl.
func TestManualsCallTheServerAsItUnderstands(t *testing.T) {
	known, n := variables(), 0
	for _, name := range append([]string{"README.md", settingsFile, unitFile}, manuals...) {
		text := read(t, name)
		calls := append(code.FindAllStringSubmatch(text, -1), blocks(text)...)
		if name == settingsFile || name == unitFile {
			calls = [][]string{{text, text}}
		}
		for _, call := range calls {
			for _, m := range served.FindAllStringSubmatch(call[1], -1) {
				if strings.HasPrefix(m[1], "catbirdctl") { // both as files
					continue
				}
				n++
				for i, w := range strings.Fields(m[1]) {
					flag, is := strings.CutPrefix(strings.TrimSuffix(w, "."), "--")
					flag, _, _ = strings.Cut(flag, "=")
					switch {
					case is && !serverFlags[flag] && !known[strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))]:
						t.Errorf("%s: catbird-server knows no --%s", name, flag)
					case i == 0 && !is && !serverCommands[w]:
						t.Errorf("%s: catbird-server knows no command %s", name, w)
					}
				}
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d calls were found", n)
	}
}

var (
	figureName = regexp.MustCompile(`\bP\d+\b`)
	number     = regexp.MustCompile(`\d[\d,.]*\d|\d`)
)

// What operators size by is what was measured: a number that names its figure
// stands in that figure's row, and the figure is one that can be measured again.
func TestSizesAreThoseThatWereMeasured(t *testing.T) {
	measured := map[string]string{}
	for line := range strings.Lines(read(t, "docs/performance.md")) {
		if name := figureName.FindString(line); name != "" && strings.HasPrefix(line, "| "+name+" ") {
			measured[name] = line
		}
	}
	rows := 0
	for line := range strings.Lines(read(t, "docs/operations.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || !figureName.MatchString(cells[3]) {
			continue
		}
		rows++
		var source string
		for _, name := range figureName.FindAllString(cells[3], -1) {
			if measured[name] == "" {
				t.Errorf("performance.md has no %s, of which operations.md says %s", name, strings.TrimSpace(cells[1]))
			}
			source += measured[name]
		}
		value, _, _ := strings.Cut(cells[2], ":") // what is made of it stands behind
		for _, n := range number.FindAllString(value, -1) {
			if !slices.Contains(number.FindAllString(source, -1), n) {
				t.Errorf("operations.md says %s of %q, which is not in the rows of %s", n, strings.TrimSpace(cells[1]), strings.TrimSpace(cells[3]))
			}
		}
	}
	if rows < 9 {
		t.Errorf("%d rows name a figure", rows)
	}
}
