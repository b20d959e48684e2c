package daemon

import (
	"context"

	changes "ward/internal/agent/integrity/live"
	"ward/internal/agent/integrity/scan"
	"ward/internal/agent/localapi"
	"ward/internal/agent/names"
	"ward/internal/device/fanotify"
	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/finding"
)

// assembleNames makes what hides the paths that the release does not name.
func (d *daemon) assembleNames(b *bootState) {
	state := d.config.Paths.State
	if d.unkept != nil {
		state = ""
	}
	b.names = names.Open(names.Config{State: state, Log: d.log.With("role", "names"), Files: func() names.Files {
		if x := b.files(); x != nil {
			return named{x}
		}
		return nil
	}})
	d.add("names", fastBound, func(ctx context.Context) error { return b.names.Run(ctx, d.alive("names")) })
}

// files is the baseline of the verified release, nil while there is none.
func (b *bootState) files() *baseline.Index {
	if b.attester == nil {
		return nil // its own configuration is being made
	}
	s, _ := b.attester.Latest()
	return s.Baseline
}

// named is a baseline as names are held against it.
type named struct{ *baseline.Index }

// Names says whether the release names a path. A baseline that cannot be read names
// none.
func (n named) Names(path string) bool {
	_, known, err := n.Entry(path)
	return known && err == nil
}

// assembleLive makes the role that watches files and programs as they change and run.
func (d *daemon) assembleLive(boot *bootState, scanner *scan.Scanner) *changes.Role {
	c := changes.Config{
		Missing: d.early.Unwatched, Policy: boot.watched, Look: fstree.Look, Judge: judgeFile, Hide: boot.names.Hide, Ran: boot.stock.Ran,
		Files: func() changes.Files {
			if x := boot.files(); x != nil {
				return x
			}
			return nil
		},
		Scan: scanner.Trigger, Scanned: scanner.Began,
		IMA: func() bool {
			s, _ := boot.attester.Latest()
			return s.Result.IMAEntries > 0
		},
		State: d.config.Paths.State, Recorder: d.recorder, First: boot.told.First, Alive: d.alive("watch"), Log: d.log.With("role", "watch"),
	}
	if d.early.Files != nil {
		c.Source = d.early.Files
	}
	r := changes.New(c)
	d.add("watch", fastBound, func(ctx context.Context) error {
		boot.wait(ctx, birthWait)
		return r.Run(ctx)
	})
	return r
}

// judgeFile says what stands at a path means by the release. A baseline that cannot be
// asked is told by the appraisal.
func judgeFile(files changes.Files, path string, have *baseline.Entry, failed error) (finding.Finding, bool) {
	difference, differs, err := diff.At(files, path, have, failed)
	if err != nil || !differs {
		return finding.Finding{}, false
	}
	return difference.Finding()
}

func describeWatch(s changes.Status) localapi.Watch {
	w := localapi.Watch{Changes: s.Changes, Programs: s.Programs, Blind: []localapi.Blind{}, Missing: s.Missing}
	for _, b := range s.Blind {
		w.Blind = append(w.Blind, localapi.Blind(fanotify.Blind(b)))
	}
	return w
}

// tellNames reveals hidden names to who stands at the device.
func (b *bootState) tellNames() localapi.Action {
	return localapi.TellNames(func(hidden string) []localapi.Name {
		all := []localapi.Name{}
		if hidden != "" {
			if path, ok := b.names.Reveal(hidden); ok {
				all = append(all, localapi.Name{Hidden: hidden, Path: path})
			}
			return all
		}
		for _, n := range b.names.All() {
			all = append(all, localapi.Name(n))
		}
		return all
	})
}
