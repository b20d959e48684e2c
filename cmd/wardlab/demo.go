package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/lab"
	"ward/internal/lab/timeline"
	"ward/internal/lab/works"
)

// openLab opens the lab of the clone that the command runs in.
func openLab(w io.Writer) (*lab.Lab, error) {
	root, err := works.ModuleRoot(".")
	if err != nil {
		return nil, err
	}
	return lab.Open(root, timeline.New(w))
}

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Run the main job: build, sign, manufacture, boot, report, and three attacks",
		Long: `Build the image, sign its release, manufacture a virtual device, boot it under
Secure Boot against a real broker, and attack it three times. Prints a timeline
and a table.

Exit status: 0 everything was seen, 1 an attack was not seen as it must be,
3 the demonstration could not be run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			if err := l.Demo(cmd.Context(), cmd.OutOrStdout()); err != nil {
				return &cli.Exit{Status: cli.Findings, Err: err}
			}
			return nil
		},
	}
}

func newDrill() *cobra.Command {
	var list bool
	cmd := &cobra.Command{
		Use:   "drill [NAME...]",
		Short: "Attack a virtual device and check what the fleet sees; all drills without a name",
		Long: `Attack a virtual device and check what the fleet sees. Each drill has a device,
a broker and a backend of its own.

Exit status: 0 every drill passed, 1 one failed, 2 there is no such drill.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			out := cmd.OutOrStdout()
			if list {
				for _, d := range lab.Drills() {
					fmt.Fprintf(out, "%-22s %s\n", d.Name, d.Title)
				}
				return nil
			}
			l, err := openLab(out)
			if err != nil {
				return err
			}
			failed, err := l.RunDrills(cmd.Context(), out, names)
			if err != nil {
				return err
			}
			if failed > 0 {
				return cli.Quiet(cli.Findings)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the drills and run none")
	return cmd
}
