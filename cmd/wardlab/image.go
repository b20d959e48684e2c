package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/lab"
	"ward/internal/lab/image"
)

func newImage() *cobra.Command {
	var check, asJSON bool
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build the reference device: kernel image, root file system, keys, disk",
		Long: `image builds everything that the virtual device is made of, without root, and
keeps it under .lab/ by the content of its inputs: a second run builds only what
has changed. With --check-reproducible it builds twice from an empty cache and
compares the bytes; signatures are left out.`,
		Example: "  wardlab image\n  wardlab image --check-reproducible",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if check {
				return checkReproducible(cmd, l, asJSON)
			}
			img, err := l.Build(cmd.Context())
			if err != nil {
				return err
			}
			return printImage(cmd, img, asJSON)
		},
	}
	cmd.Flags().BoolVar(&check, "check-reproducible", false, "build twice and compare; status 1 when bytes differ")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkReproducible(cmd *cobra.Command, l *lab.Lab, asJSON bool) error {
	list, err := l.CheckReproducible(cmd.Context())
	if err != nil {
		return err
	}
	differ := 0
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, c := range list {
		verdict := "same"
		if !c.Same() {
			verdict = "DIFFERS"
			differ++
		}
		if !asJSON {
			fmt.Fprintf(w, "%s\t%d bytes\t%s\t%s\n", verdict, c.Size, c.First[:16], c.Name)
		}
	}
	if asJSON {
		err = cli.JSON(cmd.OutOrStdout(), map[string]any{"artefacts": list, "differ": differ})
	} else {
		err = w.Flush()
	}
	if err == nil && differ > 0 {
		err = cli.Fail(cli.Findings, "%d of %d artefacts differ between two builds", differ, len(list))
	}
	return err
}

func printImage(cmd *cobra.Command, img *image.Image, asJSON bool) error {
	if asJSON {
		return cli.JSON(cmd.OutOrStdout(), map[string]any{
			"board": img.Board.Name, "version": img.Version, "kernel": img.KernelVersion,
			"rootHash": img.RootHash, "digest": img.Digest, "rootTree": img.RootTree,
			"rootFS": img.RootFS, "hashTree": img.HashTree, "initramfs": img.Initramfs,
			"variables": img.Variables, "firmware": img.Firmware, "kernelImages": img.UKIs,
		})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"board", img.Board.Name},
		{"kernel", img.KernelVersion},
		{"root hash", img.RootHash},
		{"image digest", img.Digest},
		{"root file system", describe(img.RootFS)},
		{"initramfs", describe(img.Initramfs)},
		{"kernel image", describe(img.UKIs[image.Release].Path)},
		{"  with debug words", describe(img.UKIs[image.Debug].Path)},
		{"  unsigned", describe(img.UKIs[image.Unsigned].Path)},
		{"variable store", describe(img.Variables)},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	return w.Flush()
}

// describe is a file's size and its path from the working directory.
func describe(path string) string {
	shown := path
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil {
			shown = rel
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return shown
	}
	return fmt.Sprintf("%5.1f MiB  %s", float64(st.Size())/(1<<20), shown)
}
