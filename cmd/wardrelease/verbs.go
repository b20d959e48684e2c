package main

import (
	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/approval"
	"ward/cmd/wardrelease/running"
)

// verbs lists the program's verbs; each is made in a file of its own name.
func verbs() []*cobra.Command {
	return []*cobra.Command{newBaseline(), newBuild(), newExplain(), newInspect(), newKeygen(), newLearn(), approval.New(), running.NewPosture(), newPredict(), newSign()}
}
