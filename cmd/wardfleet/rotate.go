package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/fleet/ingest"
	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

// newRotate makes the verb that gives a key of a use its successor.
func newRotate(use rotation.Use) *cobra.Command {
	var old, heir, out string
	var serial int
	cmd := &cobra.Command{
		Use:   "rotate --old KEY.pem --new PUBLIC.pem --serial N --out FILE",
		Short: fmt.Sprintf("Sign that a new %s key takes the place of the old one", use),
		Long: fmt.Sprintf("Sign, with the old %[1]s key, that a new one takes its place. It needs no network; the new private key may lie elsewhere.\n"+
			"FILE is for wardfleet listen --rotation, which sends it to devices and signs with the new key. A device that has followed it\n"+
			"accepts the old key no more. Keep every rotation until all devices run a release whose anchors hold the new key.\n"+
			"An existing file is never replaced.", use),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := rotate(use, old, heir, serial, out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s key %s gives way to %s, serial %d\n", use, from, to, serial)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&old, "old", "", "the old private key, PEM `FILE`")
	flags.StringVar(&heir, "new", "", "the new public key, PEM `FILE`")
	flags.IntVar(&serial, "serial", 0, "1 for the first successor of a released key, one more for each after it")
	flags.StringVar(&out, "out", "", "write the rotation to `FILE`")
	for _, name := range []string{"old", "new", "serial", "out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

// rotate writes the rotation and returns the ids of both keys.
func rotate(use rotation.Use, oldPath, newPath string, serial int, out string) (from, to string, err error) {
	old, err := ingest.LoadKey("old key", oldPath)
	if err != nil {
		return "", "", err
	}
	heir, err := ingest.LoadPublicKey("new key", newPath)
	if err != nil {
		return "", "", err
	}
	envelope, err := rotation.Sign(use, serial, old, heir, time.Now())
	if err != nil {
		return "", "", err
	}
	if from, err = dsse.KeyID(old.Public()); err != nil {
		return "", "", err
	}
	if to, err = dsse.KeyID(heir); err != nil {
		return "", "", err
	}
	return from, to, writeNew(out, 0o644, envelope)
}
