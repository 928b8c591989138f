// Command release builds what is published of a version: for each platform an
// archive with the programs, the manuals and what is needed to install and watch
// them, and a list of what they are made of (CycloneDX); the chart; and checksums
// of all. Built twice from one commit with one version of Go, they are the same
// to the byte. It builds nothing where the version, the chart, the changelog and
// the manuals contradict each other.
//
// It neither tags nor uploads anything.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type cli struct {
	Root  string   `name:"root" default:"." type:"existingdir" help:"The module's root."`
	Out   string   `name:"out" default:"dist" help:"Where everything goes; what is there from before is overwritten."`
	Epoch int64    `name:"epoch" env:"SOURCE_DATE_EPOCH" required:"" help:"The time that everything is given, in seconds since 1970: that of the commit."`
	On    []string `name:"on" default:"linux/amd64,linux/arm64,darwin/amd64,darwin/arm64" help:"Platforms."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("release"), kong.Description("Build what is published of a version."))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = c.release(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		return 1
	}
	return 0
}

func (c *cli) release(ctx context.Context) error {
	version, err := versionOf(ctx, c.Root)
	if err != nil {
		return err
	}
	if err := check(ctx, c.Root, version); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	at := time.Unix(c.Epoch, 0).UTC()
	var made []string
	for _, on := range c.On {
		files, err := c.platform(ctx, version, on, at)
		if err != nil {
			return fmt.Errorf("%s: %w", on, err)
		}
		made = append(made, files...)
	}
	chart := filepath.Join(c.Out, "catbird-"+version+".tgz")
	if err := packChart(chart, filepath.Join(c.Root, filepath.FromSlash(chartFolder)), version, at); err != nil {
		return fmt.Errorf("packing the chart: %w", err)
	}
	made = append(made, chart)
	if err := writeSums(filepath.Join(c.Out, "SHA256SUMS"), made); err != nil {
		return fmt.Errorf("writing the checksums: %w", err)
	}
	for _, name := range append(made, filepath.Join(c.Out, "SHA256SUMS")) {
		fmt.Println(name)
	}
	return nil
}

// platform builds the archive of one platform and the list of its parts.
func (c *cli) platform(ctx context.Context, version, on string, at time.Time) ([]string, error) {
	work, err := os.MkdirTemp("", "catbird-release-")
	if err != nil {
		return nil, fmt.Errorf("making a folder to build in: %w", err)
	}
	defer os.RemoveAll(work) // what is left in the system's folder for such things harms nobody
	binaries, err := build(ctx, c.Root, work, on, version)
	if err != nil {
		return nil, err
	}
	name := archiveName(version, on)
	archive := filepath.Join(c.Out, name+".tar.gz")
	entries, err := entriesOf(name, c.Root, version, binaries)
	if err != nil {
		return nil, err
	}
	if err := writeArchive(archive, entries, at); err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	parts := filepath.Join(c.Out, name+".cdx.json")
	if err := writeBOM(parts, version, binaries, at); err != nil {
		return nil, fmt.Errorf("writing the list of parts: %w", err)
	}
	return []string{archive, parts}, nil
}
