// Package filewatch wires the watch over files and programs (package live) and the
// names that stay on the device (package names) for the daemon, and tells both on
// the local socket.
package filewatch

import (
	"log/slog"

	"ward/internal/agent/integrity/live"
	"ward/internal/agent/localapi"
	"ward/internal/agent/names"
	"ward/internal/device/fanotify"
	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/finding"
)

// Index gives the file baseline of the verified release, nil while there is none.
type Index func() *baseline.Index

// Names opens the names of a device that stay on it. state is the folder where they
// are kept, empty where nothing can be.
func Names(state string, index Index, log *slog.Logger) *names.Names {
	return names.Open(names.Config{State: state, Log: log, Files: func() names.Files {
		if x := index(); x != nil {
			return named{x}
		}
		return nil
	}})
}

// named is a baseline as names are held against it.
type named struct{ *baseline.Index }

// Names says whether the release names a path. A baseline that cannot be read names
// none.
func (n named) Names(path string) bool {
	_, known, err := n.Entry(path)
	return known && err == nil
}

// New makes the watch. source is nil where the kernel cannot be heard; the rest of the
// configuration is the caller's.
func New(source *fanotify.Watch, index Index, c live.Config) *live.Role {
	if source != nil {
		c.Source = source
	}
	c.Look, c.Judge = fstree.Look, judge
	c.Files = func() live.Files {
		if x := index(); x != nil {
			return x
		}
		return nil
	}
	return live.New(c)
}

// judge says what stands at a path means by the release. A baseline that cannot be
// asked is told by the appraisal.
func judge(files live.Files, path string, have *baseline.Entry, failed error) (finding.Finding, bool) {
	difference, differs, err := diff.At(files, path, have, failed)
	if err != nil || !differs {
		return finding.Finding{}, false
	}
	return difference.Finding()
}

// Describe is the watch for the local socket.
func Describe(s live.Status) localapi.Watch {
	w := localapi.Watch{Changes: s.Changes, Programs: s.Programs, Blind: []localapi.Blind{}, Missing: s.Missing}
	for _, b := range s.Blind {
		w.Blind = append(w.Blind, localapi.Blind(b))
	}
	return w
}

// Tell reveals hidden names to who stands at the device.
func Tell(n *names.Names) localapi.Action {
	return localapi.TellNames(func(hidden string) []localapi.Name {
		all := []localapi.Name{}
		if hidden != "" {
			if path, ok := n.Reveal(hidden); ok {
				all = append(all, localapi.Name{Hidden: hidden, Path: path})
			}
			return all
		}
		for _, k := range n.All() {
			all = append(all, localapi.Name(k))
		}
		return all
	})
}
