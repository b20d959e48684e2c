package live

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/fanotify"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

const (
	// still ends the account of an update, longUpdate has it told before its end.
	still      = 30 * time.Second
	longUpdate = 10 * time.Minute
	// maxSizes bounds the files of an update whose sizes are added up.
	maxSizes = 4096
)

// Update is the report of ward.integrity.update: what a program of the release wrote
// by rule.
type Update struct {
	Program string    `json:"program"` // as the release names it
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Changes int       `json:"changes"`         // events, merged as the kernel merges them
	Files   int       `json:"files"`           // different paths, 4096 at most
	Bytes   int64     `json:"bytes,omitempty"` // the sizes of these files when they were last closed; devices have none
	Ended   bool      `json:"ended"`           // false: it goes on, and is told again
	// Unattributed of the changes came from processes that had ended when they were
	// looked at.
	Unattributed int `json:"unattributed,omitempty"`
}

type update struct {
	Update
	sizes map[string]int64
}

// updates gathers what updaters write.
type updates struct {
	r    *Role
	mu   sync.Mutex
	open map[string]*update // by program
}

func newUpdates(r *Role) *updates { return &updates{r: r, open: make(map[string]*update)} }

// took says whether a change is an updater's by rule and needs no other look.
// Somebody else's change at the same place is told, and looked at as any other.
func (u *updates) took(ctx context.Context, s *standing, e fanotify.Event) bool {
	w, ok := writerOf(s.policy.Writers, e.Path)
	if !ok {
		return false
	}
	device := strings.HasPrefix(e.Path, "/dev/")
	if device && e.What&fanotify.Modified == 0 {
		return true // nodes come and go, and are opened; what counts is what is written
	}
	if s.files != nil && e.Origin.Exe == w.Program && u.r.known.vouched(s.files, w.Program, e.Origin) {
		u.note(w.Program, e, true, device)
		return true
	}
	if e.Origin.Exe == "" && u.note(w.Program, e, false, device) {
		return true
	}
	f := finding.New(finding.WatchForeignWriter, joined("by rule "+w.Program+" alone writes here", u.r.originText(e.Origin, "changed"))).On(u.r.hide(e.Path))
	f.Found = u.r.hide(e.Origin.Exe)
	if e.Origin.Exe == "" {
		f.Found = "a process that had ended"
	}
	if u.r.c.First(ctx, f.Path, f) {
		u.r.report.incident(ctx, f)
	}
	return false
}

func writerOf(writers []watch.Writer, name string) (watch.Writer, bool) {
	for _, w := range writers {
		if ignored(w.Paths, name) {
			return w, true
		}
	}
	return watch.Writer{}, false
}

// note puts a change into the account of an update. One whose writer is not known
// begins none.
func (u *updates) note(program string, e fanotify.Event, attributed, device bool) bool {
	var size int64
	if e.What&fanotify.Written != 0 && !device {
		var st unix.Stat_t
		if unix.Lstat(e.Path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			size = st.Size
		}
	}
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.open[program]
	if a == nil {
		if !attributed {
			return false
		}
		a = &update{Update: Update{Program: program, First: now}, sizes: make(map[string]int64)}
		u.open[program] = a
	}
	a.Last, a.Changes = now, a.Changes+1
	if !attributed {
		a.Unattributed++
	}
	if was, ok := a.sizes[e.Path]; ok || len(a.sizes) < maxSizes {
		a.sizes[e.Path] = max(was, size)
	}
	return true
}

// tell records the updates that have ended, and those that go on for long.
func (u *updates) tell(ctx context.Context, now time.Time) {
	u.mu.Lock()
	var due []Update
	for program, a := range u.open {
		ended := now.Sub(a.Last) >= still
		if !ended && now.Sub(a.First) < longUpdate {
			continue
		}
		due = append(due, a.close(ended))
		if delete(u.open, program); !ended {
			u.open[program] = &update{Update: Update{Program: program, First: now, Last: a.Last}, sizes: make(map[string]int64)}
		}
	}
	u.mu.Unlock()
	for _, d := range due {
		u.record(ctx, d)
	}
}

// end records what is open at the role's end.
func (u *updates) end(ctx context.Context) {
	u.mu.Lock()
	var due []Update
	for _, a := range u.open {
		due = append(due, a.close(false))
	}
	clear(u.open)
	u.mu.Unlock()
	for _, d := range due {
		u.record(ctx, d)
	}
}

func (a *update) close(ended bool) Update {
	a.Ended, a.Files = ended, len(a.sizes)
	for _, n := range a.sizes {
		a.Bytes += n
	}
	return a.Update
}

func (u *updates) record(ctx context.Context, d Update) {
	if d.Changes == 0 {
		return // nothing since it was told
	}
	d.First, d.Last = d.First.UTC(), d.Last.UTC()
	report, err := json.Marshal(d)
	if err != nil {
		u.r.c.Log.Error("encode update", "error", err)
		return
	}
	u.r.report.event(ctx, event.Event{Type: event.IntegrityUpdate, Time: time.Now(), Subject: d.Program, Severity: finding.Info, Report: report})
}
