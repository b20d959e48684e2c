// Package cli is the command line contract that all of Ward's programs share:
// exit status, errors in one line, and JSON output.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit statuses of every verb.
const (
	Good       = 0 // it was looked at and nothing is wrong
	Findings   = 1 // it was looked at and something is wrong
	Usage      = 2 // bad usage, or input that cannot be read at all
	NotDecided = 3 // it could not be decided; this is not a pass
)

// Exit is an error that carries an exit status. Silent ones were already
// explained on standard output.
type Exit struct {
	Status int
	Err    error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// Fail makes an error with an exit status.
func Fail(status int, format string, args ...any) error {
	return &Exit{Status: status, Err: fmt.Errorf(format, args...)}
}

// Quiet makes an error whose reason was already printed.
func Quiet(status int) error {
	if status == Good {
		return nil
	}
	return &Exit{Status: status}
}

// Status prints the error as one line on w and returns the exit status: 0 for
// nil, the carried status of an Exit, 2 for everything else.
func Status(w io.Writer, program string, err error) int {
	if err == nil {
		return Good
	}
	var e *Exit
	status := Usage
	if errors.As(err, &e) {
		status = e.Status
		if e.Err == nil {
			return status
		}
	}
	fmt.Fprintf(w, "%s: %s\n", program, strings.ReplaceAll(err.Error(), "\n", " "))
	return status
}

// JSON writes v as indented JSON with a newline.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
