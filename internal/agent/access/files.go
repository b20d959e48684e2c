package access

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"strconv"

	"ward/internal/device/statefile"
	"ward/internal/device/utmp"
)

// Files of login programs, below the root.
const (
	wtmpFile = "var/log/wtmp"
	btmpFile = "var/log/btmp"
	utmpFile = "run/utmp"
)

// maxLines bounds the sessions that are remembered.
const maxLines = 256

// files are the login programs' files, as far as they were read.
type files struct {
	root  fs.FS
	file  string
	log   *slog.Logger
	begun bool
	now   kept
	saved kept
	name  func(account string) string // as it may leave the device
}

// kept is what the state file holds.
type kept struct {
	Boot  string             `json:"boot"`
	Wtmp  int64              `json:"wtmp"` // how far they were read
	Btmp  int64              `json:"btmp"`
	Lines map[string]session `json:"lines"` // who is there, by terminal
}

// session is one that lasts.
type session struct {
	Account  string `json:"account"` // as it may leave the device
	Terminal string `json:"terminal"`
	Key      string `json:"key"`
}

func newFiles(c Config) files {
	f := files{root: c.Root, file: c.State, log: c.Log, now: kept{Boot: c.Boot, Lines: make(map[string]session)}}
	if f.file == "" {
		return f
	}
	b, err := statefile.Read(f.file)
	if err != nil {
		return f // nothing was read yet
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		f.log.Warn("read how far logins were told; they are told from the boot's begin", "error", err)
	} else if k.Boot == c.Boot && len(k.Lines) <= maxLines {
		f.begun, f.now.Wtmp, f.now.Btmp = true, max(0, k.Wtmp), max(0, k.Btmp)
		maps.Copy(f.now.Lines, k.Lines)
		f.saved = f.copy()
	}
	return f
}

func (f *files) copy() kept {
	k := f.now
	k.Lines = maps.Clone(k.Lines)
	return k
}

// look reads what is new, and says whether there is a file that logins are written to.
func (f *files) look() (acts []act, there bool) {
	wtmp, btmp := utmp.File{Name: wtmpFile, Offset: f.now.Wtmp}, utmp.File{Name: btmpFile, Offset: f.now.Btmp}
	if !f.begun {
		f.begun = true
		for _, file := range []*utmp.File{&wtmp, &btmp} { // what another boot wrote was told then
			if err := file.Skip(f.root); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.log.Warn("read sessions", "error", err)
			}
		}
	}
	if entries, ok := f.read(&wtmp); ok {
		there = true
		acts = append(acts, f.sessions(entries)...)
	} else if entries, ok := f.read(&utmp.File{Name: utmpFile}); ok {
		there = true
		acts = append(acts, f.present(entries)...)
	}
	if entries, ok := f.read(&btmp); ok {
		for _, e := range entries {
			acts = append(acts, f.act(failed, e))
		}
	}
	f.now.Wtmp, f.now.Btmp = wtmp.Offset, btmp.Offset
	f.keep()
	return acts, there
}

func (f *files) read(file *utmp.File) ([]utmp.Entry, bool) {
	entries, err := file.Since(f.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Debug("read sessions", "error", err)
	}
	return entries, err == nil
}

func (f *files) act(what string, e utmp.Entry) act {
	a := act{what: what, source: "utmp", terminal: terminalOf(e.UntrustedLine, "", e.UntrustedRemote), account: f.name(e.UntrustedUser)}
	a.key = a.terminal + " " + strconv.Itoa(int(e.PID)) + " " + strconv.FormatInt(e.Time.Unix(), 10)
	return a
}

// sessions are those that wtmp tells of.
func (f *files) sessions(entries []utmp.Entry) []act {
	var out []act
	for _, e := range entries {
		switch e.Type {
		case utmp.Login:
			a := f.act(login, e)
			out = append(out, a)
			f.remember(e.UntrustedLine, a)
		case utmp.Dead:
			if was, ok := f.now.Lines[e.UntrustedLine]; ok {
				delete(f.now.Lines, e.UntrustedLine)
				out = append(out, was.over())
			}
		}
	}
	return out
}

func (f *files) remember(line string, a act) bool {
	if _, known := f.now.Lines[line]; !known && len(f.now.Lines) >= maxLines {
		return false
	}
	f.now.Lines[line] = session{a.account, a.terminal, a.key}
	return true
}

func (s session) over() act {
	return act{what: logout, source: "utmp", terminal: s.Terminal, account: s.Account, key: s.Key}
}

// present compares who is there with who was, for a device that keeps utmp alone.
func (f *files) present(entries []utmp.Entry) []act {
	var out []act
	now := make(map[string]bool)
	for _, e := range entries {
		if e.Type != utmp.Login {
			continue
		}
		a := f.act(login, e)
		now[e.UntrustedLine] = true
		if f.now.Lines[e.UntrustedLine].Key != a.key && f.remember(e.UntrustedLine, a) {
			out = append(out, a)
		}
	}
	for line, was := range f.now.Lines {
		if !now[line] {
			delete(f.now.Lines, line)
			out = append(out, was.over())
		}
	}
	return out
}

// keep writes how far was read, for the daemon's next start in this boot.
func (f *files) keep() {
	if f.file == "" || f.now.Wtmp == f.saved.Wtmp && f.now.Btmp == f.saved.Btmp && f.saved.Boot == f.now.Boot && maps.Equal(f.now.Lines, f.saved.Lines) {
		return
	}
	f.saved = f.copy()
	b, err := json.Marshal(f.now)
	if err == nil {
		err = statefile.Write(f.file, b)
	}
	if err != nil {
		f.log.Warn("keep how far logins were told", "error", err)
	}
}
