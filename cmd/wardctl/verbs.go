package main

import (
	"github.com/spf13/cobra"

	"ward/cmd/wardctl/factory"
	"ward/cmd/wardctl/filescan"
	"ward/cmd/wardctl/findings"
	"ward/cmd/wardctl/identity"
	"ward/cmd/wardctl/logs"
	"ward/cmd/wardctl/proof"
	"ward/cmd/wardctl/record"
)

// verbs lists the program's verbs; each is made in a file of its own name.
func verbs() []*cobra.Command {
	return []*cobra.Command{
		newStatus(), record.NewEvents(defaultSocket), record.NewJournal(defaultSocket), findings.NewAcknowledge(defaultSocket), findings.NewExplain(), newUpdate(), filescan.New(defaultSocket), logs.NewEventLog(), logs.NewIMA(), proof.NewEvidence(),
		identity.New(defaultSocket), factory.NewProvision(), factory.NewDecommission(),
	}
}
