package securityfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"ward/internal/format/ima"
)

// Position is a place between two entries of the list. The zero value is the
// list's begin.
type Position struct {
	Entries int   // entries before it
	Offset  int64 // bytes before it
}

// Part is a piece of the list: whole entries, one after another.
type Part struct {
	List      []byte
	Begin     Position
	End       Position
	Truncated bool // there is more of the list than the reader asked for
}

// OpenIMAAt opens the list at an offset, which must be the begin of an entry, as a
// stream that ends MaxIMA bytes behind it.
//
// User space pays for what it reads alone, wherever that stands. What the kernel
// pays depends on the descriptor (fs/seq_file.c): reading on where the last read
// ended costs it a walk along the list's pointers (ima_fs.c,
// ima_measurements_start); an offset anywhere else, as a descriptor just opened has
// to be given, makes it write out every entry before the offset again and throw it
// away (traverse). Who asks often keeps a Follower.
func OpenIMAAt(fsys fs.FS, offset int64) (*List, error) {
	f, err := openIMA(fsys)
	if err != nil {
		return nil, err
	}
	l := &List{f: f, r: f, left: MaxIMA}
	if err := l.skip(offset); err != nil {
		f.Close()
		return nil, fmt.Errorf("open IMA list at offset %d: %w", offset, err)
	}
	return l, nil
}

// skip moves to an offset in the way that the file offers.
func (l *List) skip(offset int64) error {
	if offset < 0 {
		return errors.New("want an offset from 0 on")
	}
	if offset == 0 {
		return nil
	}
	switch f := l.f.(type) {
	case io.Seeker:
		_, err := f.Seek(offset, io.SeekStart)
		return err
	case io.ReaderAt:
		l.r = io.NewSectionReader(f, offset, math.MaxInt64-offset)
		return nil
	}
	n, err := io.CopyN(io.Discard, l.f, offset)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends after %d bytes", ErrShrunk, n)
	}
	return err
}

// ReadIMAFrom returns the list from a position on that an earlier call gave, in
// whole entries and no more than most bytes of them (at most MaxIMA); an entry that
// alone is longer than that is an error which wraps ErrTooLong. The error wraps
// ErrShrunk when the kernel holds fewer entries than stand before the position,
// and an error of package ima when no entry begins there.
func ReadIMAFrom(fsys fs.FS, at Position, most int64) (Part, error) {
	p := Part{Begin: at, End: at}
	count := &Follower{fsys: fsys}
	n, err := count.entries()
	count.closeCount()
	switch {
	case err == nil && n < at.Entries:
		return p, fmt.Errorf("read IMA list: %w: it has %d, and %d were read from it", ErrShrunk, n, at.Entries)
	case errors.Is(err, fs.ErrNotExist):
		n = 0
	case err != nil:
		return p, fmt.Errorf("read IMA count: %w", err)
	}
	l, err := OpenIMAAt(fsys, at.Offset)
	if err != nil {
		return p, err
	}
	defer l.Close()
	l.left = min(most, MaxIMA)
	if p.List, err = io.ReadAll(l); err != nil {
		return p, fmt.Errorf("read IMA list at offset %d: %w", at.Offset, err)
	}
	p.Truncated = l.Truncated()
	if err := p.cut(); err != nil {
		return p, err
	}
	// The kernel adds an entry before it counts it.
	if !p.Truncated && p.End.Entries < n {
		found := p.End.Entries
		p.List, p.End = nil, at
		return p, fmt.Errorf("read IMA list at offset %d: %w: it has %d, and only %d can be read", at.Offset, ErrShrunk, n, found)
	}
	return p, nil
}

// cut ends the part behind its last whole entry. A line of an ASCII list that
// was cut right before its end would pass for whole.
func (p *Part) cut() error {
	if p.Truncated && len(p.List) > 0 && p.List[0] >= ' ' {
		p.List = p.List[:bytes.LastIndexByte(p.List, '\n')+1]
	}
	d, err := ima.NewDecoderAt(bytes.NewReader(p.List), p.Begin.Entries, p.Begin.Offset)
	for err == nil {
		if _, err = d.Next(); err == nil {
			p.End.Entries, p.End.Offset = d.Position()
		}
	}
	var inside *ima.TruncatedError
	if p.Truncated && errors.As(err, &inside) {
		p.List, err = p.List[:p.End.Offset-p.Begin.Offset], io.EOF
	}
	switch {
	case !errors.Is(err, io.EOF):
	case p.Truncated && len(p.List) == 0:
		err = ErrTooLong
	default:
		return nil
	}
	p.List, p.End = nil, p.Begin
	return fmt.Errorf("read IMA list: entry %d at offset %d: %w", p.Begin.Entries, p.Begin.Offset, err)
}
