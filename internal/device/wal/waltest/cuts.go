package waltest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// Kinds of outcomes of a power cut.
const (
	Plain   = "plain"   // all or nothing of what was not synced
	Torn    = "torn"    // the last write up to some byte
	Sectors = "sectors" // some sectors of what was written
	Writes  = "writes"  // some whole writes
	Names   = "names"   // some of the changes of names
)

// sector is what a disk writes as a whole.
const sector = 512

// Limits of an enumeration. Sets of up to Exhaustive members are taken in every
// subset; of larger ones each member alone, all but each, and Sample random
// subsets. Where Exhaustive is 0, only all and nothing.
type Limits struct {
	Exhaustive, Sample int
	Torn               int // every so many bytes the last write is cut; 0: never
}

// Cuts calls each for outcomes of a power cut at this moment, until it says no.
// Some come more than once. What was not synced is there or not: the names each
// by itself; of contents the last write up to every byte, any sectors, any whole
// writes; and where a file is shorter than it was, its length may have come
// through, with zeros for what is missing.
func (d *Disk) Cuts(l Limits, each func(kind string, after *Disk) bool) {
	log := d.Log()
	d = d.Fork() // nothing is locked while each runs
	d.log = log
	c := cutter{d: d, l: l, each: each, seed: d.rnd.Uint64()}
	c.rnd = rand.New(rand.NewPCG(c.seed, 3))
	c.names = d.changes
	for _, i := range d.inodes() {
		for _, w := range i.writes {
			if w.fate != synced {
				c.writes = append(c.writes, w)
			}
		}
	}
	c.run()
}

// inodes are all that a power cut may leave a name of.
func (d *Disk) inodes() []*inode {
	var out []*inode
	seen := map[*inode]bool{nil: true}
	take := func(i *inode) {
		if !seen[i] {
			seen[i] = true
			out = append(out, i)
		}
	}
	for _, names := range []map[string]*inode{d.kept, d.names} {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			take(names[name])
		}
	}
	for _, c := range d.changes {
		take(c.i)
	}
	return out
}

type span struct{ from, to int }

// outcome says what of a disk a power cut leaves, beside what was synced.
type outcome struct {
	names map[*change]bool
	spans map[*write][]span
	grown bool // lengths came through
}

type cutter struct {
	d      *Disk
	l      Limits
	each   func(string, *Disk) bool
	rnd    *rand.Rand
	seed   uint64
	names  []*change // not synced
	writes []*write  // not synced
	done   bool
}

func (c *cutter) run() {
	none, all := map[*change]bool{}, map[*change]bool{}
	for _, g := range c.names {
		all[g] = true
	}
	byName := []map[*change]bool{all}
	if len(all) > 0 {
		byName = append(byName, none)
	}
	nothing, everything := map[*write][]span{}, map[*write][]span{}
	type piece struct {
		w *write
		s span
	}
	var pieces []piece
	for _, w := range c.writes {
		everything[w] = []span{{0, len(w.data)}}
		for from := 0; from < len(w.data); {
			to := min(len(w.data), from+sector-int(w.off+int64(from))%sector)
			pieces = append(pieces, piece{w, span{from, to}})
			from = to
		}
	}
	byContent := []map[*write][]span{everything}
	if len(everything) > 0 {
		byContent = append(byContent, nothing)
	}
	for _, names := range byName {
		for _, content := range byContent {
			c.yield(Plain, names, content)
		}
	}
	for subset := range c.subsets(len(c.names)) {
		names := map[*change]bool{}
		for n, g := range c.names {
			names[g] = subset[n]
		}
		for _, content := range byContent {
			c.yield(Names, names, content)
		}
	}
	for subset := range c.subsets(len(c.writes)) {
		content := map[*write][]span{}
		for n, w := range c.writes {
			if subset[n] {
				content[w] = everything[w]
			}
		}
		for _, names := range byName {
			c.yield(Writes, names, content)
		}
	}
	if len(pieces) > len(c.writes) {
		for subset := range c.subsets(len(pieces)) {
			content := map[*write][]span{}
			for n, p := range pieces {
				if subset[n] {
					content[p.w] = append(content[p.w], p.s)
				}
			}
			for _, names := range byName {
				c.yield(Sectors, names, content)
			}
		}
	}
	c.torn(byName, byContent)
}

// torn cuts the last write, when that was the last operation, at every byte.
func (c *cutter) torn(byName []map[*change]bool, byContent []map[*write][]span) {
	log := c.d.log
	if c.l.Torn == 0 || len(log) == 0 || log[len(log)-1].Kind != "write" || log[len(log)-1].Bytes == 0 {
		return
	}
	op := log[len(log)-1]
	i := c.d.names[op.Name]
	if i == nil || len(i.writes) == 0 {
		return
	}
	w := i.writes[len(i.writes)-1]
	for at := 0; at < len(w.data); at += c.l.Torn {
		for _, rest := range byContent {
			content := maps.Clone(rest)
			content[w] = []span{{0, at}}
			for _, names := range byName {
				c.yield(Torn, names, content)
			}
		}
	}
}

// yield gives an outcome, with the lengths of files come through and not.
func (c *cutter) yield(kind string, names map[*change]bool, content map[*write][]span) {
	for _, grown := range []bool{false, true} {
		if c.done {
			return
		}
		c.seed++
		c.done = !c.each(kind, c.d.build(c.seed, outcome{names, content, grown}))
		if len(c.writes) == 0 {
			return
		}
	}
}

// subsets gives subsets of n things as Limits says, but not all and none.
func (c *cutter) subsets(n int) func(func([]bool) bool) {
	return func(yield func([]bool) bool) {
		if n < 2 || c.l.Exhaustive == 0 {
			return
		}
		set := make([]bool, n)
		if n <= c.l.Exhaustive {
			for mask := 1; mask < 1<<n-1; mask++ {
				for i := range set {
					set[i] = mask>>i&1 == 1
				}
				if !yield(set) {
					return
				}
			}
			return
		}
		for _, alone := range []bool{true, false} {
			for only := range n {
				for i := range set {
					set[i] = (i == only) == alone
				}
				if !yield(set) {
					return
				}
			}
		}
		for range c.l.Sample {
			for i := range set {
				set[i] = c.rnd.IntN(2) == 0
			}
			if !yield(set) {
				return
			}
		}
	}
}

// build makes the disk that an outcome leaves.
func (d *Disk) build(seed uint64, o outcome) *Disk {
	names := maps.Clone(d.kept)
	for _, c := range d.changes {
		if o.names[c] {
			c.apply(names)
		}
	}
	after := New(seed)
	for name, i := range names {
		after.put(name, i.after(o))
	}
	return after
}

func (i *inode) after(o outcome) []byte {
	b := bytes.Clone(i.base)
	for _, w := range i.writes {
		spans := o.spans[w]
		if w.fate == synced {
			spans = []span{{0, len(w.data)}}
		}
		for _, s := range spans {
			if s.from < s.to {
				b = overlay(b, w.data[s.from:s.to], w.off+int64(s.from))
			}
		}
	}
	if grow := len(i.live) - len(b); o.grown && grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	return b
}

// Fork returns the disk as another program finds it after this one was killed:
// the kernel still has what was not synced.
func (d *Disk) Fork() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := New(d.rnd.Uint64())
	copies := map[*inode]*inode{nil: nil}
	for _, i := range d.inodes() {
		c := &inode{name: i.name, live: bytes.Clone(i.live), base: bytes.Clone(i.base)}
		for _, w := range i.writes {
			same := *w
			c.writes = append(c.writes, &same)
		}
		copies[i] = c
	}
	for name, i := range d.names {
		f.names[name] = copies[i]
	}
	for name, i := range d.kept {
		f.kept[name] = copies[i]
	}
	for _, c := range d.changes {
		f.changes = append(f.changes, &change{c.from, c.to, copies[c.i]})
	}
	return f
}

// PowerCut returns the disk as one power cut leaves it, of what was not synced
// an arbitrary part.
func (d *Disk) PowerCut() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := outcome{names: map[*change]bool{}, spans: map[*write][]span{}, grown: d.rnd.IntN(2) == 0}
	some := d.rnd.IntN(4) // 0: nothing, 3: everything
	keep := func() bool { return some == 3 || some > 0 && d.rnd.IntN(2) == 0 }
	for _, c := range d.changes {
		o.names[c] = keep()
	}
	for _, i := range d.inodes() {
		for _, w := range i.writes {
			for from := 0; from < len(w.data); {
				to := min(len(w.data), from+sector-int(w.off+int64(from))%sector)
				if keep() {
					o.spans[w] = append(o.spans[w], span{from, to})
				}
				from = to
			}
		}
	}
	return d.build(d.rnd.Uint64(), o)
}
