// Package posture reads what a device says about its own state beside its files:
// how the kernel was built, started and loosened, and what the hardware tells of
// itself. One file holds one collector; each reads bounded files of procfs and
// sysfs (Documentation/ABI and Documentation/admin-guide of the Linux source)
// through an fs.FS that is rooted at the device's "/", and makes one claim of
// them. What cannot be read is a claim too. Nothing is judged here: that is
// trust/posture's.
package posture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"ward/internal/trust/posture"
)

// Collector makes the claim of its name. Collect reads the file system that is
// rooted at the device's "/" and keeps no state; it may block for as long as a
// read of sysfs does.
type Collector struct {
	Name    string
	Collect func(root fs.FS) posture.Claim
}

// Limits of files. The kernel writes most files of sysfs into one page.
const (
	pageFile = 4096
	// listFile bounds a list of the kernel: 1,024 modules of 160 bytes, or as many mounts.
	listFile = 256 << 10
	// maxError is what of an error a claim says, in bytes.
	maxError = 200
)

// ErrTooLong means that a file is longer than its bound; nothing of it was taken.
var ErrTooLong = errors.New("longer than its bound")

// errKind means that there is something else where a file is expected.
var errKind = errors.New("not a regular file")

// ReadFile returns the content of a file of at most limit bytes. The path is the
// device's, with or without its first slash. What is not a regular file, a FIFO
// for example, is not opened. Errors wrap fs.ErrNotExist, fs.ErrPermission or
// ErrTooLong.
func ReadFile(root fs.FS, name string, limit int) ([]byte, error) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	info, err := fs.Stat(root, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read /%s: %w", name, errKind)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("read /%s: %w of %d bytes", name, ErrTooLong, limit)
	}
	return b, nil
}

// values is what a collector of this package reads: a claim's values. An error that
// wraps fs.ErrNotExist says that there is no such thing, every other one that it
// could not be read.
type values func(root fs.FS) ([]string, error)

// claim makes a collector of a reader.
func claim(name string, read values) Collector {
	return Collector{name, func(root fs.FS) posture.Claim {
		v, err := read(root)
		if err != nil {
			return Missing(name, err)
		}
		return Value(name, v...)
	}}
}

// word reads a small file's text without the space around it.
func word(root fs.FS, name string) (string, error) {
	b, err := ReadFile(root, name, pageFile)
	return strings.TrimSpace(string(b)), err
}

// needed makes an error that says nothing of a thing that is not there: where there
// is the one, there must be the other.
func needed(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

// bad is the error about a file whose text is not what the kernel writes.
func bad(name, text string) error { return fmt.Errorf("parse /%s: %.60q", name, text) }

// state is word for a file that says something.
func state(root fs.FS, name string) (string, error) {
	s, err := word(root, name)
	if err == nil && s == "" {
		err = bad(name, s)
	}
	return s, err
}

// number reads a file of one number, in the kernel's ways to write one.
func number(root fs.FS, name string) (uint64, error) {
	s, err := word(root, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, bad(name, s)
	}
	return n, nil
}

// flag is a file of one character, with a word for on (1, Y) and one for off (0, N),
// either of which may be empty.
type flag struct{ file, on, off string }

// word reads the flag.
func (f *flag) word(root fs.FS) (string, error) {
	s, err := word(root, f.file)
	switch {
	case err != nil:
		return "", err
	case s == "1" || s == "Y":
		return f.on, nil
	case s == "0" || s == "N":
		return f.off, nil
	}
	return "", bad(f.file, s)
}

// absent says whether an error is that there is no such file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Value is the claim with these values: each made into text of one line, sorted,
// each once, and at most posture.MaxValues of them.
func Value(name string, values ...string) posture.Claim {
	c := posture.Claim{Name: name}
	for _, v := range values {
		if v = Text(v); v != "" {
			c.Values = append(c.Values, v)
		}
	}
	slices.Sort(c.Values)
	c.Values = slices.Compact(c.Values)
	if n := len(c.Values); n > posture.MaxValues {
		c.Values, c.More = c.Values[:posture.MaxValues:posture.MaxValues], n-posture.MaxValues
	}
	return c
}

// Failed is the claim that could not be read. It is not a pass.
func Failed(name string, err error) posture.Claim {
	text := Text(err.Error())
	if len(text) > maxError {
		text = cut(text, maxError)
	}
	return posture.Claim{Name: name, Error: text}
}

// Absent is the claim that this kernel or device has no such thing.
func Absent(name string) posture.Claim { return posture.Claim{Name: name, Absent: true} }

// Missing is Absent where err says that a file does not exist, else Failed.
func Missing(name string, err error) posture.Claim {
	if absent(err) {
		return Absent(name)
	}
	return Failed(name, err)
}

// Text is s as one line of UTF-8 of at most posture.MaxValue bytes: what is no
// visible character or plain space, and bytes that are no UTF-8, are written as
// \xHH; space around it is left out.
func Text(s string) string {
	s = strings.TrimSpace(s)
	if clean(s) && len(s) <= posture.MaxValue {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() <= posture.MaxValue; {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || control(r) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return cut(b.String(), posture.MaxValue)
}

func clean(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, control) < 0
}

// control says what moves a terminal's cursor, breaks a line or turns its direction.
func control(r rune) bool { return !unicode.IsPrint(r) }

// cut shortens valid UTF-8 to at most n bytes and ends it with "...".
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[:n-3]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}
