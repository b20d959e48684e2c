// Command wardlab: wardlab builds the reference device, boots it in QEMU with a software TPM, runs it against a real broker and attacks it. It is never shipped.
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
	return cli.Status(os.Stderr, "wardlab", root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wardlab",
		Short:         "Build, boot and attack the virtual reference device",
		Long:          "wardlab builds the reference device, boots it in QEMU with a software TPM, runs it against a real broker and attacks it. It is never shipped.\n\nExit status: 0 good, 1 findings, 2 bad usage or unreadable input, 3 could not decide.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(verbs()...)
	return root
}
