package rootfs

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
)

// newDiff makes the verb that compares two baselines.
func newDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Print what differs between two file baselines",
		Long: "Print what differs between two file baselines, one line for each path: what is changed, with the old and the new value, missing from NEW, or new in it. Flags and components are compared, too.\n" +
			"The exit status is 1 when something differs.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := printDiff(cmd.OutOrStdout(), args[0], args[1])
			if err != nil {
				return err
			}
			if n > 0 {
				return cli.Quiet(cli.Findings)
			}
			return nil
		},
	}
}

// printDiff prints the differences and counts them.
func printDiff(w io.Writer, oldFile, newFile string) (int, error) {
	before, closeOld, err := open(oldFile)
	if err != nil {
		return 0, err
	}
	defer closeOld()
	after, closeNew, err := open(newFile)
	if err != nil {
		return 0, err
	}
	defer closeNew()
	n := 0
	err = diff.Releases(before, after, func(d diff.Difference) {
		n++
		fmt.Fprintln(w, d)
	})
	if err != nil {
		return n, fmt.Errorf("compare %s with %s: %w", oldFile, newFile, err)
	}
	return n, nil
}

func open(file string) (*baseline.Reader, func() error, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	r, err := baseline.NewReader(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, f.Close, nil
}
