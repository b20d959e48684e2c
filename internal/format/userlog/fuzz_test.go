package userlog_test

import (
	"encoding/json"
	"errors"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/pcr"
	"ward/internal/format/userlog"
)

// allocationFactor and allocationFloor bound what Parse may allocate: a record of
// the shortest form, 24 bytes, costs its struct and the maps of its members.
const allocationFactor, allocationFloor = 64, 1 << 20

// Verifies: SR-003
func FuzzParse(f *testing.F) {
	f.Add(bootLog())
	f.Add(bootLog()[:777])
	f.Add([]byte("\x1e{}\x1e[]\x1e"))
	f.Add([]byte("\x1e" + `{"pcr":24,"digests":[{"hashAlg":"sha1","digest":""},{}]}`))
	f.Add([]byte("\x1e" + `{"nv_index":1,"digests":[],"content":[[{"a":"\"}"}]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := userlog.Parse(b)
		most := uint64(allocationFloor + allocationFactor*len(b))
		if used := alloctest.Bytes(most, func() { _, _ = userlog.Parse(b) }); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
		if err != nil {
			if !errors.Is(err, userlog.ErrFormat) {
				t.Errorf("error %v is not ErrFormat", err)
			}
			return
		}
		bank, _ := pcr.NewBank(pcr.SHA256)
		_ = log.Extend(bank)
		last := int64(-1)
		for _, r := range log.Records {
			if r.Offset <= last || r.Offset >= int64(len(b)) || r.Describe() == "" {
				t.Errorf("record %+v behind offset %d", r, last)
			}
			last = r.Offset
		}
		text, err := json.Marshal(log)
		if err != nil || !json.Valid(text) {
			t.Errorf("%s: %v", text, err)
		}
	})
}
