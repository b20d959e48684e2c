// Command wardctl: wardctl is the field engineer's tool: it asks the running daemon through its local socket, and reads event logs, measurement lists and journals from files on any machine.
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
	return cli.Status(os.Stderr, "wardctl", root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wardctl",
		Short:         "Ask a device's security daemon, and read its logs and records off-line",
		Long:          "wardctl is the field engineer's tool: it asks the running daemon through its local socket, and reads event logs, measurement lists and journals from files on any machine.\n\nExit status: 0 good, 1 findings, 2 bad usage or unreadable input, 3 could not decide.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(verbs()...)
	return root
}
