// Command wardfleet: wardfleet is the fleet backend: it enrols devices, receives their events, verifies their form and chain, and signs receipts.
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
	return command.Root("wardfleet", "The fleet's side: enrol devices; receive, verify and confirm what they report",
		"wardfleet is the fleet backend: it enrols devices, receives their events, verifies their form and chain, and signs receipts.",
		verbs()...)
}
