package console

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/trust/finding"
)

// Status is returned where what was found is printed and only the exit
// status is left to tell.
func Status(fs []finding.Finding, decided bool) error {
	switch {
	case !decided:
		return cli.Quiet(cli.NotDecided)
	case len(fs) > 0:
		return cli.Quiet(cli.Findings)
	}
	return nil
}

// OpenInput opens the file that a verb was given; "-" is standard input.
func OpenInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, Unreadable(name, err)
	}
	return f, nil
}

// Unreadable is the error about input that cannot be read at all.
func Unreadable(name string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if name == "-" {
		name = "standard input"
	}
	return cli.Fail(cli.Usage, "read %s: %w", name, err)
}

// ReadAll reads a whole file within a bound.
func ReadAll(cmd *cobra.Command, name string, most int64) ([]byte, error) {
	in, err := OpenInput(cmd, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, Unreadable(name, err)
	case int64(len(b)) > most:
		return nil, Unreadable(name, fmt.Errorf("at offset %d: longer than anything of its kind", most))
	}
	return b, nil
}
