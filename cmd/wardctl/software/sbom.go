package software

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/trust/event"
)

// NewSBOM makes the verb sbom.
func NewSBOM(socket string) *cobra.Command {
	var from source
	var running, asJSON bool
	cmd := &cobra.Command{
		Use:   "sbom",
		Short: "Print the image's software bill of materials, or the components that ran",
		Long: `Print the image's software bill of materials as the manufacturer made it, if its
digest is the one that the signed release names. With --running, list the
components that have run since the boot instead, a line each; the others are
installed and dormant. With --json, say as JSON which SBOM it is and which
components ran.

Exit status: 0 it is printed, 1 the file is not the one that the release names,
3 there is none, the release cannot be verified, or which components ran is not
known.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := from.ask(cmd)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case asJSON:
				if err := cli.JSON(out, t); err != nil {
					return err
				}
				if !t.Known {
					return cli.Quiet(cli.NotDecided)
				}
				return nil
			case !t.Release.Verified:
				return cli.Fail(cli.NotDecided, "the release cannot be verified: see 'wardctl versions'")
			case running:
				return t.printRunning(out)
			}
			return t.printSBOM(out)
		},
	}
	from.flags(cmd, socket)
	cmd.Flags().BoolVar(&running, "running", false, "list the components that ran since the boot")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (t told) printRunning(w io.Writer) error {
	if !t.Known {
		return cli.Fail(cli.NotDecided, "which components ran is not known: %s", event.Visible(t.Reason))
	}
	for _, c := range t.Running {
		if _, err := fmt.Fprintln(w, event.Visible(c)); err != nil {
			return err
		}
	}
	return nil
}

// printSBOM prints the file once its digest is known, and holds what it printed
// against the digest again.
func (t told) printSBOM(w io.Writer) error {
	if t.SBOM == nil {
		return cli.Fail(cli.NotDecided, "the release names no SBOM")
	}
	if t.SBOM.Path == "" {
		return cli.Fail(cli.NotDecided, "the release's SBOM (%s, SHA-256 %s) is not on this device: ask the manufacturer", t.SBOM.MediaType, t.SBOM.Digest)
	}
	f, err := os.Open(t.SBOM.Path)
	if err != nil {
		return cli.Fail(cli.NotDecided, "read SBOM: %w", err)
	}
	defer f.Close()
	for _, out := range []io.Writer{io.Discard, w} {
		h := sha256.New()
		_, err := f.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(io.MultiWriter(h, out), f)
		}
		if err != nil {
			return cli.Fail(cli.NotDecided, "read SBOM: %w", err)
		}
		if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != t.SBOM.Digest {
			return &cli.Exit{Status: cli.Findings, Err: errors.New(t.SBOM.Path + " is not the SBOM of the release: its SHA-256 is " + sum + ", the release names " + t.SBOM.Digest)}
		}
	}
	return nil
}
