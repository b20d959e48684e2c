// Package access has the verbs of wardctl about who works on a device: service mode,
// emergency access and the therapy lease. They ask the running daemon.
package access

import (
	"errors"
	"net/http"
	"time"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
)

// refused gives what the daemon does not do its exit status: what was asked wrongly, or
// not by whom it is for, is bad usage; what is so on the device is a finding.
func refused(err error, socket string) error {
	var refusal *localapi.Refusal
	if !errors.As(err, &refusal) {
		return console.Down(err, socket)
	}
	status := cli.NotDecided
	switch refusal.Status {
	case http.StatusConflict:
		status = cli.Findings
	case http.StatusForbidden, http.StatusBadRequest:
		status = cli.Usage
	}
	return &cli.Exit{Status: status, Err: err}
}

// span is a number of seconds for people.
func span(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }
