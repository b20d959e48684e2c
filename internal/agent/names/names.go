// Package names keeps what stands in paths on the device. A path that the signed
// release names may be told to anybody: it is the same on every device. Any other
// was chosen by somebody here and may hold a patient's name, so what leaves the
// device has in its place the deepest folder that the release names and a salted
// hash (blueprint, section 9, rule 5):
//
//	/var/lib/app/~ 12 hexadecimal digits of SHA-256(salt, path)
//
// The salt is this device's own and never leaves it: without it nobody can try
// names against a hash, and two devices have different hashes for one name. The
// clear names are kept here, within bounds, for who stands at the device.
package names

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ward/internal/device/statefile"
)

// Names of the files in the state folder.
const (
	SaltFile = "names.salt" // 32 bytes
	File     = "names"      // a line for each name: digits, a space, the path as Go quotes it
)

const (
	saltSize = 32
	// digits of the hash that stand for a path: one in 2^48 that two of a device's
	// names have the same.
	digits = 12
	// maxNames bounds the clear names, oldest out, maxName each of them in bytes,
	// and maxKept all of them together as they are written.
	maxNames = 1024
	maxName  = 4096
	maxKept  = 512 << 10
	// mark stands before the digits.
	mark = "~"
	// A file of n bytes is written again at the earliest after the time in which the
	// flash may take n bytes; new names wait in memory.
	bytesADay  = 128 << 10
	firstWrite = 5 * time.Second
)

// Files is the release's file baseline.
type Files interface {
	// Names says whether the release names a path.
	Names(path string) bool
	// Ancestor is the deepest folder above a path that the release names.
	Ancestor(path string) string
}

// Config of the names of a device.
type Config struct {
	State string       // the folder; empty: nothing is kept
	Files func() Files // nil while no baseline can be trusted: then every path is hidden
	Log   *slog.Logger
}

// Names hides paths and reveals them again. It is safe for concurrent use.
type Names struct {
	c    Config
	salt [saltSize]byte

	mu      sync.Mutex
	clear   map[string]string // by digits
	order   []string          // digits, oldest first
	kept    int               // bytes of the table as it is written
	changed bool
	next    time.Time // no write before
}

// Open reads the salt and the names that were kept. A salt that cannot be read or
// written is made for this run alone: paths are hidden all the same.
func Open(c Config) *Names {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Files == nil {
		c.Files = func() Files { return nil }
	}
	n := &Names{c: c, clear: make(map[string]string)}
	if err := n.openSalt(); err != nil {
		c.Log.Warn("the salt of hidden names is of this run alone", "error", err)
	}
	if c.State == "" {
		return n
	}
	b, err := statefile.Read(filepath.Join(c.State, File))
	if err == nil {
		err = n.parse(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("hidden names of earlier are not all known", "error", err)
	}
	n.changed = false
	return n
}

func (n *Names) openSalt() error {
	if n.c.State == "" {
		_, err := rand.Read(n.salt[:])
		return err
	}
	name := filepath.Join(n.c.State, SaltFile)
	b, err := statefile.Read(name)
	if err == nil && len(b) == saltSize {
		n.salt = [saltSize]byte(b)
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s has %d bytes, want %d", name, len(b), saltSize)
	}
	if _, bad := rand.Read(n.salt[:]); bad != nil {
		return bad
	}
	if !errors.Is(err, fs.ErrNotExist) {
		n.c.Log.Warn("the salt of hidden names is made anew: the same name has another hash from now on", "error", err)
	}
	return statefile.Write(name, n.salt[:])
}

// parse reads the table. What cannot be read is passed over.
func (n *Names) parse(b []byte) error {
	var bad int
	for line := range bytes.Lines(b) {
		key, quoted, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		path, err := strconv.Unquote(quoted)
		if !ok || err != nil || !isKey(key) || len(path) > maxName {
			bad++
			continue
		}
		n.put(key, path)
	}
	if bad > 0 {
		return fmt.Errorf("read names: %d lines are none", bad)
	}
	return nil
}

func isKey(s string) bool { return len(s) == digits && strings.Trim(s, "0123456789abcdef") == "" }

// Hide is a path as it may leave the device. One that the release names stays as it
// is, and so does what is no absolute path and no name of anybody.
func (n *Names) Hide(path string) string {
	if path == "" {
		return ""
	}
	files := n.c.Files()
	if files != nil && files.Names(path) {
		return path
	}
	above := "/"
	if files != nil {
		above = files.Ancestor(path)
	}
	if hidden(path, above) {
		return path // it was hidden before
	}
	sum := sha256.New()
	sum.Write(n.salt[:])
	sum.Write([]byte(path))
	key := hex.EncodeToString(sum.Sum(nil))[:digits]
	n.keep(key, path)
	return strings.TrimSuffix(above, "/") + "/" + mark + key
}

// hidden says whether a path looks as Hide makes it: in the folder above it that the
// release names, a mark and digits. Deeper ones may have names on the way.
func hidden(path, above string) bool {
	key, ok := strings.CutPrefix(path, strings.TrimSuffix(above, "/")+"/"+mark)
	return ok && isKey(key)
}

func (n *Names) keep(key, path string) {
	if len(path) > maxName {
		path = path[:maxName]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.put(key, path)
}

// put notes a name; the oldest ones make room.
func (n *Names) put(key, path string) {
	if _, ok := n.clear[key]; ok {
		return
	}
	n.clear[key] = path
	n.order = append(n.order, key)
	n.kept += lineSize(path)
	n.changed = true
	for len(n.order) > maxNames || n.kept > maxKept {
		old := n.order[0]
		n.order = slices.Delete(n.order, 0, 1)
		n.kept -= lineSize(n.clear[old])
		delete(n.clear, old)
	}
}

func lineSize(path string) int { return digits + 2 + len(strconv.Quote(path)) }

// Reveal is the clear name of a hidden path, or of its digits alone.
func (n *Names) Reveal(shown string) (string, bool) {
	key := strings.TrimPrefix(shown[strings.LastIndexByte(shown, '/')+1:], mark)
	n.mu.Lock()
	defer n.mu.Unlock()
	path, ok := n.clear[key]
	return path, ok
}

// Name is one that was hidden.
type Name struct {
	Hidden string // the mark and the digits
	Path   string
}

// All lists what is known, newest first.
func (n *Names) All() []Name {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]Name, 0, len(n.order))
	for _, key := range slices.Backward(n.order) {
		all = append(all, Name{mark + key, n.clear[key]})
	}
	return all
}

// Keep writes new names, if there are any and the flash may take it by now.
func (n *Names) Keep(now time.Time) error {
	if n.c.State == "" {
		return nil
	}
	n.mu.Lock()
	switch {
	case !n.changed:
		n.mu.Unlock()
		return nil
	case n.next.IsZero():
		n.next = now.Add(firstWrite)
	}
	if now.Before(n.next) {
		n.mu.Unlock()
		return nil
	}
	var b bytes.Buffer
	for _, key := range n.order {
		fmt.Fprintf(&b, "%s %s\n", key, strconv.Quote(n.clear[key]))
	}
	n.changed = false
	n.next = now.Add(max(firstWrite, time.Duration(b.Len())*(24*time.Hour/bytesADay)))
	n.mu.Unlock()
	if err := statefile.Write(filepath.Join(n.c.State, File), b.Bytes()); err != nil {
		n.mu.Lock()
		n.changed = true
		n.mu.Unlock()
		return fmt.Errorf("keep names: %w", err)
	}
	return nil
}

// Run keeps new names until ctx ends, and then what is left of them.
func (n *Names) Run(ctx context.Context, alive func()) error {
	t := time.NewTicker(firstWrite)
	defer t.Stop()
	for {
		alive()
		select {
		case <-ctx.Done():
			n.mu.Lock()
			n.next = time.Unix(1, 0)
			n.mu.Unlock()
			return n.Keep(time.Now())
		case <-t.C:
		}
		if err := n.Keep(time.Now()); err != nil {
			n.c.Log.Warn("keep hidden names", "error", err)
		}
	}
}

// Mark stands for a text that is no path and stays on the device: an account, a serial
// number. The same text has the same mark on this device, and another on others.
func (n *Names) Mark(text string) string {
	sum := sha256.New()
	sum.Write(n.salt[:])
	sum.Write([]byte{0}) // no path begins so
	sum.Write([]byte(text))
	return mark + hex.EncodeToString(sum.Sum(nil))[:digits]
}
