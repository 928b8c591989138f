package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// followEvery is how often a file is looked at for what is new.
	followEvery = 250 * time.Millisecond
	maxLine     = 64 << 10 // bytes of a line of events
)

// FollowEvents reads events from a file of JSON lines, {"time": RFC 3339,
// "text": …}, and calls add with each, while the file grows, until ctx ends.
// Then it reads once more, up to the end, and returns. The file need not be
// there yet.
//
// A line that is no event is left out; the error that is returned in the end
// says how many were, or why the file could not be read.
func FollowEvents(ctx context.Context, path string, add func(at time.Time, text string)) error {
	f := follower{path: path, add: add}
	defer f.close()
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		over := false
		select {
		case <-ctx.Done():
			over = true
		case <-t.C:
		}
		if err := f.read(over); err != nil {
			return fmt.Errorf("read events from %s: %w", path, err)
		}
		if over {
			return f.complain()
		}
	}
}

type follower struct {
	path string
	add  func(time.Time, string)
	file *os.File
	in   *bufio.Reader
	line []byte // what there is of a line that has not ended
	bad  int
	why  error // of the first bad line
}

func (f *follower) close() {
	if f.file != nil {
		_ = f.file.Close() // it was only read
	}
}

// read reads what is new. At the end of all, a line need not have ended.
func (f *follower) read(last bool) error {
	if f.file == nil {
		file, err := os.Open(f.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		f.file, f.in = file, bufio.NewReader(file)
	}
	for {
		part, err := f.in.ReadSlice('\n')
		if len(f.line) <= maxLine { // what is longer is no event anyway
			f.line = append(f.line, part...)
		}
		switch {
		case err == nil || (errors.Is(err, io.EOF) && last):
			f.take(f.line)
			f.line = f.line[:0]
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
		default:
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

func (f *follower) take(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	var e struct {
		Time time.Time `json:"time"`
		Text string    `json:"text"`
	}
	err := json.Unmarshal(line, &e)
	if err == nil && (e.Time.IsZero() || e.Text == "") {
		err = errors.New("it has no time or no text")
	}
	if err != nil {
		f.bad++
		if f.why == nil {
			f.why = err
		}
		return
	}
	f.add(e.Time, e.Text)
}

func (f *follower) complain() error {
	if f.bad == 0 {
		return nil
	}
	return fmt.Errorf("%d lines of %s are no events, the first: %w", f.bad, f.path, f.why)
}
