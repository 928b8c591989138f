package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// manuals hold commands for operators to paste.
var manuals = []string{
	"../../README.md", "../../docs/operator-api.md", "../../docs/operations.md", "../../docs/kubernetes.md", "../../docs/migration.md",
	"../../docs/troubleshooting.md", "../../docs/runbooks.md",
}

var (
	// quoted is code within a line; an indented line is code too.
	quoted = regexp.MustCompile("`([^`\n]+)`")
	// command is a call of this tool, up to where the shell goes on.
	command = regexp.MustCompile(`(?:^|[\s/(])catbirdctl((?: +(?:"[^"]*"|'[^']*'|[^\s|;&>#"')]+))+)`)
	word    = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
)

// commands returns the arguments of every call of the tool in a text.
func commands(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		pieces := []string{line}
		if !strings.HasPrefix(line, "    ") {
			pieces = nil
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				pieces = append(pieces, m[1])
			}
		}
		for _, piece := range pieces {
			for _, m := range command.FindAllStringSubmatch(piece, -1) {
				var args []string
				for _, w := range word.FindAllString(m[1], -1) {
					args = append(args, strings.Trim(w, `"'`))
				}
				all = append(all, args)
			}
		}
	}
	return all
}

// What the manuals tell operators to type, the tool understands.
func TestManualsGiveCommandsThatExist(t *testing.T) {
	t.Setenv("JWT_SECRET", "")
	n := 0
	for _, name := range manuals {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range commands(string(text)) {
			if args[0] == "COMMAND" || strings.HasPrefix(args[0], "/") { // any command; the tool as a file
				continue
			}
			n++
			var c cli
			parser, err := kong.New(&c, kong.Exit(func(int) {}), kong.Vars{"version": "test"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args); err != nil && !isGroup(args) {
				t.Errorf("%s: catbirdctl %s: %v", name, strings.Join(args, " "), err)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d commands were found", n)
	}
}

// isGroup reports whether args name commands without saying what is to be done:
// a manual may speak of them.
func isGroup(args []string) bool {
	switch strings.Join(args, " ") {
	case "flags", "drain", "convo", "owner", "smoke":
		return true
	default:
		return false
	}
}
