// Command wardfleet: wardfleet is the fleet backend: it receives the events of devices, verifies their form and chain, and signs receipts.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ward/internal/cli"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the program: its arguments in, its exit status out.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	return cli.Status(os.Stderr, "wardfleet", root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wardfleet",
		Short:         "The fleet's side: receive, verify and confirm what devices report",
		Long:          "wardfleet is the fleet backend: it receives the events of devices, verifies their form and chain, and signs receipts.\n\nExit status: 0 good, 1 findings, 2 bad usage or unreadable input, 3 could not decide.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(verbs()...)
	return root
}
