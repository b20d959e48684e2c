// Command intruder runs only inside the virtual device: it does there what an
// attacker or a fault does, one verb for each, as far as the commands of the
// device's user land cannot. Verbs that last end after a
// minute, or when they are killed.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// lasting is how long a verb that waits may take.
const lasting = time.Minute

var verbs = map[string]struct {
	args string
	run  func(args []string) error
}{
	"listen":  {"PORT", func(a []string) error { return listen(a[0]) }},
	"violate": {"FILE", func(a []string) error { return violate(a[0]) }},
	"flood":   {"DIR COUNT", func(a []string) error { return flood(a[0], a[1]) }},
	"corrupt": {"LABEL DM-DEVICE", func(a []string) error { return corrupt(a[0], a[1]) }},
	"setuid":  {"FILE", func(a []string) error { return os.Chmod(a[0], 0o755|os.ModeSetuid) }},
	"load":    {"FILE", func(a []string) error { return load(a[0]) }},
	"open":    {"MOUNTPOINT", func(a []string) error { return remount(a[0], 0) }},
	"protect": {"MOUNTPOINT", func(a []string) error { return remount(a[0], unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC) }},
	"signal":  {"PID NUMBER", func(a []string) error { return signal(a[0], a[1]) }},
	"trace":   {"PID", func(a []string) error { return trace(a[0]) }},
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	v, ok := verbs[os.Args[1]]
	if !ok {
		usage()
	}
	want := 1
	for _, c := range v.args {
		if c == ' ' {
			want++
		}
	}
	if len(os.Args) != 2+want {
		usage()
	}
	if err := v.run(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "intruder: %s: %v\n", os.Args[1], err)
		os.Exit(3)
	}
}

func usage() {
	for name, v := range verbs {
		fmt.Fprintf(os.Stderr, "usage: intruder %s %s\n", name, v.args)
	}
	os.Exit(2)
}

// wait says that the verb has done its part and stays until it is killed.
func wait() {
	fmt.Println("ready")
	time.Sleep(lasting)
}

func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q: want a number", s)
	}
	return n, nil
}
