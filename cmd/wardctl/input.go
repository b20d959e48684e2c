package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/trust/finding"
)

// errStatus is returned where what was found is printed and only the exit
// status is left to tell.
func errStatus(fs []finding.Finding, decided bool) error {
	switch {
	case !decided:
		return cli.Quiet(cli.NotDecided)
	case len(fs) > 0:
		return cli.Quiet(cli.Findings)
	}
	return nil
}

// openInput opens the file that a verb was given; "-" is standard input.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	return f, nil
}

// unreadable is the error about input that cannot be read at all.
func unreadable(name string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if name == "-" {
		name = "standard input"
	}
	return cli.Fail(cli.Usage, "read %s: %w", name, err)
}
