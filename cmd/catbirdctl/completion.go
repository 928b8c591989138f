package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// completeWord is what the shells' scripts call the tool with: it then prints
// what the last of the words may become, one a line, with a tab before what it
// means.
const completeWord = "__complete"

// nodesPatience is how long a completion may ask for the names of nodes.
const nodesPatience = time.Second

var (
	//go:embed completion.bash
	bashScript string
	//go:embed completion.zsh
	zshScript string
	//go:embed completion.fish
	fishScript string
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script.
func (c *completionCmd) Run(t *tool) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	_, err := io.WriteString(t.out, script)
	return err
}

// complete prints what the last of words may become. It says nothing of what
// goes wrong: somebody is typing.
func complete(ctx context.Context, parser *kong.Kong, t *tool, words []string) int {
	c := completer{names: func(flags []string) []string { return nodeNames(ctx, parser, t, flags) }}
	for _, one := range c.complete(parser.Model.Node, words) {
		if _, err := fmt.Fprintf(t.out, "%s\t%s\n", one.text, firstPart(one.help)); err != nil {
			return exitFailure
		}
	}
	return exitOK
}

// firstPart returns what fits behind a word.
func firstPart(help string) string {
	for _, end := range []string{". ", "; ", ": "} {
		help, _, _ = strings.Cut(help, end)
	}
	return strings.TrimSuffix(help, ".")
}

// nodeNames asks the node that flags or the environment name who there is.
func nodeNames(ctx context.Context, parser *kong.Kong, t *tool, flags []string) []string {
	if _, err := parser.Parse(append(flags, "nodes")); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, nodesPatience)
	defer cancel()
	node, err := t.node(ctx, nodesPatience)
	if err != nil {
		return nil
	}
	v, err := node.Cluster(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, m := range v.Members {
		names = append(names, m.Name)
	}
	return names
}

// candidate is what a word may become.
type candidate struct{ text, help string }

// completer finds candidates in the model of the flags and commands.
type completer struct {
	names func(flags []string) []string // of nodes; asked only where one is due

	node  *kong.Node // the command that the words lead to
	args  int        // positional arguments seen
	flags []string   // seen that say which node to ask, and how
}

// complete returns what the last of words may become.
func (c *completer) complete(root *kong.Node, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	words, cut := glue(words)
	c.node = root
	var due *kong.Flag // its value comes next
	for _, word := range words[:len(words)-1] {
		due = c.pass(word, due)
	}
	found := c.find(words[len(words)-1], due)
	for i := range found {
		found[i].text = found[i].text[min(cut, len(found[i].text)):]
	}
	return found
}

// pass goes past a word, and returns the flag whose value comes next.
func (c *completer) pass(word string, due *kong.Flag) *kong.Flag {
	switch {
	case due != nil:
		c.keep(due, word)
	case strings.HasPrefix(word, "-"):
		name, value, given := strings.Cut(word, "=")
		if f := c.flag(name); f != nil && given {
			c.keep(f, value)
		} else if f != nil && !f.IsBool() {
			return f
		}
	default:
		for _, child := range c.node.Children {
			if child.Name == word {
				c.node, c.args = child, 0
				return nil
			}
		}
		c.args++
	}
	return nil
}

func (c *completer) keep(f *kong.Flag, value string) {
	if f.Name == "node" || f.Name == "secret" {
		c.flags = append(c.flags, "--"+f.Name+"="+value)
	}
}

func (c *completer) flag(name string) *kong.Flag {
	for _, group := range c.node.AllFlags(true) {
		for _, f := range group {
			if name == "--"+f.Name {
				return f
			}
		}
	}
	return nil
}

// find returns what word may become, where due is the flag it is the value of.
func (c *completer) find(word string, due *kong.Flag) []candidate {
	if due != nil {
		return with(word, values(due.Value))
	}
	if name, _, given := strings.Cut(word, "="); given && strings.HasPrefix(word, "-") {
		f := c.flag(name)
		if f == nil {
			return nil
		}
		found := values(f.Value)
		for i := range found {
			found[i].text = name + "=" + found[i].text
		}
		return with(word, found)
	}
	var found []candidate
	if strings.HasPrefix(word, "-") {
		for _, group := range c.node.AllFlags(true) {
			for _, f := range group {
				found = append(found, candidate{"--" + f.Name, f.Help})
			}
		}
		return with(word, found)
	}
	for _, child := range c.node.Children {
		if !child.Hidden {
			found = append(found, candidate{child.Name, child.Help})
		}
	}
	if c.args < len(c.node.Positional) {
		found = append(found, c.argument(c.node.Positional[c.args])...)
	}
	return with(word, found)
}

func (c *completer) argument(p *kong.Positional) []candidate {
	if p.Name != nodeArgument {
		return values(p)
	}
	var found []candidate
	for _, name := range c.names(c.flags) {
		found = append(found, candidate{name, "a node of the cluster"})
	}
	return found
}

func values(v *kong.Value) []candidate {
	var found []candidate
	if v.IsBool() {
		return []candidate{{"true", ""}, {"false", ""}}
	}
	for _, text := range v.EnumSlice() {
		if text != "" {
			found = append(found, candidate{text, ""})
		}
	}
	return found
}

// with keeps those that word is the beginning of.
func with(word string, all []candidate) []candidate {
	var found []candidate
	for _, c := range all {
		if strings.HasPrefix(c.text, word) {
			found = append(found, c)
		}
	}
	return found
}

// glue joins what bash has taken apart: it ends words at = and :, and makes
// words of those. cut is how much of the last word bash has taken for others,
// and does not replace.
func glue(words []string) (glued []string, cut int) {
	apart := func(w string) bool { return w != "" && strings.Trim(w, "=:") == "" }
	for i, w := range words {
		if i == 0 || (!apart(w) && !apart(words[i-1])) {
			glued, cut = append(glued, w), 0
			continue
		}
		last := &glued[len(glued)-1]
		if cut = len(*last); apart(w) {
			cut += len(w)
		}
		*last += w
	}
	return glued, cut
}
