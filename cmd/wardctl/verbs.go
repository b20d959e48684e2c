package main

import (
	"github.com/spf13/cobra"

	"ward/cmd/wardctl/access"
	"ward/cmd/wardctl/factory"
	"ward/cmd/wardctl/filescan"
	"ward/cmd/wardctl/findings"
	"ward/cmd/wardctl/identity"
	"ward/cmd/wardctl/logs"
	"ward/cmd/wardctl/posture"
	"ward/cmd/wardctl/proof"
	"ward/cmd/wardctl/record"
	"ward/cmd/wardctl/software"
)

// verbs lists the program's verbs; each is made in a file of its own name.
func verbs() []*cobra.Command {
	return []*cobra.Command{
		newStatus(), record.NewEvents(defaultSocket), record.NewJournal(defaultSocket), findings.NewAcknowledge(defaultSocket), findings.NewExplain(), findings.NewNames(defaultSocket), newUpdate(), filescan.New(defaultSocket), posture.New(defaultSocket), logs.NewEventLog(), logs.NewIMA(), proof.NewEvidence(),
		identity.New(defaultSocket), software.NewVersions(defaultSocket), software.NewSBOM(defaultSocket), factory.NewProvision(), factory.NewDecommission(),
		access.NewServiceMode(defaultSocket), access.NewBreakGlass(defaultSocket), access.NewLease(defaultSocket),
	}
}
