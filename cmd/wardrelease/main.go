// Command wardrelease: wardrelease runs on the build host: it makes the file baseline and the release manifest, signs it and shows what it says.
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
	return cli.Status(os.Stderr, "wardrelease", root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wardrelease",
		Short:         "Make, sign and inspect the release manifest of a device image",
		Long:          "wardrelease runs on the build host: it makes the file baseline and the release manifest, signs it and shows what it says.\n\nExit status: 0 good, 1 findings, 2 bad usage or unreadable input, 3 could not decide.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(verbs()...)
	return root
}
