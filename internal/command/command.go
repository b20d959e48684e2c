// Package command is what the programs with verbs share: the root command, and
// the way from an error to an exit status. wardd has no verbs and does not link
// it.
package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ward/internal/cli"
)

// exitStatuses ends every program's long help.
const exitStatuses = "\n\nExit status: 0 good, 1 findings, 2 bad usage or unreadable input, 3 could not decide."

// Root makes a program's root command.
func Root(name, short, long string, verbs ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{Use: name, Short: short, Long: long + exitStatuses, SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(verbs...)
	return root
}

// Run runs a program with its arguments and returns its exit status. SIGINT and
// SIGTERM end it in order.
func Run(root *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SetArgs(args)
	return cli.Status(os.Stderr, root.Name(), root.ExecuteContext(ctx))
}
