package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// crashSigns begin the lines that the Go runtime writes when a process of ours
// has done what none should ever do.
var crashSigns = [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("WARNING: DATA RACE")}

// checkNodes looks through what the nodes said, in files of dir, for crashes.
func checkNodes(dir string) (found []Finding, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		sign, err := firstCrash(file)
		if err != nil {
			return nil, fmt.Errorf("reading what a node said: %w", err)
		}
		if sign != "" {
			found = append(found, Finding{Rule: "no node crashes by itself", Text: filepath.Base(file) + ": " + sign, Files: []string{file}})
		}
	}
	return found, nil
}

func firstCrash(file string) (line string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for r := bufio.NewReaderSize(f, 64<<10); ; {
		text, err := r.ReadSlice('\n')
		for _, sign := range crashSigns {
			if bytes.HasPrefix(text, sign) {
				return string(bytes.TrimSpace(text)), nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return "", nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}
