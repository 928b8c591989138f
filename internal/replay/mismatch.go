package replay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Mismatch says that the service answered something else than what was sent.
// It tells bytes by their length and hash only.
type Mismatch struct {
	Group  string
	Person string // who was told so, a DID
	Where  string // the step or the reading
	Field  string
	Got    string
	Want   string
}

// Error says what differs. It leaves the group to whoever wraps it: [Run] names
// the group once, before all that differs in it.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s, %s: %s is %s, want %s", m.Person, m.Where, m.Field, m.Got, m.Want)
}

// maxMismatches bounds what one error tells.
const maxMismatches = 20

// checker compares answers with what they must be and keeps what differs.
type checker struct {
	group, person, where string
	found                []error
}

func (c *checker) at(where string, args ...any) *checker {
	c.where = fmt.Sprintf(where, args...)
	return c
}

func (c *checker) differs(field, got, want string) {
	c.found = append(c.found, &Mismatch{Group: c.group, Person: c.person, Where: c.where, Field: field, Got: got, Want: want})
}

func (c *checker) err() error { return joined(c.found) }

// same compares two values.
func same[T comparable](c *checker, field string, got, want T) {
	if got != want {
		c.differs(field, show(got), show(want))
	}
}

func show(v any) string {
	if reflect.ValueOf(v).Kind() == reflect.String {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}

// sameBytes compares two byte strings and never shows them.
func (c *checker) sameBytes(field string, got, want []byte) {
	if !bytes.Equal(got, want) {
		c.differs(field, fingerprint(got), fingerprint(want))
	}
}

func fingerprint(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes with SHA-256 %x…", len(b), sum[:8])
}

// sameSet compares two lists that are in no particular order.
func (c *checker) sameSet(field string, got, want []string) {
	count := make(map[string]int)
	for _, s := range want {
		count[s]++
	}
	for _, s := range got {
		count[s]--
	}
	var extra, missing []string
	for _, s := range got {
		if count[s] < 0 {
			extra, count[s] = append(extra, s), count[s]+1
		}
	}
	for _, s := range want {
		if count[s] > 0 {
			missing, count[s] = append(missing, s), count[s]-1
		}
	}
	if len(extra)+len(missing) > 0 {
		c.differs(field, fmt.Sprintf("%d with %s too many", len(got), list(extra)), fmt.Sprintf("%d, missing %s", len(want), list(missing)))
	}
}

func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, " and ")
}

// joined joins errors, up to maxMismatches of them.
func joined(errs []error) error {
	if n := len(errs) - maxMismatches; n > 0 {
		errs = append(errs[:maxMismatches:maxMismatches], fmt.Errorf("and %d more", n))
	}
	return errors.Join(errs...)
}
