package history

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const ruleLinearizable = "there is one order of all requests of a conversation, none before one that was answered before it was made, " +
	"in which a single copy would have given the same answers"

// drawLimit bounds the search that a picture takes. What is drawn has been
// decided before and is small.
const drawLimit = 30 * time.Second

// violation says of a history that is wrong, and reduced, what is wrong, and
// leaves it in files if they are wanted.
func (s subject) violation(cfg CheckConfig) (Violation, error) {
	v := Violation{Convo: s.convo.ID, Rule: ruleLinearizable, Ops: s.ops}
	m, calls, err := s.prepare(cfg.AnyMemberRemoves)
	if err != nil {
		return v, err
	}
	pm := m.porcupine(func() bool { return false })
	_, info := porcupine.CheckOperationsVerbose(pm, operations(calls), drawLimit)
	v.Text = s.beginning() + lines(s.ops) + m.furthest(info)
	if cfg.Dir == "" {
		return v, nil
	}
	return v, v.save(cfg.Dir, s, func(w io.Writer) error { return porcupine.Visualize(pm, info, w) })
}

// beginning says what a history starts from, and how to read it.
func (s subject) beginning() string {
	return fmt.Sprintf("conversation %s of %s, created by %s, at epoch %d and seq %d\n"+
		"(epochs and seqs are counted as if what is left out had not been made)\n",
		s.convo.ID, strings.Join(s.convo.Members, " "), s.convo.Creator, s.convo.Epoch, len(s.convo.Rows))
}

func lines(ops []Op) string {
	var b strings.Builder
	for i := range ops {
		b.WriteString(ops[i].line())
		b.WriteByte('\n')
	}
	return b.String()
}

// furthest says how far the best order came.
func (m *model) furthest(info porcupine.LinearizationInfo) string {
	var best []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(best) {
				best = order
			}
		}
	}
	s, ids := m.start, make([]string, len(best))
	for i, op := range best {
		c := op.Input.(*call)
		_, s = m.step(s, c)
		ids[i] = fmt.Sprintf("#%d", c.op.ID)
	}
	if len(ids) == 0 {
		ids = []string{"nothing"}
	}
	return fmt.Sprintf("the best order is %s, which leads to %s; nothing that is left fits there\n", strings.Join(ids, " "), m.describe(s))
}

// save writes what was found into files and names them in v.
func (v *Violation) save(dir string, s subject, draw func(io.Writer) error) error {
	base := filepath.Join(dir, fileName(s.convo.ID))
	for _, f := range []struct {
		ext   string
		write func(io.Writer) error
	}{
		{".txt", func(w io.Writer) error { _, err := io.WriteString(w, v.Rule+"\n\n"+v.Text); return err }},
		{".jsonl", func(w io.Writer) error { return Write(w, History{Convos: []Convo{s.convo}, Ops: s.ops}) }},
		{".html", draw},
	} {
		if err := writeFile(base+f.ext, f.write); err != nil {
			return fmt.Errorf("leaving a violation: %w", err)
		}
		v.Files = append(v.Files, base+f.ext)
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	return write(f)
}

// fileName names a conversation's files.
func fileName(convo string) string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyz-", r) {
			return r
		}
		return '_'
	}, convo)
	return "violation-" + plain[:min(len(plain), 64)]
}

// String says a violation in full.
func (v Violation) String() string {
	text := fmt.Sprintf("%s\nnot so in %s:\n%s", v.Rule, v.Convo, v.Text)
	if len(v.Files) > 0 {
		text += "see " + strings.Join(v.Files, " ") + "\n"
	}
	return text
}
