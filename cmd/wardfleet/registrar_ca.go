package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/fleet/issue"
)

func newRegistrarCA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "An issuing authority for laboratories",
	}
	cmd.AddCommand(newRegistrarCAInit())
	return cmd
}

func newRegistrarCAInit() *cobra.Command {
	var dir, name string
	var servers []string
	cmd := &cobra.Command{
		Use:   "init --dir DIR --name NAME [--server NAME]",
		Short: "Make a root that issues, for a laboratory",
		Long: "Make a root that issues, P-256, for a laboratory: DIR/ca.crt and DIR/ca.key (PKCS #8, unencrypted, mode 0600), and for\n" +
			"each --server DIR/NAME.crt and DIR/NAME.key, as registrar and broker need them. Existing files are never replaced.\n\n" +
			"A product's authority does not belong into a file: its key belongs into an HSM, behind an EST server (--upstream-est).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := issue.MakeCA(time.Now(), dir, name, servers); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "made %s for a laboratory; a product's authority belongs into an HSM, behind an EST server\n", filepath.Join(dir, issue.CACertFile))
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "the folder, `DIR`")
	flags.StringVar(&name, "name", "", "the authority's `NAME`")
	flags.StringArrayVar(&servers, "server", nil, "make a certificate for the server at this host `NAME` or address too (may be repeated)")
	required(cmd, "dir", "name")
	return cmd
}
