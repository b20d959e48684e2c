// Command wardrelease: wardrelease runs on the build host: it makes the file baseline and the release manifest, signs it and shows what it says.
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
	return command.Root("wardrelease", "Make, sign and inspect the release manifest of a device image",
		"wardrelease runs on the build host: it makes the file baseline and the release manifest, signs it and shows what it says.",
		verbs()...)
}
