package wal_test

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"ward/internal/device/wal"
	"ward/internal/device/wal/waltest"
)

// tamper changes a folder as data says, six bytes a step: what, which file,
// where (two bytes), and with what (two bytes).
func tamper(d *waltest.Disk, data []byte) {
	for ; len(data) >= 6; data = data[6:] {
		names, _ := d.List()
		if len(names) == 0 {
			return
		}
		name := names[int(data[1])%len(names)]
		b := d.Content(name)
		where, with := int(binary.LittleEndian.Uint16(data[2:])), data[4:6]
		at := where % (len(b) + 1)
		switch data[0] % 8 {
		case 0: // flip
			if at < len(b) {
				b[at] ^= with[0]
			}
		case 1: // cut
			b = b[:at]
		case 2: // exchange
			other := names[where%len(names)]
			d.Put(name, d.Content(other))
			name = other
		case 3: // copy under another number
			name = segmentName(where)
		case 4: // insert, or append
			b = append(append(append([]byte(nil), b[:at]...), with...), b[at:]...)
		case 5: // a header whose checksum holds
			h := segment(uint64(with[0]), uint64(where)<<(with[1]%64))
			b = append(h, b[min(28, len(b)):]...)
		case 6: // a record whose checksum holds, at the end
			b = append(b, record(uint64(where)<<(with[1]%64), uint64(with[0]), uint32(with[1]%3), string(with))...)
		case 7: // mend the checksum of what seems to be a record
			if n := at + 8; n <= len(b) && at+4 <= len(b) {
				if end := n + 20 + int(binary.LittleEndian.Uint32(b[at:])%4096); end <= len(b) {
					binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[n:end], castagnoli))
				}
			}
		}
		d.Put(name, b)
	}
}

// FuzzFolder tampers with whole folders: no panic, no error, and what is
// appended behind is there at the next start, once.
func FuzzFolder(f *testing.F) {
	f.Add([]byte{0, 0, 40, 0, 1, 0})
	f.Add([]byte{1, 1, 200, 0, 0, 0, 2, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 2, 255, 255, 0, 0, 5, 0, 7, 0, 1, 60})
	f.Add([]byte{6, 3, 9, 0, 8, 1, 4, 0, 28, 0, 1, 2, 7, 0, 28, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := waltest.New(50)
		log, _, err := wal.Open(disk, wal.Options{Epoch: 1, SegmentBytes: 512})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			if _, err := log.Append(payload(log.Next() % 5)); err != nil {
				t.Fatal(err)
			}
			if err := log.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		tamper(disk, data[:min(len(data), 60)])
		log, found, err := wal.Open(disk, wal.Options{Epoch: 1, SegmentBytes: 512, MaxBytes: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		next := log.Next()
		if next <= found.Last {
			t.Fatalf("record %d would be next, the newest is %d", next, found.Last)
		}
		for range 2 {
			if _, err := log.Append([]byte("more")); err != nil {
				return // a number near the highest was planted
			}
		}
		if err := log.Sync(); err != nil {
			return
		}
		if _, err := log.Room(found.Last, shed); err != nil {
			t.Fatal(err)
		}
		last, there := uint64(0), 0
		scan, err := wal.Inspect(disk.PowerCut(), func(r wal.Record) error {
			if r.Sequence <= last {
				t.Fatalf("record %d comes after %d", r.Sequence, last)
			}
			if last = r.Sequence; last >= next && string(r.Payload) == "more" {
				there++
			}
			return nil
		})
		if err != nil || scan.Last != next+1 || there != 2 {
			t.Fatalf("records %d and %d were appended; %d are there, the newest is %d, error %v", next, next+1, there, scan.Last, err)
		}
	})
}
