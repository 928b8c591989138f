package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completions returns what the tool offers for the last of words.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	code, out, stderr := tell(t, append([]string{completeWord}, words...)...)
	if code != exitOK || stderr != "" {
		t.Errorf("%q: exit code %d, said %q", words, code, stderr)
	}
	var texts []string
	for line := range strings.Lines(out) {
		text, help, tab := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !tab || strings.Contains(help, "\t") {
			t.Errorf("%q: the line %q is not a word, a tab and a text", words, line)
		}
		texts = append(texts, text)
	}
	return texts
}

func TestCompletions(t *testing.T) {
	for _, test := range []struct {
		words string // by spaces; a last one that is empty is the one to begin
		want  string
	}{
		{"", "nodes ring owner watch convo actors flags drain check smoke completion"},
		{"n", "nodes"},
		{"c", "convo check completion"},
		{"x", ""},
		{"flags ", "get set"},
		{"--json flags s", "set"},
		{"flags set --a", "--actor-system --all"},
		{"flags set --actor-system=", "--actor-system=true --actor-system=false"},
		{"flags set --actor-system=t", "--actor-system=true"},
		{"flags set --actor-system = ", "true false"}, // as bash cuts it
		{"flags set --actor-system = f", "false"},
		{"--node http : //127.0.0.1 : 8081 fl", "flags"},
		{"--node fl", ""},
		{"--node x fl", "flags"},
		{"--node=x fl", "flags"},
		{"--nonsense=", ""},
		{"completion ", "bash zsh fish"},
		{"completion zsh ", ""},
		{"owner ", ""},
		{"actors --li", "--limit"},
		{"check --database ", ""},
		{"drain --node http://127.0.0.1:1 ", ""}, // nobody there to ask for names
	} {
		t.Run(test.words, func(t *testing.T) {
			if got := strings.Join(completions(t, strings.Split(test.words, " ")...), " "); got != test.want {
				t.Errorf("%q may become %q, want %q", test.words, got, test.want)
			}
		})
	}
	if got := completions(t); len(got) != 11 {
		t.Errorf("without a word: %q", got)
	}
}

// Every command that people are to use is offered.
func TestCompletionKnowsAllFlags(t *testing.T) {
	for _, flag := range []string{"--help", "--json", "--node", "--secret", "--timeout", "--version"} {
		if !slices.Contains(completions(t, "nodes", "-"), flag) {
			t.Errorf("%s is not offered", flag)
		}
	}
}

// The scripts are run by the shells that are there, as somebody who presses Tab
// runs them.
func TestShells(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "catbirdctl")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ shell, script, want string }{
		{
			"bash", `source <(catbirdctl completion bash)
			try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _catbirdctl; echo "${COMPREPLY[*]}"; }
			complete -p catbirdctl
			try catbirdctl flags s
			try catbirdctl flags set --actor-system = t
			try catbirdctl completion ""`,
			"complete -o default -F _catbirdctl catbirdctl\nset\ntrue\nbash zsh fish\n",
		},
		{
			"zsh", `compdef() { print "compdef $*" }
			_describe() { print -l -- $found }
			_files() { print files }
			source <(catbirdctl completion zsh)
			words=(catbirdctl flags s) CURRENT=3; _catbirdctl
			words=(catbirdctl flags set --actor-system=t) CURRENT=4; _catbirdctl
			words=(catbirdctl completion '') CURRENT=3; _catbirdctl
			words=(catbirdctl check --database '') CURRENT=4; _catbirdctl`,
			"compdef _catbirdctl catbirdctl\nset:Change flags\n--actor-system=true\nbash\nzsh\nfish\nfiles\n",
		},
		{
			"fish", `catbirdctl completion fish | source
			complete -C "catbirdctl flags s"
			complete -C "catbirdctl flags set --actor-system=t"
			complete -C "catbirdctl completion "`,
			"set\tChange flags\n--actor-system=true\nbash\nfish\nzsh\n",
		},
	} {
		t.Run(test.shell, func(t *testing.T) {
			shell, err := exec.LookPath(test.shell)
			if err != nil {
				t.Skipf("there is no %s here", test.shell)
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", test.script)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), actAsTool+"=1", "HOME="+dir,
				"GORACE=atexit_sleep_ms=0") // the race detector lets each of the processes wait at its end
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != test.want {
				t.Errorf("%s: %v, printed\n%s\nwant\n%s", test.shell, err, out, test.want)
			}
		})
	}
}
