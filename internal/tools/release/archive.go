package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name string // in the archive, with slashes
	file string // what it holds, unless data is set
	data []byte
	mode int64
}

// writeArchive writes a gzipped tar of entries in their order. It depends on
// their names, modes and contents and on at, and on nothing else of the files.
func writeArchive(target string, entries []entry, at time.Time) (err error) {
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, e := range entries {
		if err := e.write(t, at); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func (e entry) write(t *tar.Writer, at time.Time) error {
	data, err := e.data, error(nil)
	if data == nil {
		data, err = os.ReadFile(e.file)
	}
	if err != nil {
		return err
	}
	err = t.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(data)), Mode: e.mode, ModTime: at, Format: tar.FormatUSTAR,
	})
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	return err
}

// writeSums writes the SHA-256 of files as sha256sum does, by their names alone.
func writeSums(target string, files []string) error {
	var lines []string
	for _, name := range files {
		sum, err := sumOf(name)
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", sum, filepath.Base(name)))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2*sha256.Size:], b[2*sha256.Size:]) })
	return os.WriteFile(target, []byte(strings.Join(lines, "")), 0o644)
}

func sumOf(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
