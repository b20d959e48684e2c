package system

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// cronPlaces are where cron(8), anacron(8) and at(1) take their tasks from.
var cronPlaces = []string{
	"etc/crontab", "etc/anacrontab", "etc/cron.d", "etc/cron.hourly", "etc/cron.daily", "etc/cron.weekly", "etc/cron.monthly",
	"etc/crontabs", "var/spool/cron", "var/spool/at",
}

// unitPlaces are where systemd takes units from that did not come with the packages
// (systemd.unit(5)), and where other inits take theirs.
var unitPlaces = []string{
	"etc/systemd", "run/systemd/system", "run/systemd/transient", "run/systemd/generator", "run/systemd/generator.early",
	"run/systemd/generator.late", "run/systemd/system-generators", "etc/init.d", "etc/inittab", "etc/rc.local",
}

// Cron tells each file that holds tasks for a time of the day with the SHA-256 of
// its content: "/etc/cron.d/backup sha256:…".
func Cron() posture.Collector { return started(claim.Cron, cronPlaces, nil) }

// Units tells each unit and start script outside the packages' folders, with
// the SHA-256 of its content or, of a link, where it leads:
// "/etc/systemd/system/multi-user.target.wants/pump.service -> /usr/lib/…". Scopes,
// which come and go with sessions, are left out.
func Units() posture.Collector {
	return started(claim.Units, unitPlaces, func(name string) bool {
		return strings.HasSuffix(name, ".scope") || strings.HasSuffix(name, ".scope.d")
	})
}

// Bounds of a look at tasks.
const (
	maxTasks     = 4096    // files and links of one claim
	maxTaskDepth = 6       // folders in folders
	maxTask      = 1 << 20 // bytes of a file
)

func started(name string, places []string, leave func(name string) bool) posture.Collector {
	return collector(name, func(root fs.FS) ([]string, error) {
		l := look{root: root, leave: leave}
		found := false
		for _, p := range places {
			info, err := fs.Lstat(root, p)
			if err == nil {
				found = true
				err = l.add(p, info.Mode(), 0)
			}
			if err != nil && !bounded.Absent(err) {
				return nil, withoutPath(err)
			}
		}
		if !found {
			return nil, errAbsent
		}
		return l.values, nil
	})
}

// look collects what a folder holds.
type look struct {
	root   fs.FS
	leave  func(string) bool
	values []string
}

func (l *look) add(name string, mode fs.FileMode, depth int) error {
	if l.leave != nil && l.leave(name) {
		return nil
	}
	if len(l.values) >= maxTasks || depth > maxTaskDepth {
		return bounded.ErrMany
	}
	told := "/" + bounded.Word(name)
	switch {
	case mode&fs.ModeSymlink != 0:
		target, err := fs.ReadLink(l.root, name)
		if err != nil {
			return err
		}
		l.values = append(l.values, told+" -> "+bounded.Word(target))
	case mode.IsRegular():
		b, err := posture.ReadFile(l.root, name, maxTask)
		if err != nil {
			if errors.Is(err, posture.ErrTooLong) {
				l.values = append(l.values, told+" long")
				return nil
			}
			return err
		}
		sum := sha256.Sum256(b)
		l.values = append(l.values, told+" sha256:"+hex.EncodeToString(sum[:]))
	case mode.IsDir():
		list, err := bounded.Entries(l.root, name, maxTasks)
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := l.add(path.Join(name, d.Name()), d.Type(), depth+1); err != nil && !bounded.Absent(err) {
				return err
			}
		}
	default:
		l.values = append(l.values, told+" "+mode.Type().String()) // a FIFO or a device is not opened
	}
	return nil
}

// withoutPath leaves the path out of an error, which may name an account or a file
// that is nobody's business.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	for _, known := range []error{posture.ErrTooLong, bounded.ErrMany} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errKind
}

// errKind: there is something else where a file is expected.
var errKind = errors.New("not a regular file")
