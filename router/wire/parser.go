package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// badJSON is what is said of anything that RFC 8259 does not allow.
var badJSON = fault(body, "is not valid JSON")

// parser steps through a JSON text (RFC 8259). It looks at each byte once and
// never at more of it than it has to.
type parser struct {
	data  []byte
	pos   int
	depth int
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

func (p *parser) accept(c byte) bool {
	if p.peek() != c || p.pos == len(p.data) {
		return false
	}
	p.pos++
	return true
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// wrong tells a value of another type, which is the given problem, from what is
// no JSON at all.
func (p *parser) wrong(problem string) *Error {
	at := p.pos
	if err := p.skip(); err != nil {
		return err
	}
	p.pos = at
	return fault("", problem)
}

// open starts an object or a list.
func (p *parser) open(c byte, problem string) *Error {
	if !p.accept(c) {
		return p.wrong(problem)
	}
	p.depth++
	if p.depth > maxDepth {
		return fault(body, "is nested too deeply")
	}
	return nil
}

// next steps to the next entry of an object or a list, or over its end.
func (p *parser) next(end byte, first bool) (done bool, err *Error) {
	p.space()
	if p.accept(end) {
		p.depth--
		return true, nil
	}
	if !first {
		if !p.accept(',') {
			return false, badJSON
		}
		p.space()
	}
	return false, nil
}

func (p *parser) literal(word string) bool {
	if !bytes.HasPrefix(p.data[p.pos:], []byte(word)) {
		return false
	}
	p.pos += len(word)
	return true
}

func (p *parser) null() bool { return p.literal("null") }

// number steps over a number.
func (p *parser) number() bool {
	p.accept('-')
	if !p.accept('0') && !p.digits() {
		return false
	}
	if p.accept('.') && !p.digits() {
		return false
	}
	if p.accept('e') || p.accept('E') {
		if !p.accept('+') {
			p.accept('-')
		}
		return p.digits()
	}
	return true
}

func (p *parser) digits() bool {
	start := p.pos
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.pos++
	}
	return p.pos > start
}

// skip steps over a value of any kind.
func (p *parser) skip() *Error {
	switch p.peek() {
	case '{':
		return p.skipObject()
	case '[':
		return p.skipList()
	case '"':
		_, err := p.text("")
		return err
	case 't', 'f', 'n':
		if p.literal("true") || p.literal("false") || p.null() {
			return nil
		}
	default:
		if p.number() {
			return nil
		}
	}
	return badJSON
}

func (p *parser) skipObject() *Error {
	if err := p.open('{', ""); err != nil {
		return err
	}
	for first := true; ; first = false {
		done, err := p.next('}', first)
		if err != nil || done {
			return err
		}
		if _, err := p.text(""); err != nil {
			return badJSON
		}
		p.space()
		if !p.accept(':') {
			return badJSON
		}
		p.space()
		if err := p.skip(); err != nil {
			return err
		}
	}
}

func (p *parser) skipList() *Error {
	if err := p.open('[', ""); err != nil {
		return err
	}
	for first := true; ; first = false {
		done, err := p.next(']', first)
		if err != nil || done {
			return err
		}
		if err := p.skip(); err != nil {
			return err
		}
	}
}

// quoted steps over a string and returns what stands between its quotes, as it
// stands there.
func (p *parser) quoted() (raw []byte, escaped, ok bool) {
	if !p.accept('"') {
		return nil, false, false
	}
	rest := p.data[p.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		p.pos--
		return nil, false, false
	}
	if at := bytes.IndexByte(rest[:end], '\\'); at >= 0 {
		escaped = true
		if end = closing(rest, at); end < 0 {
			p.pos--
			return nil, false, false
		}
	}
	p.pos += end + 1
	return rest[:end], escaped, true
}

// closing returns where the first quote at or after i is that no backslash
// escapes, -1 for nowhere.
func closing(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// text reads a string. The result may share memory with the input.
func (p *parser) text(problem string) ([]byte, *Error) {
	raw, escaped, ok := p.quoted()
	switch {
	case !ok && problem != "" && p.peek() != '"':
		return nil, p.wrong(problem)
	case !ok, hasControl(raw):
		return nil, badJSON
	case escaped:
		if raw, ok = unescape(raw); !ok {
			return nil, badJSON
		}
	}
	return raw, nil
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' {
			return true
		}
	}
	return false
}

// storable says what keeps a text from being stored as it is, "" for nothing.
func storable[T string | []byte](s T) (problem string) {
	ascii := true
	for i := range len(s) {
		if s[i] == 0 {
			return "must not hold a NUL character"
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(string(s)) {
		return "must be valid Unicode"
	}
	return ""
}

// unescape resolves the escapes of RFC 8259 section 7. A surrogate without its
// other half becomes bytes that are no valid UTF-8, so that whoever stores the
// text refuses it.
func unescape(raw []byte) ([]byte, bool) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		at := bytes.IndexByte(raw[i:], '\\')
		if at < 0 {
			return append(out, raw[i:]...), true
		}
		out = append(out, raw[i:i+at]...)
		i += at + 1
		if i == len(raw) {
			return nil, false
		}
		if c := raw[i]; c != 'u' {
			plain, ok := simpleEscape(c)
			if !ok {
				return nil, false
			}
			out = append(out, plain)
			i++
			continue
		}
		r, n, ok := unicodeEscape(raw[i-1:])
		if !ok {
			return nil, false
		}
		if utf16.IsSurrogate(r) {
			out = append(out, 0xff)
		} else {
			out = utf8.AppendRune(out, r)
		}
		i += n - 1
	}
	return out, true
}

func simpleEscape(c byte) (byte, bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	default:
		return 0, false
	}
}

// unicodeEscape reads \uXXXX, or the two of them that are a surrogate pair, at
// the start of b and says how many bytes that were.
func unicodeEscape(b []byte) (r rune, n int, ok bool) {
	if r, ok = hex4(b); !ok {
		return 0, 0, false
	}
	if !utf16.IsSurrogate(r) {
		return r, 6, true
	}
	if low, ok := hex4(b[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12, true
		}
	}
	return r, 6, true
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
