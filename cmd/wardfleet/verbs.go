package main

import "github.com/spf13/cobra"

// verbs lists the program's verbs; each is made in a file of its own name, those for keys
// in keygen.go and rotate.go, those that decide on a device in devices_decide.go.
func verbs() []*cobra.Command {
	return []*cobra.Command{newChallenge(), newComponents(), newDevices(), newListen(), newReceipt(), newRegistrar()}
}
