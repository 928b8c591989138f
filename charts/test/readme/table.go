package readme

import (
	"errors"
	"fmt"
	"strings"

	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// The table stands between these lines of the README.
const (
	begin = "<!-- values: made by `make chart` -->\n"
	end   = "<!-- end of values -->\n"
)

// Value is one value that a user may set.
type Value struct {
	Path, Default, Comment string
}

// Values returns the values of a values.yaml in its order. A mapping is one value
// where nothing inside it has a comment. One without a comment is an error, unless
// it stands beside others that have none in a mapping that is explained as a whole.
func Values(text []byte) ([]Value, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("values are not a mapping")
	}
	return walk("", doc.Content[0])
}

func walk(prefix string, m *yaml.Node) ([]Value, error) {
	var out []Value
	var errs []error
	for i := 0; i < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		at := prefix + key.Value
		if value.Kind == yaml.MappingNode && commented(value) {
			inner, err := walk(at+".", value)
			out, errs = append(out, inner...), append(errs, err)
			continue
		}
		comment := sentence(key.HeadComment)
		if comment == "" && !shared(prefix, key.Value) {
			errs = append(errs, fmt.Errorf("%s has no comment", at))
		}
		text, err := inline(value)
		errs = append(errs, err)
		out = append(out, Value{at, text, comment})
	}
	return out, errors.Join(errs...)
}

// shared are names that mean what they mean in a pod, explained there.
func shared(prefix, name string) bool {
	return strings.HasPrefix(prefix, "probes.") && name != "path" && name != "enabled"
}

// commented reports whether anything inside is explained for itself.
func commented(m *yaml.Node) bool {
	for i := 0; i < len(m.Content); i += 2 {
		if m.Content[i].HeadComment != "" || (m.Content[i+1].Kind == yaml.MappingNode && commented(m.Content[i+1])) {
			return true
		}
	}
	return false
}

// sentence joins the lines of a comment. What stands before an empty line belongs
// to the file, not to the value.
func sentence(comment string) string {
	blocks := strings.Split(comment, "\n\n")
	var words []string
	for line := range strings.Lines(blocks[len(blocks)-1]) {
		words = append(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

// inline writes a value on one line.
func inline(n *yaml.Node) (string, error) {
	plain := *n
	flow(&plain)
	text, err := yaml.Marshal(&plain)
	return strings.Join(strings.Fields(string(text)), " "), err
}

func flow(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		n.Style = yaml.FlowStyle
	}
	children := make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		copied := *child
		flow(&copied)
		children[i] = &copied
	}
	n.Content = children
}

// Table returns the values as a table in Markdown.
func Table(values []Value) string {
	var b strings.Builder
	b.WriteString("| value | default | |\n| --- | --- | --- |\n")
	for _, v := range values {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.Path, cell(v.Default), cell(v.Comment))
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// Insert returns readme with table where it belongs.
func Insert(readme, table string) (string, error) {
	before, rest, ok := strings.Cut(readme, begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return "", fmt.Errorf("the README has no lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + table + end + after, nil
}
