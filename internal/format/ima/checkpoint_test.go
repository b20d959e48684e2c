package ima_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// mixed is a list of every template, with a violation between.
func mixed(order binary.AppendByteOrder) []record {
	var records []record
	for _, c := range templates(order) {
		records = append(records, c.record)
	}
	violation := measured("ima-ng", "sha256", make([]byte, 32), "/var/log/x")
	violation.violation = true
	return append(records[:3:3], append([]record{violation}, records[3:]...)...)
}

// Pitfalls 7 and 10 of attestation: whoever goes on from any checkpoint of a list
// comes to the PCR 10 of the whole list, in every bank, byte order and form, with
// the entries' numbers and places as in the whole list.
//
// Verifies: SR-004 SR-005
func TestReplayFromEveryCheckpoint(t *testing.T) {
	for _, form := range []struct {
		name  string
		order bothOrders
		write func(binary.AppendByteOrder, ...record) []byte
	}{
		{"binary", binary.LittleEndian, binaryList},
		{"binary of a big-endian host", binary.BigEndian, binaryList},
		{"ascii", binary.LittleEndian, asciiList},
	} {
		list := form.write(form.order, mixed(form.order)...)
		entries := decodeAll(t, list)
		for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
			whole, err := ima.NewReplay(a)
			if err != nil {
				t.Fatal(err)
			}
			places := []ima.Checkpoint{whole.Checkpoint()}
			for _, e := range entries {
				if err := whole.Add(e); err != nil {
					t.Fatal(err)
				}
				places = append(places, whole.Checkpoint())
			}
			for i, place := range places {
				offset := int64(len(list))
				if i < len(entries) {
					offset = entries[i].Offset
				}
				rest := goOn(t, a, place, list, offset)
				if got := rest.Checkpoint(); got.Entries != len(entries) || !bytes.Equal(got.PCR, whole.Value()) {
					t.Errorf("%s, %s from entry %d: %+v, want %d and %s", form.name, a, i, got, len(entries), whole.Value())
				}
			}
		}
	}
}

// goOn replays what stands behind an offset, and checks where the entries lie.
func goOn(t *testing.T, a pcr.Algorithm, place ima.Checkpoint, list []byte, offset int64) *ima.Replay {
	t.Helper()
	replay, err := ima.ReplayFrom(a, place)
	if err != nil {
		t.Fatal(err)
	}
	d, err := ima.NewDecoderAt(bytes.NewReader(list[offset:]), place.Entries, offset)
	for err == nil {
		n, at := d.Position()
		var e ima.Entry
		if e, err = d.Next(); err != nil {
			break
		}
		if e.Index != replay.Entries() || e.Index != n || e.Offset != at || e.Offset < offset {
			t.Errorf("entry %d at %d: index %d, offset %d", n, at, e.Index, e.Offset)
		}
		err = replay.Add(e)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return replay
}

func TestCheckpoints(t *testing.T) {
	for name, c := range map[string]ima.Checkpoint{
		"another bank":       {Entries: 1, PCR: digest(1, 20)},
		"no value":           {Entries: 1},
		"value of no entry":  {Entries: -1, PCR: digest(1, 32)},
		"value without size": {Entries: 0, PCR: digest(1, 31)},
	} {
		if _, err := ima.ReplayFrom(pcr.SHA256, c); err == nil {
			t.Errorf("%s: %+v was taken", name, c)
		}
	}
	if _, err := ima.ReplayFrom(pcr.Algorithm(0x27), ima.Checkpoint{}); err == nil {
		t.Error("a bank that cannot be computed was taken")
	}
	begin, err := ima.ReplayFrom(pcr.SHA256, ima.Checkpoint{})
	if err != nil || begin.Entries() != 0 || !pcr.IsReset(pcr.SHA256, 10, begin.Value()) {
		t.Errorf("the begin: %+v, %v", begin, err)
	}
	text, err := json.Marshal([]ima.Checkpoint{{}, {Entries: 2, PCR: digest(0xab, 2)}})
	if want := `[{"entries":0},{"entries":2,"pcr":"abab"}]`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}

// A wrong value at the checkpoint does not heal.
//
// Verifies: SR-004
func TestForgedCheckpointGivesAnotherPCR(t *testing.T) {
	list := binaryList(binary.LittleEndian, mixed(binary.LittleEndian)...)
	entries := decodeAll(t, list)
	whole := replayAll(t, entries)[pcr.SHA256]
	forged := ima.Checkpoint{Entries: 2, PCR: digest(1, 32)}
	if got := goOn(t, pcr.SHA256, forged, list, entries[2].Offset).Value(); bytes.Equal(got, whole) {
		t.Error("a forged checkpoint gives the list's PCR 10")
	}
}

// A cut or broken entry behind a checkpoint is named by its place in the list.
func TestErrorsNameThePlaceInTheList(t *testing.T) {
	one := binaryList(binary.LittleEndian, measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a"))
	var cut *ima.TruncatedError
	var bad *ima.MalformedError
	broken := bytes.Clone(one)
	binary.LittleEndian.PutUint32(broken[34:], 1<<32-1)
	for name, c := range map[string]struct {
		list []byte
		as   any
	}{"cut": {one[:len(one)-1], &cut}, "broken": {broken, &bad}} {
		d, err := ima.NewDecoderAt(bytes.NewReader(append(bytes.Clone(one), c.list...)), 7, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err = d.Next(); !errors.As(err, c.as) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if want := int64(1000 + len(one)); cut.Index != 8 || cut.Offset != want || bad.Index != 8 || bad.Offset != want {
		t.Errorf("%v, %v; want entry 8 at %d", cut, bad, want)
	}
}

// After its end a list may grow; a decoder reads on, also from a list that was
// empty.
//
// Verifies: SR-005
func TestDecoderReadsOnWhenTheListGrows(t *testing.T) {
	for name, write := range map[string]func(binary.AppendByteOrder, ...record) []byte{"binary": binaryList, "ascii": asciiList} {
		var list bytes.Buffer
		d, err := ima.NewDecoder(&list)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 4 {
			for range 2 {
				if _, err := d.Next(); err != io.EOF {
					t.Fatalf("%s, round %d: %v", name, round, err)
				}
			}
			list.Write(write(binary.LittleEndian, measured("ima-ng", "sha256", digest(2, 32), "/usr/bin/a")))
			if e, err := d.Next(); err != nil || e.Index != round || e.Path != "/usr/bin/a" {
				t.Fatalf("%s, round %d: %+v, %v", name, round, e, err)
			}
		}
	}
	var list bytes.Buffer
	d, err := ima.NewDecoder(&list)
	if err != nil {
		t.Fatal(err)
	}
	list.WriteString("this is no list, and it is long enough to see it")
	if _, err := d.Next(); !errors.Is(err, ima.ErrFormat) {
		t.Errorf("what is no list: %v", err)
	}
}
