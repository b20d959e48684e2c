package wal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

// content is what is appended as record n in a life of the log: lives differ, so
// that a record of one is not taken for that of another.
func content(life int, n uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d.%d;", life, n), 1+size*int(1+n%7)/6)
}

// world is what a log was told and what it promised.
type world struct {
	size     int               // of payloads, about this many times five bytes
	said     map[uint64]uint64 // the lives, a bit each, in which a record was appended
	promised map[uint64]int    // of durable records the life
	free     uint64            // up to here records may be gone: acknowledged, or dropped on purpose
	harmed   string            // a segment that was damaged on purpose
	version  uint64            // another one after every change
}

// worlds numbers the versions of all worlds.
var worlds uint64

func (w *world) changed() { worlds++; w.version = worlds }

func newWorld(size int) *world {
	w := &world{size: size, said: map[uint64]uint64{}, promised: map[uint64]int{}}
	w.changed()
	return w
}

func (w *world) clone() *world {
	c := *w
	c.said, c.promised = maps.Clone(w.said), maps.Clone(w.promised)
	return &c
}

// life tells in which life a record was appended, -1: in none.
func (w *world) life(r wal.Record) int {
	for life, lives := 0, w.said[r.Sequence]; lives>>life != 0; life++ {
		if lives>>life&1 == 0 {
			continue
		}
		want := content(life, r.Sequence, w.size)
		if r.Kind == wal.Stub {
			h := sha256.Sum256(want)
			want = h[:]
		}
		if bytes.Equal(r.Payload, want) {
			return life
		}
	}
	return -1
}

// reading collects a log's records and finds fault with them.
type reading struct {
	w     *world
	last  uint64
	found map[uint64]int // the life of each record
	wrong []string
}

func (r *reading) each(rec wal.Record) error {
	life := r.w.life(rec)
	switch {
	case life < 0:
		r.fault("record %d holds %.40q, which nobody appended", rec.Sequence, rec.Payload)
	case rec.Sequence <= r.last:
		r.fault("record %d comes after %d", rec.Sequence, r.last)
	case r.last != 0 && rec.Sequence != r.last+1 && r.w.harmed == "":
		r.fault("record %d comes after %d", rec.Sequence, r.last)
	}
	r.last, r.found[rec.Sequence] = rec.Sequence, life
	return nil
}

func (r *reading) fault(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// judge compares what was read with what was promised.
func (r *reading) judge(scan wal.Scan, err error) []string {
	if err != nil {
		r.fault("reading fails: %v", err)
		return r.wrong
	}
	for _, d := range scan.Damage {
		if r.w.harmed == "" || d.Segment != r.w.harmed {
			r.fault("damage is seen where there is none: %s", d)
		}
	}
	for n, life := range r.w.promised {
		if got, ok := r.found[n]; n > r.w.free && (!ok || got != life) {
			r.fault("record %d of life %d was durable, found %v (life %d)", n, life, ok, got)
		}
	}
	return r.wrong
}

// explorer goes through the outcomes of power cuts.
type explorer struct {
	t        *testing.T
	history  string
	options  wal.Options
	cuts     waltest.Limits // of a history
	second   waltest.Limits // of the recovery, for every so many states
	every    uint64
	counts   map[string]int
	judged   map[uint64]bool // state and what was promised in it
	distinct map[uint64]bool // states
	failures int
}

func newExplorer(t *testing.T, cuts, second waltest.Limits, every uint64) *explorer {
	return &explorer{
		t: t, cuts: cuts, second: second, every: every,
		counts: map[string]int{}, judged: map[uint64]bool{}, distinct: map[uint64]bool{},
	}
}

// explore judges every outcome of a power cut at this moment, and that of the
// process being killed without one.
func (e *explorer) explore(prefix string, l waltest.Limits, d *waltest.Disk, w *world, recovering bool) {
	if e.counts[prefix+"killed"]++; e.failures < 5 {
		if wrong := e.recover(d.Fork(), w, false); len(wrong) > 0 {
			e.fail(prefix+"killed", d, describe(d), wrong)
		}
	}
	d.Cuts(l, func(kind string, after *waltest.Disk) bool {
		e.counts[prefix+kind]++
		hash := after.Hash()
		e.distinct[hash] = true
		key := hash*0x9e3779b97f4a7c15 + w.version
		if e.judged[key] {
			return true
		}
		e.judged[key] = true
		before := describe(after)
		if wrong := e.recover(after, w, !recovering && hash%e.every == 0); len(wrong) > 0 {
			e.fail(prefix+kind, d, before, wrong)
		}
		return e.failures < 5
	})
}

func (e *explorer) fail(kind string, d *waltest.Disk, before string, wrong []string) {
	e.failures++
	log := d.Log()
	var last []string
	for _, op := range log[max(0, len(log)-12):] {
		last = append(last, op.String())
	}
	e.t.Errorf("%s, behind operation %d, %s:\n  %s\noperations:\n  %s\nfolder:\n%s", e.history, len(log), kind,
		strings.Join(wrong[:min(5, len(wrong))], "\n  "), strings.Join(last, "\n  "), before)
}

func describe(d *waltest.Disk) string {
	var b strings.Builder
	names, _ := d.List()
	for _, name := range names {
		fmt.Fprintf(&b, "  %s %d bytes\n", name, len(d.Content(name)))
	}
	return b.String()
}

// recover opens a log after a power cut, judges it, goes on, and cuts the power
// again: at every operation of the recovery, when deep, and at its end.
func (e *explorer) recover(d *waltest.Disk, before *world, deep bool) []string {
	w := before.clone()
	if deep {
		d.Watch(func(waltest.Op) { e.explore("recovery, ", e.second, d, w, true) })
	}
	r := &reading{w: w, found: map[uint64]int{}}
	o := e.options
	o.Each = r.each
	log, scan, err := wal.Open(d, o)
	if wrong := r.judge(scan, err); len(wrong) > 0 {
		return wrong
	}
	for n := range w.promised {
		if n >= log.Next() {
			return []string{fmt.Sprintf("record %d was durable, and %d would be next", n, log.Next())}
		}
	}
	life := 40
	if before.said[log.Next()-1]>>life != 0 {
		life++
	}
	for range 2 {
		w.said[log.Next()] |= 1 << life
		r.found[log.Next()] = life
		w.changed()
		if _, err := log.Append(content(life, log.Next(), w.size)); err != nil {
			return []string{fmt.Sprintf("append behind the power cut: %v", err)}
		}
	}
	if err := log.Sync(); err != nil || log.Durable() != log.Next()-1 {
		return []string{fmt.Sprintf("sync behind the power cut: %v, durable %d of %d", err, log.Durable(), log.Next()-1)}
	}
	w.promised = r.found
	w.changed()
	d.Watch(nil)
	var wrong []string
	d.Cuts(waltest.Limits{}, func(_ string, after *waltest.Disk) bool {
		e.counts["behind the recovery"]++
		again := &reading{w: w, found: map[uint64]int{}}
		wrong = again.judge(wal.Inspect(after, again.each))
		return len(wrong) == 0
	})
	return wrong
}

// Verifies: SR-050
func TestEveryPowerCutOfShortHistories(t *testing.T) {
	e := newExplorer(t, waltest.Limits{Exhaustive: 2, Torn: 61}, waltest.Limits{}, 97)
	for _, h := range histories {
		e.cutAnywhere(h, 1)
	}
	e.report()
}

// cutAnywhere plays a history and judges power cuts behind every operation.
func (e *explorer) cutAnywhere(h history, seed uint64) {
	e.history, e.options = h.name, h.options
	p := e.play(seed, h.size, func(p *player) {
		p.watch = func(waltest.Op) { e.explore("", e.cuts, p.disk, p.w, false) }
	})
	h.play(p)
}

// fault is a way in which operations fail, from some one on.
type fault struct {
	name  string
	err   error
	ops   int             // how many fail
	kinds map[string]bool // which; nil: any
}

var faults = []fault{
	{"EIO once", syscall.EIO, 1, nil},
	{"EIO five times", syscall.EIO, 5, nil},
	{"a full disk", syscall.ENOSPC, 8, map[string]bool{"create": true, "write": true}},
	{"a full disk that shows at the sync", syscall.ENOSPC, 2, map[string]bool{"sync": true}},
}

// Verifies: SR-050
func TestAFaultAtAnyOperationOfShortHistories(t *testing.T) {
	e := newExplorer(t, waltest.Limits{}, waltest.Limits{}, 1<<62)
	for _, h := range histories {
		for n, f := range faults {
			e.failAnywhere(h, f, uint64(n), 11, 4)
		}
	}
	e.report()
}

// failAnywhere plays a history again and again, each time with operations
// failing from another one on, step apart, and judges what is there behind every
// so many operations from then on and when the disk is mended.
func (e *explorer) failAnywhere(h history, f fault, seed uint64, step, every int) {
	e.options = h.options
	for at := int(seed) % step; ; at += step {
		e.history = fmt.Sprintf("%s, %s at operation %d", h.name, f.name, at)
		n, seen := 0, 0
		p := e.play(seed, h.size, func(p *player) {
			p.broken, p.fault = true, f.err
			p.fails = func(op string) bool {
				if f.kinds != nil && !f.kinds[op] {
					return false
				}
				n++
				if n <= at || n > at+f.ops {
					return false
				}
				e.counts["fault points: "+f.name+", "+op]++
				return true
			}
			p.watch = func(waltest.Op) {
				if seen++; n > at && seen%every == 0 {
					e.explore("fault, ", e.cuts, p.disk, p.w, false)
				}
			}
		})
		h.play(p)
		if n <= at {
			return
		}
		p.broken = false
		p.disk.Mend()
		p.sync()
		if lost := p.log.Next() - 1 - p.log.Durable(); lost > 0 {
			e.t.Errorf("%s: the disk is mended and %d records are not durable", e.history, lost)
		}
		e.explore("fault, ", e.cuts, p.disk, p.w, false)
	}
}

func (e *explorer) report() {
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(e.counts)) {
		e.t.Logf("%8d  %s", e.counts[kind], kind)
		if !strings.HasPrefix(kind, "fault points") {
			total += e.counts[kind]
		}
	}
	e.t.Logf("%8d  states in all, %d distinct by hash, %d judged (a state may stand behind different promises)", total, len(e.distinct), len(e.judged))
}
