package load

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"time"
)

//go:embed page/report.html
var pageHTML string

//go:embed page/report.css
var pageCSS string

//go:embed page/report.js
var pageJS string

// WriteHTML writes the report as a page that needs nothing else: plots over
// time with the events in them, and the tables.
func (r *Report) WriteHTML(w io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{
		"style":     func() template.CSS { return template.CSS(pageCSS) },
		"script":    func() template.JS { return template.JS(pageJS) },
		"latency":   Latency,
		"count":     thousands,
		"perSecond": rate,
		"inc":       func(i int) int { return i + 1 },
		"offset":    func(t time.Time) string { return fmt.Sprintf("%+.1f s", t.Sub(r.Started).Seconds()) },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := page.Execute(w, r); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// thousands writes n with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rate writes v with commas, or a decimal where it is small.
func rate(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return thousands(int64(v + 0.5))
}
