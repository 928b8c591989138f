package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// checker runs models with spin.
type checker struct {
	models   string // folder
	compiler string
	// trail gets the steps that lead to what was found; nil: nobody wants them.
	trail io.Writer
}

// result is what a search found.
type result struct {
	errors    int
	found     string // "holds", or how it went wrong
	states    int64
	megabytes int64
	partial   string // why the search is not exhaustive, "" where it is
}

// check runs r in a folder of its own. An error means that it could not be run.
func (c *checker) check(ctx context.Context, r run) (result, error) {
	dir, err := os.MkdirTemp("", "catbird-model-")
	if err != nil {
		return result{}, fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(filepath.Join(c.models, r.model+".pml"))
	if err != nil {
		return result{}, fmt.Errorf("reading the model: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
		return result{}, fmt.Errorf("copying the model: %w", err)
	}
	if _, err := call(ctx, dir, "spin", append(r.flags(), "-a", file)...); err != nil {
		return result{}, err
	}
	if _, err := call(ctx, dir, c.compiler, append(r.build(), "-o", "pan", "pan.c")...); err != nil {
		return result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	out, err := call(limited, dir, "./pan", r.search()...)
	if limited.Err() != nil {
		return result{}, fmt.Errorf("not through within %v", r.limit())
	}
	if err != nil && len(out) == 0 {
		return result{}, err
	}
	res, err := parse(out)
	if err != nil {
		return result{}, err
	}
	if c.trail != nil && res.errors > 0 {
		steps, err := call(ctx, dir, "spin", append(r.flags(), "-t", "-p", "-g", "-l", file)...)
		if err != nil {
			return result{}, err
		}
		if _, err := fmt.Fprintf(c.trail, "%s: %s\n%s", r.name, res.found, steps); err != nil {
			return result{}, fmt.Errorf("printing the steps: %w", err)
		}
	}
	return res, nil
}

// file is a model's name in the folder of its run.
const file = "model.pml"

// call runs a program in dir to its end, or until ctx ends. Beside an error it
// returns what the program has said.
func call(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", name, err, firstLine(out))
	}
	return out, nil
}

func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

var (
	errorsFound  = regexp.MustCompile(`errors: (\d+)`)
	statesStored = regexp.MustCompile(`(?m)^\s*([\d.e+]+) states, stored`)
	memoryUsed   = regexp.MustCompile(`(?m)^\s*([\d.]+)\s+total actual memory usage`)
)

// ways are how a search may go wrong, by what pan says.
var ways = []string{"assertion violated", "invalid end state", "acceptance cycle", "non-progress cycle"}

// parse reads what pan has printed.
func parse(out []byte) (result, error) {
	text := string(out)
	m := errorsFound.FindStringSubmatch(text)
	if m == nil {
		return result{}, fmt.Errorf("pan has said nothing of errors: %s", firstLine(out))
	}
	res := result{found: "holds"}
	var err error
	if res.errors, err = strconv.Atoi(m[1]); err != nil {
		return result{}, fmt.Errorf("counting errors: %w", err)
	}
	if m := statesStored.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseFloat(m[1], 64) // large numbers come as 1.2e+07
		if err != nil {
			return result{}, fmt.Errorf("counting states: %w", err)
		}
		res.states = int64(n)
	}
	if m := memoryUsed.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return result{}, fmt.Errorf("reading the memory's size: %w", err)
		}
		res.megabytes = int64(n)
	}
	for _, bad := range []string{"max search depth too small", "reached -DMEMLIM bound", "out of memory"} {
		if strings.Contains(text, bad) {
			res.partial = bad
		}
	}
	if res.errors == 0 {
		return res, nil
	}
	first, _, _ := strings.Cut(text[strings.Index(text, "pan:")+1:], "\n")
	for _, way := range ways {
		if strings.Contains(first, way) {
			res.found = way
			return res, nil
		}
	}
	return result{}, errors.New("pan has found an error of a kind that is not known here: " + first)
}
