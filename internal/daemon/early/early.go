// Package early is the privileged start of wardd: it opens, once for the process,
// what only a process with capabilities can open or read, and then gives the
// capabilities up (capabilities(7); blueprint, section 9, rule 4). What it could
// not open keeps nothing else from its work and is named as a blind spot.
package early

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"golang.org/x/sys/unix"

	"ward/internal/device/audit"
	"ward/internal/device/dm"
	"ward/internal/device/fanotify"
	"ward/internal/device/sandbox"
)

// kept are the capabilities that stay for good: to read any file, to resolve
// file handles, and to see what another user's process executes and has open.
var kept = []sandbox.Capability{sandbox.DACReadSearch, sandbox.SysPtrace}

// without says what the device cannot see of itself when a kept capability was
// never there.
var without = map[sandbox.Capability]string{
	sandbox.DACReadSearch: "files that other users alone may read",
	sandbox.SysPtrace:     "what other users' programs execute and have open",
}

// Opened is what was opened. It is the same for all lives of the process; what
// could not be opened is nil.
type Opened struct {
	Audit   *audit.Conn // the kernel's audit
	Unheard error       // why it cannot be heard, nil when it can
	Tables  []dm.Table  // of device-mapper, at the start
	Mapper  error       // why they could not be read, nil when they were

	Files     *fanotify.Watch // the kernel's telling of changes and programs
	Unwatched error           // why it does not tell, nil when it does

	// Blind is what this device cannot see of itself, and why.
	Blind []string

	log    *slog.Logger
	opened []io.Closer
}

// opener opens one thing while the privileges are there. It may open less than
// all and say with an error what is missing.
type opener struct {
	sees string // what the device sees by it, in words that follow "cannot see"
	open func(*Opened) error
}

// openers are tried in this order.
var openers = []opener{
	{"logins and changes of rights, as the kernel's audit tells them", func(e *Opened) error {
		if e.Audit, e.Unheard = audit.Open(); e.Audit != nil {
			e.hold(e.Audit)
		}
		return e.Unheard
	}},
	{"changes of files and programs that are run, as the kernel tells them", func(e *Opened) error {
		if e.Files, e.Unwatched = fanotify.Open(); e.Files != nil {
			e.hold(e.Files)
		}
		return e.Unwatched
	}},
	{"the tables of device-mapper", func(e *Opened) error {
		e.Tables, e.Mapper = dm.Tables()
		if errors.Is(e.Mapper, fs.ErrNotExist) || errors.Is(e.Mapper, unix.ENODEV) {
			return nil // a kernel without it has none
		}
		return e.Mapper
	}},
}

// Open opens what there is to open. Nothing that fails keeps the rest from being
// opened, or the daemon from its start.
func Open(log *slog.Logger) *Opened { return open(openers, log) }

func open(openers []opener, log *slog.Logger) *Opened {
	e := &Opened{log: log}
	for _, o := range openers {
		if err := o.open(e); err != nil {
			e.miss(o.sees, err.Error())
		}
	}
	return e
}

// Drop gives up the privileges, and says in words for a finding which ones are
// left that nobody expects; empty when there are none.
func (e *Opened) Drop() string {
	report, err := sandbox.Drop(kept...)
	if err != nil {
		e.log.Error("give up privileges", "error", err)
	}
	e.lacking(report)
	return strings.Join(report.Privileges(kept...), "; ")
}

// lacking notes the capabilities that were to stay and were never there.
func (e *Opened) lacking(r sandbox.Report) {
	for _, c := range kept {
		for _, name := range r.Missing(c).Names() {
			e.miss(without[c], "wardd was started without "+name)
		}
	}
}

// miss notes what cannot be seen.
func (e *Opened) miss(sees, why string) {
	e.log.Warn("the device cannot see all of itself", "missing", sees, "reason", why)
	e.Blind = append(e.Blind, sees+": "+why)
}

// hold keeps what was opened until the process ends.
func (e *Opened) hold(c io.Closer) { e.opened = append(e.opened, c) }

// Close closes all that was opened, the last first.
func (e *Opened) Close() {
	for i := len(e.opened) - 1; i >= 0; i-- {
		_ = e.opened[i].Close()
	}
	e.opened = nil
}
