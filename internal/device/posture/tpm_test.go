package posture

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// Makers and firmware of published weaknesses, their first versions that have them
// no more, and others.
//
// Verifies: SR-091
func TestTPMWeaknesses(t *testing.T) {
	for _, c := range []struct {
		maker        string
		major, minor uint32
		want         string
	}{
		{"IFX", 4, 33, "ROCA"}, {"IFX", 4, 34, ""}, {"IFX", 4, 40, "ROCA"}, {"IFX", 4, 42, "ROCA"}, {"IFX", 4, 43, ""},
		{"IFX", 5, 61, "ROCA"}, {"IFX", 5, 62, ""}, {"IFX", 6, 42, "ROCA"}, {"IFX", 6, 43, ""},
		{"IFX", 7, 61, "ROCA"}, {"IFX", 7, 62, ""}, {"IFX", 7, 85, ""}, {"IFX", 133, 32, "ROCA"}, {"IFX", 133, 33, ""}, {"IFX", 15, 21, ""},
		{"STM ", 71, 12, "TPM-Fail"}, {"STM", 71, 16, ""}, {"STM", 73, 4, "TPM-Fail"}, {"STM", 73, 20, ""}, {"STM", 74, 16, "TPM-Fail"}, {"STM", 74, 64, ""},
		{"INTC", 11, 8, ""}, {"IBM", 5, 61, ""}, {"", 0, 0, ""},
	} {
		chip := Chip{Maker: c.maker, Firmware: [2]uint32{c.major<<16 | c.minor, 0x10002}}
		both := TPM(func() (Chip, error) { return chip, nil })
		weak := both[1].Collect(nil)
		if got := strings.Join(weak.Values, ","); (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) || weak.Error != "" {
			t.Errorf("%s %d.%d: %+v, want %s", c.maker, c.major, c.minor, weak, c.want)
		}
		firmware := both[0].Collect(nil)
		if want := fmt.Sprintf("firmware %d.%d.1.2", c.major, c.minor); firmware.Values[0] != want {
			t.Errorf("%v, want %s", firmware.Values, want)
		}
	}
	for _, err := range []error{fs.ErrNotExist, errors.New("TPM in lockout")} {
		for _, c := range TPM(func() (Chip, error) { return Chip{Maker: "IFX"}, err }) {
			if got := c.Collect(nil); len(got.Values) > 0 || got.Absent != errors.Is(err, fs.ErrNotExist) || got.Absent == (got.Error != "") {
				t.Errorf("%v: %+v", err, got)
			}
		}
	}
}
