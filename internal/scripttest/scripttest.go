// Package scripttest holds what the txtar scripts of all programs share
// (github.com/rogpeppe/go-internal/testscript).
package scripttest

import (
	"errors"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// Status is the script command "status N program [args]": it runs the program
// and wants the exit status N.
func Status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [args]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit interface{ ExitCode() int }
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}
