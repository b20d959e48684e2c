package main

import (
	"flag"
	"fmt"
	"io"

	"ward/internal/cli"
	"ward/internal/format/recovery"
)

const recoveryHelp = `Usage: wardunlock recovery <TYPED

Reads the recovery key that was printed at manufacture as somebody typed it, eight
groups of six digits, names the group with a typing error, and writes the
passphrase without a line's end, as cryptsetup's --key-file=- takes it:

  wardunlock recovery | cryptsetup open --key-file=- PARTITION NAME
`

// maxTyped bounds what is read, in bytes: a key takes 56.
const maxTyped = 4 << 10

func runRecovery(flags *flag.FlagSet, args []string, in io.Reader, out io.Writer) error {
	flags.Usage = func() { fmt.Fprint(flags.Output(), recoveryHelp, statuses) }
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return cli.Fail(cli.Usage, "unexpected argument: a key on the command line could be read by others; type it on standard input")
	}
	typed, err := io.ReadAll(io.LimitReader(in, maxTyped))
	if err != nil {
		return fmt.Errorf("read recovery key: %w", err)
	}
	key, err := recovery.Parse(typed)
	if err != nil {
		return fmt.Errorf("read recovery key: %w", err)
	}
	_, err = io.WriteString(out, key.String())
	return err
}
