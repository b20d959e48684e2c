package journal_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/anchor/anchortest"
	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/receipt"
)

// copied is a journal in the hands of somebody with root's rights: he knows every
// byte, computes checksums and hashes, and may use the TPM.
type copied struct {
	chip   *anchortest.Chip
	epoch  uint64
	events []event.Decoded
	stubs  map[int]chain.Hash // records whose content he left out
	gone   int                // records at the begin that were recycled
}

// honest makes a journal of two boots as a device does: 20 events, and a checkpoint
// of the everyday counter behind every third. The second boot begins behind event
// 11, with a checkpoint of both, as the first.
func honest(t *testing.T, cut bool) *copied {
	t.Helper()
	c := &copied{chip: anchortest.New(t), epoch: 1, stubs: make(map[int]chain.Hash)}
	for n := range 20 {
		c.add(low(fmt.Sprint("event ", n)))
		if n == 11 && cut {
			c.chip.Cut(t)
		}
		if n == 0 || n == 11 {
			c.anchor(t, checkpoint.Durable)
		}
		if n%3 == 0 || n == 11 {
			c.anchor(t, checkpoint.Orderly)
		}
	}
	return c
}

func (c *copied) add(e event.Event) {
	c.events = append(c.events, event.Decoded{Event: e})
	c.rechain()
}

// anchor takes a checkpoint over the newest record, as the device does.
func (c *copied) anchor(t *testing.T, counter checkpoint.Counter) {
	t.Helper()
	c.rechain()
	c.add(c.chip.Event(t, counter, source, c.place(len(c.events)), nil))
}

// place is a record, counted from 1, with its hash.
func (c *copied) place(sequence int) checkpoint.Place {
	return checkpoint.Place{Epoch: c.epoch, Sequence: uint64(sequence), Head: c.hash(sequence - 1)}
}

func (c *copied) hash(i int) chain.Hash {
	if h, ok := c.stubs[i]; ok {
		return h
	}
	return chain.Next(c.bytes(i))
}

func (c *copied) bytes(i int) []byte {
	b, err := event.Encode(c.events[i].Event, c.events[i].Stamp)
	if err != nil {
		panic(err)
	}
	return b
}

// rechain gives every record its place and the hash of the one before it.
func (c *copied) rechain() {
	var prev chain.Hash
	for i := range c.events {
		e := &c.events[i]
		if e.Time.IsZero() {
			e.Time = time.Date(2026, 11, 24, 1, 2, i, 0, time.UTC)
		}
		e.Stamp = event.Stamp{Source: source, Epoch: c.epoch, Sequence: uint64(i + 1), Boot: "b", Prev: prev}
		prev = c.hash(i)
	}
}

// at finds a record by what stands in it.
func (c *copied) at(text string) int {
	return slices.IndexFunc(c.events, func(e event.Decoded) bool { return e.Finding != nil && e.Finding.Detail == text })
}

func (c *copied) change(text string) {
	f := finding.New(finding.LinkDown, "nothing happened here")
	c.events[c.at(text)].Finding = &f
}

// drop removes every checkpoint from a record on.
func (c *copied) drop(from int) (dropped int) {
	kept := c.events[:from:from]
	for _, e := range c.events[from:] {
		if e.Type != event.Checkpoint {
			kept = append(kept, e)
		} else {
			dropped++
		}
	}
	c.events = kept
	return dropped
}

// write writes the records as segments that read well.
func (c *copied) write(t *testing.T) wal.FS {
	t.Helper()
	fs := wal.Memory()
	log, _, err := wal.Open(fs, wal.Options{Epoch: c.epoch, Known: wal.Place{Epoch: c.epoch, Sequence: uint64(c.gone)}})
	if err != nil {
		t.Fatal(err)
	}
	for i := c.gone; i < len(c.events); i++ {
		if _, err := log.Append(c.bytes(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// verify reads the journal as the owner of a copy does, and names what is found.
func (c *copied) verify(t *testing.T, against audit.Against) (audit.Verification, string) {
	t.Helper()
	fs := c.write(t)
	if len(c.stubs) > 0 {
		fs = c.stubbed(t)
	}
	v, err := audit.VerifyAgainst(fs, against, nil)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, f := range v.Findings {
		codes = append(codes, string(f.Code))
	}
	slices.Sort(codes)
	if len(v.Problems) > 0 {
		codes = append(codes, "problem")
	}
	return v, strings.Join(slices.Compact(codes), " ")
}

// stubbed writes the records into a log that was shed: those of stubs keep their
// hash alone.
func (c *copied) stubbed(t *testing.T) wal.FS {
	t.Helper()
	fs := wal.Memory()
	log, _, err := wal.Open(fs, wal.Options{Epoch: c.epoch, MaxBytes: 1, SegmentBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.events {
		b := c.bytes(i)
		if _, ok := c.stubs[i]; ok {
			b = append([]byte("stub"), bytes.Repeat([]byte{byte(i)}, 8<<10)...) // what wins a block when it goes
		}
		if _, err := log.Append(b); err != nil {
			t.Fatal(err)
		}
		if err := log.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	number := func(b []byte) int { return int(b[len(b)-1]) }
	if _, err := log.Room(0, wal.Shed{
		Hash: func(b []byte) [32]byte { return c.stubs[number(b)] },
		Worth: func(b []byte) int {
			if bytes.HasPrefix(b, []byte("stub")) {
				return 0
			}
			return 1
		},
		Levels: 1,
	}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// Every attack is found, or the row says why it cannot be. The attacker has root's
// rights and the live TPM in all of them.
//
// Verifies: SR-053, SR-055
func TestAttacksOnAnAnchoredJournal(t *testing.T) {
	for name, c := range map[string]struct {
		cut    bool // the device had a power cut between its boots
		attack func(t *testing.T, c *copied)
		want   string // with the key alone
	}{
		"none":              {false, func(*testing.T, *copied) {}, ""},
		"none, a power cut": {true, func(*testing.T, *copied) {}, "journal.counter-jump"},
		"a record changed, the chain computed anew": {false, func(t *testing.T, c *copied) {
			c.change("event 8")
			c.rechain()
		}, "journal.anchor-invalid"},
		"a record removed": {false, func(t *testing.T, c *copied) {
			i := c.at("event 8")
			c.events = slices.Delete(c.events, i, i+1)
			c.rechain()
		}, "journal.anchor-invalid"},
		"two records exchanged": {false, func(t *testing.T, c *copied) {
			i, j := c.at("event 7"), c.at("event 8")
			c.events[i], c.events[j] = c.events[j], c.events[i]
			c.rechain()
		}, "journal.anchor-invalid"},
		"a record put in": {false, func(t *testing.T, c *copied) {
			c.events = slices.Insert(c.events, c.at("event 8"), event.Decoded{Event: low("made up")})
			c.rechain()
		}, "journal.anchor-invalid"},
		"a record changed, what certified it removed": {false, func(t *testing.T, c *copied) {
			i := c.at("event 14")
			c.change("event 14")
			c.drop(i)
			c.rechain()
		}, ""}, // the end of a record is not known by the record alone: see the next row, and freshness
		"the same, and gone on with the live TPM": {false, func(t *testing.T, c *copied) {
			i := c.at("event 14")
			c.change("event 14")
			c.drop(i)
			c.rechain()
			c.anchor(t, checkpoint.Orderly)
		}, "journal.anchor-gap"},
		"one checkpoint removed": {false, func(t *testing.T, c *copied) {
			i := c.at("event 6") + 1
			c.events = slices.Delete(c.events, i, i+1)
			c.rechain()
		}, "journal.anchor-gap journal.anchor-invalid"},
		"a checkpoint twice": {false, func(t *testing.T, c *copied) {
			c.add(c.events[c.at("event 18")+1].Event)
		}, "journal.anchor-invalid"},
		"a checkpoint without its record's own": {false, func(t *testing.T, c *copied) {
			r := c.chip.Report(t, checkpoint.Orderly, source, c.place(len(c.events)), nil)
			r.Value += 3
			c.add(anchortest.Event(t, r))
		}, "journal.anchor-invalid"},
		"written anew over a boot, with a power cut to hide it": {false, func(t *testing.T, c *copied) {
			i := c.at("event 8")
			c.change("event 8")
			c.drop(i)
			c.chip.Cut(t)
			c.rechain()
			c.anchor(t, checkpoint.Durable)
			c.anchor(t, checkpoint.Orderly)
		}, "journal.anchor-gap journal.counter-jump"}, // the durable counter does not jump at a power cut
		"written anew within a boot, with a power cut to hide it": {false, func(t *testing.T, c *copied) {
			i := c.at("event 14")
			c.change("event 14")
			c.drop(i)
			c.chip.Cut(t)
			c.rechain()
			c.anchor(t, checkpoint.Durable)
			c.anchor(t, checkpoint.Orderly)
		}, "journal.counter-jump"}, // as after an honest power cut: the size is told, and what the fleet holds decides
		"written anew behind the last checkpoint": {false, func(t *testing.T, c *copied) {
			c.change("event 19")
			c.rechain()
			c.anchor(t, checkpoint.Orderly)
		}, ""}, // between two checkpoints root may write what he likes: the bound is the time between them
		"the newest value certified again": {false, func(t *testing.T, c *copied) {
			// its counter was stepped behind it: the TPM certifies the next one only
			i := c.at("event 18")
			c.change("event 18")
			c.events = c.events[:i+1]
			c.rechain()
			c.anchor(t, checkpoint.Orderly)
		}, "journal.anchor-gap"},
		"certificates of another index": {false, func(t *testing.T, c *copied) {
			r := c.chip.Report(t, checkpoint.Durable, source, c.place(len(c.events)), nil)
			r.Counter = checkpoint.Orderly
			c.add(anchortest.Event(t, r))
		}, "journal.anchor-invalid"},
		"every checkpoint removed": {false, func(t *testing.T, c *copied) {
			c.drop(0)
			c.rechain()
		}, "journal.anchor-missing"},
		"every checkpoint reduced to its hash": {false, func(t *testing.T, c *copied) {
			for i, e := range c.events {
				if e.Type == event.Checkpoint {
					c.stubs[i] = c.hash(i)
				}
			}
		}, "journal.anchor-missing"},
		"written anew, with records without content in the place of the checkpoints": {false, func(t *testing.T, c *copied) {
			i := c.at("event 14")
			c.change("event 14")
			for n := range c.drop(i) {
				c.rechain()
				c.stubs[i+1+n] = c.hash(i + 1 + n)
			}
			c.anchor(t, checkpoint.Orderly)
		}, "journal.counter-jump"}, // as on an honest device that was short of space, which says so (journal.overflow)
		"written anew, with records without content elsewhere": {false, func(t *testing.T, c *copied) {
			i := c.at("event 14")
			c.change("event 14")
			for n := range c.drop(i) {
				c.stubs[5+n] = c.hash(5 + n)
			}
			c.anchor(t, checkpoint.Orderly)
		}, "journal.anchor-gap journal.counter-jump"},
		"the begin cut off": {false, func(t *testing.T, c *copied) {
			c.gone = c.at("event 5")
		}, ""}, // an honest device recycles so what the fleet has confirmed
	} {
		t.Run(name, func(t *testing.T) {
			j := honest(t, c.cut)
			c.attack(t, j)
			v, got := j.verify(t, audit.Against{AK: j.chip.AK})
			if got != c.want {
				t.Errorf("found %q, want %q: %+v %v", got, c.want, v.Findings, v.Problems)
			}
			if c.want == "" && (v.Verified == 0 || v.Anchored == 0 || v.Reached != "") {
				t.Errorf("%d of %d checkpoints verified, anchored up to record %d, freshness %q", v.Verified, v.Checkpoints, v.Anchored, v.Reached)
			}
		})
	}
}

// Somebody without root's rights on the running device, or who does not compute
// hashes, is found by the chain alone.
//
// Verifies: SR-053
func TestAttacksThatTheChainTells(t *testing.T) {
	for name, attack := range map[string]func(c *copied){
		"a record changed": func(c *copied) { c.change("event 8") },
		"a record removed": func(c *copied) { i := c.at("event 8"); c.events = slices.Delete(c.events, i, i+1) },
		"two exchanged":    func(c *copied) { i := c.at("event 7"); c.events[i], c.events[i+2] = c.events[i+2], c.events[i] },
	} {
		c := honest(t, false)
		attack(c)
		if v, _ := c.verify(t, audit.Against{AK: c.chip.AK}); len(v.Problems) == 0 {
			t.Errorf("%s: the chain holds", name)
		}
	}
}

// What a copy alone cannot tell, one that is known from elsewhere does.
//
// Verifies: SR-053, SR-055
func TestFreshness(t *testing.T) {
	fleet, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := dsse.NewKeyring(fleet.Public())
	if err != nil {
		t.Fatal(err)
	}
	received := func(t *testing.T, c *copied, sequence int) *audit.Known {
		p := c.place(sequence)
		envelope, err := receipt.Sign(receipt.Receipt{Tenant: source.Tenant, Device: source.Device, Epoch: p.Epoch, Sequence: p.Sequence, Head: p.Head, Time: time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)}, fleet)
		if err != nil {
			t.Fatal(err)
		}
		k, err := audit.KnownReceipt(envelope, keys, source)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seen := func(t *testing.T, c *copied, text string) *audit.Known {
		k, err := audit.KnownCheckpoint(c.bytes(c.at(text)+1), c.chip.AK)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, c := range map[string]struct {
		known  func(t *testing.T, c *copied) *audit.Known
		attack func(t *testing.T, c *copied)
		want   string // findings
		reach  string // a part of what is said of freshness
	}{
		"as it was, a receipt":        {func(t *testing.T, c *copied) *audit.Known { return received(t, c, 20) }, nil, "", "at least record 20, known by the fleet's receipt of 2026-11-24 05:00:00"},
		"as it was, a checkpoint":     {func(t *testing.T, c *copied) *audit.Known { return seen(t, c, "event 15") }, nil, "", "known by checkpoint orderly"},
		"the end cut off, a receipt":  {func(t *testing.T, c *copied) *audit.Known { return received(t, c, len(c.events)) }, func(t *testing.T, c *copied) { c.events = c.events[:len(c.events)-1] }, "journal.rolled-back", ""},
		"an older copy, a checkpoint": {func(t *testing.T, c *copied) *audit.Known { return seen(t, c, "event 18") }, func(t *testing.T, c *copied) { c.events = c.events[:c.at("event 9")] }, "journal.rolled-back", ""},
		"an older copy that was gone on with, a checkpoint": {func(t *testing.T, c *copied) *audit.Known { return seen(t, c, "event 18") }, func(t *testing.T, c *copied) {
			c.events = c.events[:c.at("event 14")]
			for range 12 {
				c.add(low("made up"))
			}
			c.chip.Cut(t)
			c.anchor(t, checkpoint.Durable)
			c.anchor(t, checkpoint.Orderly)
		}, "journal.counter-jump journal.forked", ""},
		"written anew behind the last checkpoint, a receipt": {func(t *testing.T, c *copied) *audit.Known { return received(t, c, len(c.events)) }, func(t *testing.T, c *copied) {
			c.change("event 19")
			c.rechain()
		}, "journal.forked", ""},
		"a value twice, a checkpoint": {func(t *testing.T, c *copied) *audit.Known {
			r := c.chip.Report(t, checkpoint.Orderly, source, c.place(5), nil) // root may certify the open value
			e := anchortest.Event(t, r)
			b, err := event.Encode(e, event.Stamp{Source: source, Epoch: 1, Sequence: 6, Boot: "b"})
			if err != nil {
				t.Fatal(err)
			}
			k, err := audit.KnownCheckpoint(b, c.chip.AK)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}, func(t *testing.T, c *copied) { c.anchor(t, checkpoint.Orderly) }, "journal.forked", "at least record 5"},
		"the journal of an earlier epoch": {func(t *testing.T, c *copied) *audit.Known { k := received(t, c, 3); k.Place.Epoch = 2; return k }, nil, "journal.rolled-back", ""},
		"the journal of a later epoch": {func(t *testing.T, c *copied) *audit.Known { return received(t, c, 3) }, func(t *testing.T, c *copied) {
			c.epoch = 2
			c.drop(0)
			c.rechain()
			c.anchor(t, checkpoint.Durable)
		}, "", "unknown: this journal was begun after"},
		"the journal of another device": {func(t *testing.T, c *copied) *audit.Known {
			k := received(t, c, 3)
			k.Source.Device = "pump-2"
			return k
		}, nil, "journal.foreign", ""},
		"the record was recycled, a receipt":    {func(t *testing.T, c *copied) *audit.Known { return received(t, c, 3) }, func(t *testing.T, c *copied) { c.gone = 5 }, "", "unknown: record 3 is not in this copy any more"},
		"the record was recycled, a checkpoint": {func(t *testing.T, c *copied) *audit.Known { return seen(t, c, "event 9") }, func(t *testing.T, c *copied) { c.gone = c.at("event 10") }, "", "this copy is as new as checkpoint orderly"},
	} {
		t.Run(name, func(t *testing.T) {
			j := honest(t, false)
			known := c.known(t, j)
			if c.attack != nil {
				c.attack(t, j)
			}
			v, got := j.verify(t, audit.Against{AK: j.chip.AK, Known: known})
			if got != c.want || !strings.Contains(v.Reached, c.reach) || (c.reach == "") != (v.Reached == "") {
				t.Errorf("found %q, freshness %q, want %q, %q: %+v", got, v.Reached, c.want, c.reach, v.Findings)
			}
		})
	}
}

// A disk that was cloned into a device of the same name, or a TPM that was changed.
//
// Verifies: SR-053
func TestAJournalOfAnotherTPM(t *testing.T) {
	j, other := honest(t, false), anchortest.New(t)
	v, got := j.verify(t, audit.Against{AK: other.AK})
	if got != "journal.foreign" || v.Verified != 0 || v.Anchored != 0 {
		t.Errorf("found %q, %d verified, anchored up to %d", got, v.Verified, v.Anchored)
	}
	// one that was gone on with here
	j.chip = other
	j.anchor(t, checkpoint.Orderly)
	if _, got := j.verify(t, audit.Against{AK: other.AK}); got != "journal.anchor-invalid" {
		t.Errorf("gone on with: found %q", got)
	}
	if v, got := j.verify(t, audit.Against{}); got != "" || v.Checkpoints == 0 || v.Verified != 0 || v.Anchored != 0 {
		t.Errorf("without a key: found %q, %+v", got, v)
	}
}
