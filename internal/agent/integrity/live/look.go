package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/fanotify"
	"ward/internal/trust/baseline"
)

// within says whether a path is a folder or lies below it.
func within(name, folder string) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(folder, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func ignored(folders []string, name string) bool {
	for _, f := range folders {
		if within(name, f) {
			return true
		}
	}
	return false
}

// matters says whether a change can mean anything: at a path that the release
// names, in a folder that it lists and that is not meant to change, or where a file
// has come to grant rights.
func matters(files Files, e fanotify.Event) bool {
	if _, named, err := files.Entry(e.Path); named || err != nil {
		return true
	}
	if parent := path.Dir(e.Path); files.Ancestor(e.Path) == parent {
		if d, ok, err := files.Entry(parent); err != nil || ok && d.Flags&(baseline.Mutable|baseline.Volatile) == 0 && !e.Volatile {
			return true
		}
	}
	return grants(e)
}

// grants says whether what stands at a path gives who runs it another user's rights:
// set-uid, set-gid or file capabilities.
func grants(e fanotify.Event) bool {
	var st unix.Stat_t
	if e.Folder || e.What&^fanotify.Deleted == 0 || unix.Lstat(e.Path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return true
	}
	if e.What&fanotify.Attributes == 0 {
		return false
	}
	n, err := unix.Lgetxattr(e.Path, "security.capability", nil)
	return err == nil && n > 0
}

// look compares what stands at a path with the release.
func (r *Role) look(ctx context.Context, name string, by fanotify.Origin) {
	files := r.now.Load().files
	if files == nil {
		return
	}
	e, err := r.c.Look(name)
	have := &e
	if errors.Is(err, fs.ErrNotExist) {
		have, err = nil, nil
	}
	f, told := r.c.Judge(files, name, have, err)
	if !told {
		return
	}
	if shown := r.hide(name); shown != name {
		f.Path = shown // else the baseline's spelling stays
	}
	if text := r.originText(by, "changed"); text != "" {
		f.Detail = joined(f.Detail, text)
	}
	if r.c.First(ctx, f.Path, f) {
		r.report.incident(ctx, f)
	}
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func (r *Role) hide(name string) string {
	if r.c.Hide == nil {
		return name
	}
	return r.c.Hide(name)
}

// units are where a release keeps its services: a cgroup is told where it is one of
// these, as anybody may give one a name.
var units = []string{"/usr/lib/systemd/system/", "/lib/systemd/system/", "/etc/systemd/system/"}

// originText says who it was, for people: "changed by /usr/bin/x, pid 12, uid 0,
// started 4m2s after the boot, in x.service".
func (r *Role) originText(o fanotify.Origin, did string) string {
	switch {
	case o.PID == 0:
		return ""
	case o.Exe == "":
		return fmt.Sprintf("%s by pid %d, which had ended", did, o.PID)
	}
	text := fmt.Sprintf("%s by %s, pid %d, uid %d, started %s after the boot", did, r.hide(o.Exe), o.PID, o.UID, o.Started.Round(time.Second))
	unit, files := path.Base(o.Cgroup), r.now.Load().files
	if files == nil || o.Cgroup == "" {
		return text
	}
	for _, folder := range units {
		if _, ok, err := files.Entry(folder + unit); ok && err == nil {
			return text + ", in " + unit
		}
	}
	return text
}
