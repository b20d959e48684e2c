// Package bounded reads a device's files for collectors of posture: no more than a
// stated number of bytes or entries, regular files alone, and names as words that
// cannot be taken for anything else. What is longer than its bound is an error, never
// a part. Files are those of procfs, sysfs and /etc; root is the device's "/".
package bounded

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"ward/internal/device/posture"
)

// Bounds, in bytes.
const (
	small   = 4096     // a file of sysfs
	longest = 16 << 10 // a line
)

// ErrMany: a folder, or what is counted, has more entries than are read.
var ErrMany = errors.New("more entries than its bound")

// Text reads a small file without the space around it.
func Text(root fs.FS, name string) (string, error) {
	b, err := posture.ReadFile(root, name, small)
	return strings.TrimSpace(string(b)), err
}

// Open opens a regular file. What is none, a FIFO for example, is not opened.
func Open(root fs.FS, name string) (fs.File, error) {
	info, err := fs.Stat(root, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read /%s: not a regular file", name)
	}
	return root.Open(name)
}

// Lines gives each line of a file of at most limit bytes.
func Lines(root fs.FS, name string, limit int64, each func(line string)) error {
	f, err := Open(root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := &io.LimitedReader{R: f, N: limit + 1}
	s := bufio.NewScanner(in)
	s.Buffer(nil, longest)
	for s.Scan() {
		each(s.Text())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read /%s: %w", name, err)
	}
	if in.N <= 0 {
		return fmt.Errorf("read /%s: %w of %d bytes", name, posture.ErrTooLong, limit)
	}
	return nil
}

// Entries lists a folder of at most most entries by name.
func Entries(root fs.FS, name string, most int) ([]fs.DirEntry, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("list /%s: not a folder", name)
	}
	list, err := d.ReadDir(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list /%s: %w", name, err)
	}
	if len(list) > most {
		return nil, fmt.Errorf("list /%s: %w of %d", name, ErrMany, most)
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Word makes a name or path one word of a value: spaces, backslashes and what is
// not printable ASCII are written as \xHH, so that a path stays one word that can
// be hidden as a whole.
func Word(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '\\' }
	for i := 0; i < len(s); i++ {
		if !plain(s[i]) {
			var b strings.Builder
			for _, c := range []byte(s) {
				if plain(c) {
					b.WriteByte(c)
				} else {
					fmt.Fprintf(&b, `\x%02x`, c)
				}
			}
			return b.String()
		}
	}
	return s
}

// Absent tells that a file is not there, or that a part of its path is none.
func Absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Unescape undoes the octal escapes of spaces and backslashes in the kernel's tables.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1], '3') && octal(s[i+2], '7') && octal(s[i+3], '7') {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c, most byte) bool { return c >= '0' && c <= most }
