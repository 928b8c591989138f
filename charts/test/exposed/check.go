package exposed

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Record checks the query of a recording rule, and makes its series known under
// that name.
func (m *Metrics) Record(name, query string, extra map[string]string) error {
	result, err := m.Check(query)
	for label := range extra {
		result = result.with(label)
	}
	m.recorded[name] = result
	return err
}

// Check parses a query, and returns the labels that its result has. What it names
// and no node exposes is an error: a metric, a label in a matcher, in a grouping
// or in a join, a matcher's value where all values are known; so is a join of two
// sides that can never agree, and a rate of what is no counter.
func (m *Metrics) Check(query string) (labelSet, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, query)
	}
	c := &checker{m: m}
	result := c.result(parsed)
	if c.series == 0 {
		c.fail("nothing is asked of a node")
	}
	if c.errs != nil {
		return result, fmt.Errorf("%w\nin %s", errors.Join(c.errs...), query)
	}
	return result, nil
}

// Series checks a series that is given with its labels, as in a test of rules: it
// has no label and no value that no node exposes, and none is missing.
func (m *Metrics) Series(l labels.Labels) error {
	c := &checker{m: m}
	name := l.Get(model.MetricNameLabel)
	d, own := c.lookup(name)
	l.Range(func(l labels.Label) {
		known := d.values[l.Name]
		switch {
		case l.Name == model.MetricNameLabel:
		case !own.has(l.Name):
			c.fail("%s has no label %s", name, l.Name)
		case known != nil && !slices.Contains(known, l.Value):
			c.fail("%s of %s is never %q", l.Name, name, l.Value)
		}
	})
	for label := range d.values {
		if !l.Has(label) {
			c.fail("%s without its label %s", name, label)
		}
	}
	return errors.Join(c.errs...)
}

var (
	// template is what an alert's texts say of its labels, legend what a panel's
	// legend does.
	template = regexp.MustCompile(`\$labels\.([a-zA-Z_]\w*)`)
	legend   = regexp.MustCompile(`\{\{\s*([a-zA-Z_]\w*)\s*\}\}`)
)

// Says checks a text that names labels of a result, as {{ $labels.x }} in an
// alert, or as {{x}} in a legend.
func Says(text string, result labelSet) error {
	for _, m := range append(template.FindAllStringSubmatch(text, -1), legend.FindAllStringSubmatch(text, -1)...) {
		if !result.has(m[1]) {
			return fmt.Errorf("%q speaks of the label %s, and the result has %s", text, m[1], result)
		}
	}
	return nil
}

type checker struct {
	m      *Metrics
	series int
	errs   []error
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// lookup returns what is known of a series, and all labels that it has.
func (c *checker) lookup(name string) (metric, labelSet) {
	if name == "up" { // Prometheus' own, of each target
		return metric{kind: "gauge"}, setOf(Given...)
	}
	if own, ok := c.m.recorded[name]; ok {
		return metric{kind: "gauge"}, own
	}
	d, err := c.m.series(name)
	if err != nil {
		c.fail("%w", err)
	}
	own := setOf(Given...)
	for label := range d.values {
		own = own.with(label)
	}
	return d, own
}

// result returns the labels of what an expression comes to, and checks it.
func (c *checker) result(e parser.Expr) labelSet {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return c.selector(e)
	case *parser.MatrixSelector:
		return c.result(e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.result(e.Expr)
	case *parser.ParenExpr:
		return c.result(e.Expr)
	case *parser.UnaryExpr:
		return c.result(e.Expr)
	case *parser.StepInvariantExpr:
		return c.result(e.Expr)
	case *parser.AggregateExpr:
		return c.aggregate(e)
	case *parser.BinaryExpr:
		return c.binary(e)
	case *parser.Call:
		return c.call(e)
	default:
		return nil // a number or a text
	}
}

func (c *checker) selector(v *parser.VectorSelector) labelSet {
	c.series++
	if v.Name == "" {
		c.fail("a selector without a metric's name")
		return nil
	}
	known := len(c.errs)
	d, own := c.lookup(v.Name)
	if len(c.errs) > known {
		return own // of what is not there nothing more can be said
	}
	for _, m := range v.LabelMatchers {
		switch {
		case m.Name == model.MetricNameLabel:
		case !own.has(m.Name):
			c.fail("%s has no label %s", v.Name, m.Name)
		case d.values[m.Name] != nil:
			c.matcher(v.Name, m, d.values[m.Name])
		}
	}
	return own
}

// matcher checks that each value that a matcher names is one that there is.
func (c *checker) matcher(series string, m *labels.Matcher, values []string) {
	named := m.SetMatches() // a|b
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		named = []string{m.Value}
	}
	for _, value := range named {
		if !slices.Contains(values, value) && (value != "" || m.Type != labels.MatchNotEqual) {
			c.fail("%s of %s is never %q", m.Name, series, value)
		}
	}
	if len(named) > 0 {
		return
	}
	whole, err := regexp.Compile("^(?s:" + m.Value + ")$")
	if err != nil {
		c.fail("%w", err)
	} else if !slices.ContainsFunc(values, whole.MatchString) {
		c.fail("%s of %s never matches %q", m.Name, series, m.Value)
	}
}

func (c *checker) aggregate(e *parser.AggregateExpr) labelSet {
	inner := c.result(e.Expr)
	c.result(e.Param)
	for _, label := range e.Grouping {
		if !inner.has(label) {
			c.fail("there is no label %s to group %s by", label, e.Expr)
		}
	}
	out := setOf(e.Grouping...)
	switch {
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK || e.Op == parser.LIMITK || e.Op == parser.LIMIT_RATIO:
		return inner
	case e.Without:
		out = inner.without(e.Grouping...)
	}
	if text, ok := e.Param.(*parser.StringLiteral); ok && e.Op == parser.COUNT_VALUES {
		out = out.with(text.Val)
	}
	return out
}

func (c *checker) binary(e *parser.BinaryExpr) labelSet {
	left, right := c.result(e.LHS), c.result(e.RHS)
	switch vector := parser.ValueTypeVector; {
	case e.LHS.Type() != vector && e.RHS.Type() != vector:
		return nil
	case e.RHS.Type() != vector:
		return left
	case e.LHS.Type() != vector:
		return right
	}
	by := e.VectorMatching
	for _, label := range by.MatchingLabels {
		if in := left.has(label) && right.has(label); by.On && !in || !left.has(label) && !right.has(label) {
			c.fail("there is no label %s to join %s and %s by", label, e.LHS, e.RHS)
		}
	}
	if e.Op == parser.LOR {
		return left.with(right...)
	}
	if a, b := left.without(by.MatchingLabels...), right.without(by.MatchingLabels...); !by.On && !slices.Equal(a, b) {
		c.fail("%s has %s and %s has %s: they never match", e.LHS, a, e.RHS, b)
	}
	one := right
	if by.Card == parser.CardOneToMany {
		left, one = right, left
	}
	for _, label := range by.Include {
		if !one.has(label) {
			c.fail("there is no label %s to take over from the side of one in %s", label, e)
		}
	}
	switch {
	case by.Card == parser.CardManyToMany: // and, unless
		return left
	case by.Card != parser.CardOneToOne:
		return left.with(by.Include...)
	case by.On:
		return setOf(by.MatchingLabels...)
	default:
		return left.without(by.MatchingLabels...)
	}
}

// counted are the functions that make sense for counters alone.
var counted = []string{"rate", "irate", "increase", "resets"}

func (c *checker) call(e *parser.Call) labelSet {
	var inner labelSet
	for _, arg := range e.Args {
		result := c.result(arg)
		if t := arg.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
			inner = result
		}
	}
	text := func(i int) string {
		if s, ok := e.Args[i].(*parser.StringLiteral); ok {
			return s.Val
		}
		return ""
	}
	name := e.Func.Name
	switch {
	case slices.Contains(counted, name):
		c.counter(name, e.Args[0])
	case name == "histogram_quantile":
		if !inner.has("le") {
			c.fail("%s has no label le", e.Args[1])
		}
		return inner.without("le")
	case name == "absent" || name == "absent_over_time":
		return equals(e.Args[0])
	case name == "label_replace":
		c.source(text(3), inner, e)
		return inner.with(text(1))
	case name == "label_join":
		for i := 3; i < len(e.Args); i++ {
			c.source(text(i), inner, e)
		}
		return inner.with(text(1))
	case strings.HasPrefix(name, "sort_by_label"):
		for i := 1; i < len(e.Args); i++ {
			c.source(text(i), inner, e)
		}
	case name == "scalar":
		return nil
	}
	return inner
}

func (c *checker) source(label string, inner labelSet, e *parser.Call) {
	if !inner.has(label) {
		c.fail("there is no label %q to read in %s", label, e)
	}
}

func (c *checker) counter(function string, arg parser.Expr) {
	m, ok := arg.(*parser.MatrixSelector)
	if !ok {
		return
	}
	name := m.VectorSelector.(*parser.VectorSelector).Name
	if d, err := c.m.series(name); err == nil && d.kind != "counter" {
		c.fail("%s of %s, which is a %s", function, name, d.kind)
	}
}

// equals returns the labels that absent has: those that its selector names.
func equals(arg parser.Expr) labelSet {
	if m, ok := arg.(*parser.MatrixSelector); ok {
		arg = m.VectorSelector
	}
	var out labelSet
	if v, ok := arg.(*parser.VectorSelector); ok {
		for _, m := range v.LabelMatchers {
			if m.Type == labels.MatchEqual && m.Name != model.MetricNameLabel {
				out = out.with(m.Name)
			}
		}
	}
	return out
}
