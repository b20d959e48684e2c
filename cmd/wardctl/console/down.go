package console

import (
	"errors"

	"ward/internal/agent/localapi"
	"ward/internal/cli"
)

// Down turns "no daemon" into what the engineer can do about it.
func Down(err error, socket string) error {
	if errors.Is(err, localapi.ErrDown) {
		return cli.Fail(cli.NotDecided, "wardd does not answer on %s: start it (systemctl start wardd) and look at its log (journalctl -u wardd); records can be read with 'wardctl journal show /var/lib/ward/journal'", socket)
	}
	return &cli.Exit{Status: cli.NotDecided, Err: err}
}
