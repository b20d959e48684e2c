package baseline

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
)

// chunk is a part of the text that was found to be as it was verified.
type chunk struct {
	number int
	text   []byte
	lines  []span
}

// span is where an entry's line begins in its chunk, where the path in it begins,
// and where it ends.
type span struct{ begin, path, end uint32 }

// load returns the i-th chunk, from the cache or the file.
func (x *Index) load(i int) (*chunk, error) {
	slot := &x.cache[i%cached]
	if c := slot.Load(); c != nil && c.number == i {
		return c, nil
	}
	text, err := x.text(i)
	if err != nil {
		return nil, err
	}
	c := &chunk{number: i, text: text, lines: make([]span, 0, len(text)/64)}
	at := 0
	if i == 0 {
		at = len(header) + 1
	}
	for at < len(text) {
		end := at + bytes.IndexByte(text[at:], '\n') // a verified chunk ends with a line's end
		c.lines = append(c.lines, span{uint32(at), uint32(bytes.LastIndexByte(text[:end], ' ') + 1), uint32(end)})
		at = end + 1
	}
	slot.Store(c)
	return c, nil
}

// text reads the i-th chunk and holds it against its digest.
func (x *Index) text(i int) ([]byte, error) {
	p := x.chunks[i]
	text := make([]byte, x.chunks[i+1].offset-p.offset)
	if n, err := x.file.ReadAt(text, int64(p.offset)); n < len(text) {
		if err == io.EOF {
			err = fmt.Errorf("%w: it has become shorter", ErrDigest)
		}
		return nil, x.fail(fmt.Errorf("read baseline again: %w", err))
	}
	if sum := sha256.Sum256(text); [16]byte(sum[:]) != p.sum {
		return nil, x.fail(fmt.Errorf("read baseline again: %w: it was changed since it was verified", ErrDigest))
	}
	return text, nil
}

// find returns the line of a path; nil: there is none.
func (x *Index) find(path string) ([]byte, error) {
	if len(x.chunks) == 0 || path == "" || path[0] != '/' {
		return nil, nil
	}
	// The last chunk whose start is not beyond the path; the first one has none.
	i := sort.Search(len(x.chunks)-2, func(i int) bool {
		return comparePaths(x.start(i+1), path) > 0
	})
	c, err := x.load(i)
	if err != nil {
		return nil, err
	}
	n, found := sort.Find(len(c.lines), func(i int) int { return compareField(path, c.text[c.lines[i].path:c.lines[i].end]) })
	if !found {
		return nil, nil
	}
	return c.line(n), nil
}

// start is what the i-th chunk's paths begin at; the first one's is empty.
func (x *Index) start(i int) []byte {
	if i == 0 {
		return nil
	}
	return x.starts[x.chunks[i-1].start:x.chunks[i].start]
}

// line is the i-th line without its end.
func (c *chunk) line(i int) []byte { return c.text[c.lines[i].begin:c.lines[i].end] }

// findSum returns the line of a regular file with this content, the first by
// chunk and path; nil: there is none.
func (x *Index) findSum(sum [32]byte) ([]byte, error) {
	key := sumKey(sum)
	i := sort.Search(len(x.sums), func(i int) bool { return x.sums[i] >= key })
	for ; i < len(x.sums) && x.sums[i]>>(64-sumBits) == key>>(64-sumBits); i++ {
		c, err := x.load(int(x.sums[i] & (1<<(64-sumBits) - 1)))
		if err != nil {
			return nil, err
		}
		for n := range c.lines {
			if line := c.line(n); Type(line[0]) == File && hasSum(line, sum) {
				return line, nil
			}
		}
	}
	return nil, nil
}

// The fields that are read without the rest of a line.
const (
	fieldContent   = 5
	fieldComponent = 9
)

// field returns the n-th field of a line that was parsed before.
func field(line []byte, n int) []byte {
	for range n {
		line = line[bytes.IndexByte(line, ' ')+1:]
	}
	if end := bytes.IndexByte(line, ' '); end >= 0 {
		return line[:end]
	}
	return line
}

// hasSum tells whether a regular file's line has this content.
func hasSum(line []byte, sum [32]byte) bool {
	var text [2 * len(sum)]byte
	hex.Encode(text[:], sum[:])
	return bytes.Equal(field(line, fieldContent), text[:])
}

// compareField compares a path with an escaped one, as ComparePaths does.
func compareField(path string, escaped []byte) int {
	for i := 0; i < len(path); i++ {
		if len(escaped) == 0 {
			return 1
		}
		c := escaped[0]
		if c == '\\' && len(escaped) >= 4 {
			c = (escaped[1]-'0')<<6 | (escaped[2]-'0')<<3 | (escaped[3] - '0')
			escaped = escaped[3:]
		}
		escaped = escaped[1:]
		if c != path[i] {
			return cmp.Compare(rank(path[i]), rank(c))
		}
	}
	return cmp.Compare(0, len(escaped))
}

// Entries streams the entries from the file. What was changed since it was
// verified is an error at its place.
func (x *Index) Entries() (*Reader, error) {
	if len(x.chunks) == 0 {
		return NewReader(strings.NewReader(header + "\n"))
	}
	return NewReader(&stream{x: x})
}

// stream reads the text chunk by chunk, past the cache.
type stream struct {
	x    *Index
	next int
	rest []byte
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.next == len(s.x.chunks)-1 {
			return 0, io.EOF
		}
		var err error
		if s.rest, err = s.x.text(s.next); err != nil {
			return 0, err
		}
		s.next++
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
