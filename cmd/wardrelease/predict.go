package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// maxImage bounds a unified kernel image, in bytes; those of devices have some
// ten to a hundred MiB.
const maxImage = 512 << 20

// predict computes the boot of an image from a profile.
func predict(profile release.Boot, image string) (release.Boot, error) {
	b, err := readFile(image, maxImage)
	if err != nil {
		return release.Boot{}, err
	}
	boot, err := release.Predict(profile, b)
	if err != nil {
		return release.Boot{}, fmt.Errorf("%s: %w", image, err)
	}
	return boot, nil
}

func newPredict() *cobra.Command {
	var profile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "predict IMAGE",
		Short: "Compute the registers of a kernel image that no device has booted yet",
		Long: "Compute the exact registers of a boot of a unified kernel image. Those that depend on the image (4, 9, 11) come from its bytes, the others from the manifest of another release on the same board and firmware.\n" +
			"Signed and unsigned images give the same: a signature is not part of what is measured of an image.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readFile(profile, maxManifest)
			if err != nil {
				return err
			}
			m, err := release.Parse(text)
			if err != nil {
				return fmt.Errorf("%s: %w: want a manifest as build writes it, before it is signed", profile, err)
			}
			boot, err := predict(m.Boot, args[0])
			if err != nil {
				return err
			}
			return printPrediction(cmd.OutOrStdout(), boot, asJSON)
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "", "manifest `FILE` of another release on the same board and firmware, unsigned")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print {\"sha256\":{\"4\":\"hex\"}}, as build takes it for --learn-pcrs")
	cmd.MarkFlagRequired("profile")
	return cmd
}

func printPrediction(w io.Writer, boot release.Boot, asJSON bool) error {
	values := make(pcr.Values)
	for n, ref := range boot.PCRs {
		if ref.Mode == release.Exact {
			values[n] = ref.Values[0]
		}
	}
	if asJSON {
		return cli.JSON(w, map[string]pcr.Values{boot.Bank: values})
	}
	for _, n := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(w, "%-3d %s\n", n, values[n])
	}
	return nil
}
