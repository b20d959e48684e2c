// Command longlist makes the kernel's measurement list long, by running programs
// that are in no release, and measures what reading its end costs at different
// lengths: on a descriptor that was kept, on a fresh one, and of the count. It
// runs inside the virtual device only, as root.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "longlist:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var all []Cost
	for _, arg := range args {
		entries, err := strconv.Atoi(arg)
		if err != nil {
			return fmt.Errorf("length %q: want a number of entries", arg)
		}
		if err := grow(entries); err != nil {
			return err
		}
		c, err := measure()
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}
