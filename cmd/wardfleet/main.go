// Command wardfleet: wardfleet is the fleet backend: it receives the events of devices, verifies their form and chain, and signs receipts.
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
	return command.Root("wardfleet", "The fleet's side: receive, verify and confirm what devices report",
		"wardfleet is the fleet backend: it receives the events of devices, verifies their form and chain, and signs receipts.",
		verbs()...)
}
