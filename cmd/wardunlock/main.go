// Command wardunlock gives the early boot the keys of the device's encrypted
// volumes: it reads the sealed key from a volume's own header and has the TPM
// open it, in the boot state that the manufacturer approved where the key is
// bound to one. It runs before the device's init and maps and mounts nothing
// itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"ward/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// verb is one thing that the program does.
type verb struct {
	name, arguments, help string
	run                   func(flags *flag.FlagSet, args []string, in io.Reader, out io.Writer) error
}

var verbs = []verb{
	{"key", "--device PARTITION [--release FILE]", "write a volume's key to standard output", runKey},
	{"recovery", "<TYPED", "check a recovery key that somebody typed, and write the passphrase", runRecovery},
}

const statuses = `
Exit status: 0 the key was written; 1 refused: another boot state, a release
that is locked out, another or a cleared TPM, a volume that is not Ward's; 2 bad
usage or input; 3 no decision: no TPM, or it does not answer.
`

func usage(w io.Writer) {
	fmt.Fprintln(w, "wardunlock: keys of the device's encrypted volumes, for the early boot")
	fmt.Fprintln(w)
	for _, v := range verbs {
		fmt.Fprintf(w, "  wardunlock %s %s\n      %s\n", v.name, v.arguments, v.help)
	}
	fmt.Fprint(w, "\nwardunlock VERB --help tells more.\n", statuses)
}

// run is the program: arguments and streams in, exit status out.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	if len(args) == 0 {
		usage(errs)
		return cli.Usage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(out)
		return cli.Good
	}
	for _, v := range verbs {
		if v.name != args[0] {
			continue
		}
		flags := flag.NewFlagSet("wardunlock "+v.name, flag.ContinueOnError)
		flags.SetOutput(errs)
		err := v.run(flags, args[1:], in, out)
		if errors.Is(err, flag.ErrHelp) {
			return cli.Good
		}
		return cli.Status(errs, "wardunlock", err)
	}
	fmt.Fprintf(errs, "wardunlock: no verb %q; see wardunlock --help\n", args[0])
	return cli.Usage
}
