package main

import (
	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/approval"
	"ward/cmd/wardrelease/bill"
	"ward/cmd/wardrelease/rootfs"
	"ward/cmd/wardrelease/running"
)

// verbs lists the program's verbs; each is made in a file of its own name.
func verbs() []*cobra.Command {
	return []*cobra.Command{rootfs.NewBaseline(), newBuild(), newExplain(), newInspect(), newKeygen(), newLearn(), approval.New(), running.NewPosture(), newPredict(), bill.New(), newSign()}
}
