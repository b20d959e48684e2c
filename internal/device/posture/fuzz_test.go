package posture

import (
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"ward/internal/trust/posture"
)

// FuzzCollectors gives every file that a collector reads the same content: no
// panic, and whatever comes out keeps the bounds of a claim and is a state, an
// absence or an error, one of them.
func FuzzCollectors(f *testing.F) {
	whole := machine(f, "medical-device")
	efi(whole, map[string]byte{"SecureBoot": 1, "SetupMode": 0})
	for _, file := range whole {
		f.Add(file.Data)
	}
	for _, s := range []string{"", "\x00", "\n", "1", "0x1", "[", "] [", "a b c d e\n", "m 1 0 - Live 0x0 (", "/a b (x)\n", "\"", "=", "1\n\n1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		root := make(fstest.MapFS)
		for name, file := range whole {
			root[name] = &fstest.MapFile{Data: data, Mode: file.Mode}
			if file.Mode.IsDir() {
				root[name] = file
			}
		}
		for _, c := range Kernel() {
			claim := c.Collect(root)
			if claim.Name != c.Name || claim.Absent && (claim.Error != "" || len(claim.Values) > 0) || claim.Error != "" && len(claim.Values) > 0 {
				t.Fatalf("%+v", claim)
			}
			if len(claim.Values) > posture.MaxValues {
				t.Fatalf("%s: %d values", c.Name, len(claim.Values))
			}
			for i, v := range append(claim.Values, claim.Error) {
				if v == "" && i < len(claim.Values) || len(v) > posture.MaxValue || !utf8.ValidString(v) || !clean(v) {
					t.Fatalf("%s: value %q", c.Name, v)
				}
				if i > 0 && i < len(claim.Values) && claim.Values[i-1] >= v {
					t.Fatalf("%s: %q before %q", c.Name, claim.Values[i-1], v)
				}
			}
		}
	})
}
