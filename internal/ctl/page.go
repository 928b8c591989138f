package ctl

import (
	"strings"
	"unicode/utf8"
)

// span is text of one colour.
type span struct{ text, colour string }

func plain(s string) span  { return span{text: s} }
func bold(s string) span   { return span{s, "1"} }
func faint(s string) span  { return span{s, "2"} }
func red(s string) span    { return span{s, "31"} }
func green(s string) span  { return span{s, "32"} }
func yellow(s string) span { return span{s, "33"} }

// page collects lines of a limited width.
type page struct {
	width   int
	colours bool
	lines   []string
}

// line adds a line, cut off at the page's width.
func (p *page) line(spans ...span) {
	var b strings.Builder
	left := p.width
	for _, s := range spans {
		text := []rune(clean(s.text))
		text = text[:min(len(text), left)]
		left -= len(text)
		if !p.colours || s.colour == "" || len(text) == 0 {
			b.WriteString(string(text))
			continue
		}
		b.WriteString("\x1b[" + s.colour + "m" + string(text) + "\x1b[0m")
	}
	p.lines = append(p.lines, b.String())
}

// grid pads cells so that columns stand below each other, two spaces apart.
func grid(rows [][]span) [][]span {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.text))
		}
	}
	out := make([][]span, len(rows))
	for r, row := range rows {
		for i, cell := range row {
			out[r] = append(out[r], cell)
			if i < len(row)-1 {
				out[r] = append(out[r], plain(strings.Repeat(" ", widths[i]+2-utf8.RuneCountInString(cell.text))))
			}
		}
	}
	return out
}
