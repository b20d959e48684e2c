package daemon

import (
	"slices"
	"testing"

	"ward/internal/agent/localapi"
	"ward/internal/daemon/early"
)

// What the process cannot see is told in the status of each of its lives.
//
// Verifies: SR-106
func TestBlindSpotsAreToldInEveryLife(t *testing.T) {
	e := &early.Opened{Blind: []string{"logins: operation not permitted"}}
	l := live(t, t.TempDir(), func(d *daemon) { d.early = e })
	session := l.until("the first life is blind", func(s localapi.Status) bool { return slices.Equal(s.Blind, e.Blind) }).Link.Session
	l.first.replaced("by the test", 5)
	l.until("the second life is blind", func(s localapi.Status) bool {
		return s.Link.Session > session && s.Journal.Epoch >= 5 && slices.Equal(s.Blind, e.Blind)
	})
}
