package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line of a history: a page of 100 rows takes some 30 KB.
const maxLine = 16 << 20

// record is one line of a history on disk. Exactly one field is set.
type record struct {
	Convo  *Convo  `json:"convo,omitempty"`
	Op     *Op     `json:"op,omitempty"`
	Tenure *Tenure `json:"tenure,omitempty"`
}

type lineWriter struct{ w *bufio.Writer }

func (l *lineWriter) write(rec record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encoding a record: %w", err)
	}
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	return nil
}

func (l *lineWriter) flush() error {
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	return nil
}

// Write writes a history as lines of JSON, as a [Recorder] does.
func Write(w io.Writer, h History) error {
	l := &lineWriter{bufio.NewWriter(w)}
	for i := range h.Convos {
		if err := l.write(record{Convo: &h.Convos[i]}); err != nil {
			return err
		}
	}
	for i := range h.Ops {
		if err := l.write(record{Op: &h.Ops[i]}); err != nil {
			return err
		}
	}
	for i := range h.Tenures {
		if err := l.write(record{Tenure: &h.Tenures[i]}); err != nil {
			return err
		}
	}
	return l.flush()
}

// Read reads lines of JSON to their end. It stops at a line that is no record
// and names its number.
func Read(r io.Reader) (History, error) {
	var h History
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		if err := h.add(lines.Bytes()); err != nil {
			return History{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return History{}, fmt.Errorf("line %d: %w", n, err)
	}
	return h, nil
}

func (h *History) add(line []byte) error {
	var rec record
	if err := json.Unmarshal(line, &rec); err != nil {
		return err
	}
	switch {
	case rec.Convo != nil:
		h.Convos = append(h.Convos, *rec.Convo)
	case rec.Op != nil:
		h.Ops = append(h.Ops, *rec.Op)
	case rec.Tenure != nil:
		h.Tenures = append(h.Tenures, *rec.Tenure)
	default:
		return errors.New("neither a conversation nor an operation nor a tenure")
	}
	return nil
}
