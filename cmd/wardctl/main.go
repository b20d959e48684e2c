// Command wardctl: wardctl is the field engineer's tool: it asks the running daemon through its local socket, and reads event logs, measurement lists and journals from files on any machine.
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
	return command.Root("wardctl", "Ask a device's security daemon, and read its logs and records off-line",
		"wardctl is the field engineer's tool: it asks the running daemon through its local socket, and reads event logs, measurement lists and journals from files on any machine.",
		verbs()...)
}
