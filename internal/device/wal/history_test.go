package wal_test

import (
	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

// player plays a history of one log.
type player struct {
	e       *explorer
	disk    *waltest.Disk
	log     *wal.Log
	w       *world
	life    int
	current map[uint64]int // the life of each record as the log has it
	broken  bool           // operations may fail
	fault   error
	fails   func(op string) bool
	watch   func(waltest.Op)
}

func (e *explorer) play(seed uint64, size int, prepare func(p *player)) *player {
	p := &player{e: e, disk: waltest.New(seed), w: newWorld(size), current: map[uint64]int{}}
	prepare(p)
	p.use(p.disk)
	return p
}

func (p *player) use(d *waltest.Disk) {
	p.disk = d
	p.disk.Watch(p.watch)
	p.disk.Break(p.fault, p.fails)
}

func (p *player) must(what string, err error) bool {
	if err != nil && !p.broken {
		p.e.t.Fatalf("%s: %s: %v", p.e.history, what, err)
	}
	return err == nil
}

// open opens the log in a new life; whatever had it open before was killed.
func (p *player) open() {
	r := &reading{w: p.w, found: map[uint64]int{}}
	o := p.e.options
	o.Each = r.each
	log, scan, err := wal.Open(p.disk, o)
	if wrong := r.judge(scan, err); len(wrong) > 0 {
		p.e.fail("opened anew", p.disk, describe(p.disk), wrong)
		p.e.t.FailNow()
	}
	p.life++
	p.log, p.current = log, r.found
}

func (p *player) append(n int) {
	for range n {
		next := p.log.Next()
		p.w.said[next] |= 1 << p.life
		p.w.changed()
		if _, err := p.log.Append(content(p.life, next, p.w.size)); p.must("append", err) {
			p.current[next] = p.life
		}
	}
	p.promise()
}

func (p *player) sync() { p.must("sync", p.log.Sync()); p.promise() }

// promise takes what the log calls durable at its word.
func (p *player) promise() {
	for n := p.log.Durable(); n > 0; n-- {
		if _, ok := p.w.promised[n]; ok {
			break
		}
		if life, ok := p.current[n]; ok {
			p.w.promised[n] = life
			p.w.changed()
		}
	}
}

func (p *player) room(acknowledged uint64) {
	if acknowledged = min(acknowledged, p.log.Durable()); acknowledged > p.w.free {
		p.w.free = acknowledged
		p.w.changed()
	}
	_, err := p.log.Room(acknowledged, shed)
	p.must("room", err)
}

// drop drops the oldest segments until the log is within its bound.
func (p *player) drop() {
	for {
		_, last, over := p.log.Oldest()
		if !over {
			return
		}
		p.w.free = max(p.w.free, last)
		p.w.changed()
		if !p.must("drop", p.log.DropOldest()) {
			return
		}
	}
}

func (p *player) cut() {
	p.use(p.disk.PowerCut())
	p.open()
}

// harm flips a bit in the middle of the second segment, which is closed.
func (p *player) harm() {
	names, err := p.disk.List()
	if err != nil || len(names) < 4 {
		return
	}
	name := names[1]
	b := p.disk.Content(name)
	b[len(b)/2] ^= 1
	p.w.harmed = name
	p.w.changed()
	p.disk.Put(name, b)
	lost := &reading{w: p.w, found: map[uint64]int{}}
	if _, err := wal.Inspect(p.disk, lost.each); err != nil {
		p.e.t.Fatal(err)
	}
	for n := range p.w.promised {
		if _, ok := lost.found[n]; !ok {
			delete(p.w.promised, n)
		}
	}
}

// history is a row of the exploration.
type history struct {
	name    string
	options wal.Options
	size    int
	play    func(p *player)
}

var (
	narrow = wal.Options{Epoch: 1, SegmentBytes: 1 << 10, MaxBytes: 12 << 10}
	wide   = wal.Options{Epoch: 1, SegmentBytes: 9 << 10, MaxBytes: 28 << 10}
)

var histories = []history{
	{"group commit", narrow, 4, func(p *player) {
		p.open()
		for n := range 10 {
			p.append(1 + n%4)
			p.sync()
		}
	}},
	{"several segments without a sync", narrow, 20, func(p *player) {
		p.open()
		p.append(18)
	}},
	{"a record larger than a segment", narrow, 250, func(p *player) {
		p.open()
		for range 4 {
			p.append(2)
			p.sync()
		}
	}},
	{"recycling", narrow, 24, func(p *player) {
		p.open()
		for n := range uint64(12) {
			p.append(4)
			p.sync()
			p.room(4*n - min(4*n, n%5))
		}
	}},
	{"shedding", wide, 180, func(p *player) {
		p.open()
		for range 12 {
			p.append(5)
			p.sync()
			p.room(0)
		}
	}},
	{"dropping the oldest", wal.Options{Epoch: 1, SegmentBytes: 2 << 10, MaxBytes: 12 << 10}, 30, func(p *player) {
		p.open()
		for range 12 {
			p.append(5)
			p.sync()
			p.room(0)
			p.drop()
		}
	}},
	{"killed and opened anew", narrow, 16, func(p *player) {
		for n := range 8 {
			p.open()
			p.append(3)
			p.sync()
			p.append(n % 4)
			if n%3 == 2 {
				p.room(uint64(3 * n))
			}
		}
	}},
	{"power cut after power cut", narrow, 16, func(p *player) {
		p.open()
		for n := range 8 {
			p.append(2)
			p.sync()
			p.append(1 + n%3)
			p.cut()
		}
	}},
	{"a damaged segment is kept aside", wal.Options{Epoch: 1, SegmentBytes: 1 << 10, MaxBytes: 16 << 10}, 24, func(p *player) {
		p.open()
		p.append(24)
		p.sync()
		p.harm()
		p.open()
		for n := range uint64(6) {
			p.append(4)
			p.sync()
			p.room(12 + 4*n)
		}
	}},
}
