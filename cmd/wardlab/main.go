// Command wardlab: wardlab builds the reference device, boots it in QEMU with a software TPM, runs it against a real broker and attacks it. It is never shipped.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"ward/internal/command"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the program: its arguments in, its exit status out.
func run(args []string) int { return command.Run(newRoot(), args) }

func newRoot() *cobra.Command {
	return command.Root("wardlab", "Build, boot and attack the virtual reference device",
		"wardlab builds the reference device, boots it in QEMU with a software TPM, runs it against a real broker and attacks it. It is never shipped.",
		verbs()...)
}
