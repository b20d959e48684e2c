package baseline

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync/atomic"
)

// Bounds of an index. A text that is larger is refused before its digest is
// known, so that a replaced file cannot exhaust the device's memory.
const (
	// maxText bounds the text: MaxEntries lines of 256 bytes. It is what is read
	// of a file that is no baseline, too.
	maxText = 256 << 20
	// chunkSize is how much is read, hashed and searched to answer a question; a
	// chunk ends with the line that reaches it.
	chunkSize = 8 << 10
	// maxStarts bounds the names by which chunks are found, together: they are
	// as short as tells two neighbours apart.
	maxStarts = 8 << 20
	// maxComponents bounds the SBOM's: a desktop has 3000 packages, a device 50
	// to 1000.
	maxComponents = 1 << 14
	// cached is how many chunks are kept, half a MiB of them.
	cached = 64
)

// Index answers questions about a baseline from its file. What is held in memory
// is, for each regular file, eight bytes; for each chunk of 8 KiB, where it is,
// the beginning of its first path and its digest; the names of the components;
// and the last chunks that were read. A chunk that is read again must have the
// digest that it had when the whole was verified: a file that was changed since
// gives no answer, never a wrong one, and Err tells. An Index does not change and
// may be used by several goroutines.
type Index struct {
	file   io.ReaderAt
	digest [32]byte
	files  int

	chunks     []place
	starts     []byte   // what the chunks' paths begin at, one behind the other
	sums       []uint64 // of regular files: 40 bits of the SHA-256, 24 of the chunk's number; sorted
	components []string // sorted

	cache [cached]atomic.Pointer[chunk] // by number, modulo its length

	failed atomic.Pointer[error]
}

// place is a chunk as it was when the whole was verified.
type place struct {
	offset uint32 // in the file
	start  uint32 // end of its name in starts: no path in it is less, all before it are
	// sum is half of its SHA-256: another text with the same half takes 2^128
	// attempts to find.
	sum [16]byte
}

// sumBits is how much of a file's digest the table holds.
const sumBits = 40

// LoadIndex reads a baseline of size bytes to its end and returns its index if
// its digest is want; else the error wraps ErrDigest, whatever else is wrong
// with the text: one that is not the release's is no baseline at all. The index
// goes on reading from r.
func LoadIndex(r io.ReaderAt, size int64, want [32]byte) (*Index, error) {
	if size > maxText {
		return nil, fmt.Errorf("index baseline: %d bytes, want at most %d", size, maxText)
	}
	sum := sha256.New()
	in := io.TeeReader(io.NewSectionReader(r, 0, size), sum)
	l := loader{x: &Index{file: r}}
	parseErr := l.read(in)
	if parseErr != nil {
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, fmt.Errorf("read baseline: %w", err)
		}
	}
	l.x.digest = [32]byte(sum.Sum(nil))
	if l.x.digest != want {
		return nil, fmt.Errorf("read baseline: %w: found %x, want %x", ErrDigest, l.x.digest, want)
	}
	if parseErr != nil {
		return nil, parseErr
	}
	return l.done(), nil
}

// loader fills an index line by line.
type loader struct {
	x          *Index
	open       []byte // the lines of the chunk that is not closed yet
	offset     int64  // at which it begins
	last       string // the path before
	components map[string]struct{}
}

func (l *loader) read(in io.Reader) error {
	r, err := NewReader(in)
	if err != nil {
		return err
	}
	l.components = make(map[string]struct{})
	l.open = append(make([]byte, 0, chunkSize+maxLine), header+"\n"...)
	l.x.chunks = append(l.x.chunks, place{})
	for {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			l.close()
			return nil
		}
		if err != nil {
			return fmt.Errorf("parse baseline: %w", err)
		}
		e, err := r.entry(line)
		if err != nil {
			return err
		}
		if err := l.add(e, line); err != nil {
			return fmt.Errorf("index baseline: %w", err)
		}
	}
}

// add puts an entry into the open chunk, or into the next one when that is full.
func (l *loader) add(e *Entry, line []byte) error {
	if len(l.open) >= chunkSize {
		l.close()
		l.x.starts = append(l.x.starts, start(l.last, e.Path)...)
		if len(l.x.starts) > maxStarts {
			return fmt.Errorf("more than %d bytes of paths to find the others by", maxStarts)
		}
		l.x.chunks = append(l.x.chunks, place{offset: uint32(l.offset), start: uint32(len(l.x.starts))})
	}
	l.open = append(append(l.open, line...), '\n')
	l.last = e.Path
	if e.Type == File {
		l.x.files++
		l.x.sums = append(l.x.sums, sumKey(e.SHA256)|uint64(len(l.x.chunks)-1))
	}
	if _, known := l.components[e.Component]; !known && e.Component != "" {
		if len(l.components) == maxComponents {
			return fmt.Errorf("more than %d components", maxComponents)
		}
		l.components[e.Component] = struct{}{}
	}
	return nil
}

// start is the shortest beginning of a path that tells it from the one before.
func start(before, path string) string {
	for i := range min(len(before), len(path)) {
		if before[i] != path[i] {
			return path[:i+1]
		}
	}
	return path[:min(len(before)+1, len(path))]
}

// close hashes the open chunk and empties it.
func (l *loader) close() {
	sum := sha256.Sum256(l.open)
	l.x.chunks[len(l.x.chunks)-1].sum = [16]byte(sum[:])
	l.offset += int64(len(l.open))
	l.open = l.open[:0]
}

// done sorts the tables, and gives back what the large one was grown beyond.
func (l *loader) done() *Index {
	x := l.x
	sort.Slice(x.sums, func(i, j int) bool { return x.sums[i] < x.sums[j] })
	x.sums = append(make([]uint64, 0, len(x.sums)), x.sums...)
	x.chunks = append(x.chunks, place{offset: uint32(l.offset)}) // the end
	for name := range l.components {
		x.components = append(x.components, name)
	}
	sort.Strings(x.components)
	return x
}

// sumKey is what the table holds of a digest, with room for a chunk's number.
func sumKey(sum [32]byte) uint64 {
	var key uint64
	for _, b := range sum[:sumBits/8] {
		key = key<<8 | uint64(b)
	}
	return key << (64 - sumBits)
}

// Digest is the SHA-256 of the baseline that was read.
func (x *Index) Digest() [32]byte { return x.digest }

// Files is the number of regular files.
func (x *Index) Files() int { return x.files }

// Components are the names of the SBOM's entries that files belong to, sorted,
// each once. The caller does not change them.
func (x *Index) Components() []string { return x.components }

// Err is why a question could not be answered, of the last one for which that
// holds: the file cannot be read, or, wrapping ErrDigest, was changed since it
// was verified. Whoever sees it loads the baseline anew.
func (x *Index) Err() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (x *Index) fail(err error) error {
	x.failed.Store(&err)
	return err
}
