package profile_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ward/internal/trust/posture"
	"ward/internal/trust/profile"
)

const rootHash = "4e1243bd22c66e76c2ba9eddc1f91394e57f9f83e5b0b2d6d0b0a1c3f0a1b2c3"

// goldenDevices are two devices of one release.
func goldenDevices() [][]posture.Claim {
	return [][]posture.Claim{
		{
			{Name: posture.Lockdown, Values: []string{"integrity"}}, {Name: posture.TPMFirmware, Values: []string{"firmware 1.2"}},
			{Name: posture.Mounts, Values: []string{"/ ext4 ro", "/run tmpfs -"}}, {Name: posture.Consoles}, {Name: posture.HardwareDebug, Absent: true},
			{Name: posture.DiskWear, Values: []string{"mmcblk0 life-a 0-10%"}}, {Name: posture.EVM, Error: "permission denied"},
			{Name: posture.Encrypted, Values: []string{"ward-data LUKS2"}}, {Name: posture.DMVerity, Values: []string{"ward-root sha256:" + rootHash}},
			{Name: posture.CommandLine, Values: []string{"quiet", "ward.roothash=" + rootHash}}, {Name: posture.CPU, Values: []string{"a"}, More: 1},
		},
		{
			{Name: posture.Lockdown, Values: []string{"integrity"}}, {Name: posture.TPMFirmware, Values: []string{"firmware 1.3"}},
			{Name: posture.Mounts, Values: []string{"/ ext4 ro", "/media vfat -"}}, {Name: posture.Consoles}, {Name: posture.HardwareDebug, Absent: true},
			{Name: posture.DiskWear, Values: []string{"mmcblk0 life-a 0-10%"}}, {Name: posture.EVM, Values: []string{"1"}},
			{Name: posture.Encrypted, Absent: true}, {Name: posture.DMVerity, Values: []string{"ward-root sha256:" + rootHash}},
			{Name: posture.CommandLine, Values: []string{"quiet", "ward.roothash=" + rootHash}}, {Name: posture.CPU, Values: []string{"a"}, More: 1},
		},
	}
}

// Rules of what golden devices say: what is the same, what varies, what is one
// device's own, and what could not be read. The devices themselves are as the rules
// expect, and another root hash is not.
//
// Verifies: SR-098
func TestLearnPosture(t *testing.T) {
	hash, err := hex.DecodeString(rootHash)
	if err != nil {
		t.Fatal(err)
	}
	devices := goldenDevices()
	p, notes, err := profile.LearnPosture(devices, map[string]posture.Mode{posture.Consoles: posture.Recorded}, hash)
	if err != nil {
		t.Fatal(err)
	}
	want := []posture.Rule{
		{Claim: posture.CPU, Mode: posture.Recorded},
		{Claim: posture.Consoles, Mode: posture.Recorded},
		{Claim: posture.HardwareDebug, Mode: posture.Equal, Optional: true},
		{Claim: posture.DiskWear, Mode: posture.Recorded},
		{Claim: posture.DMVerity, Mode: posture.Equal, Values: []string{"ward-root sha256:" + profile.RootHash}},
		{Claim: posture.Encrypted, Mode: posture.Within, Values: []string{"ward-data LUKS2"}, Optional: true},
		{Claim: posture.Mounts, Mode: posture.Within, Values: []string{"/ ext4 ro", "/media vfat -", "/run tmpfs -"}},
		{Claim: posture.CommandLine, Mode: posture.Equal, Values: []string{"quiet", "ward.roothash=" + profile.RootHash}},
		{Claim: posture.EVM, Mode: posture.Recorded},
		{Claim: posture.Lockdown, Mode: posture.Equal, Values: []string{"integrity"}},
		{Claim: posture.TPMFirmware, Mode: posture.Recorded},
	}
	if d := cmp.Diff(want, p.Rules); d != "" {
		t.Error(d)
	}
	if len(notes) != 6 || !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "permission denied") }) {
		t.Errorf("notes %q", notes)
	}
	bound, err := profile.BindPosture(&p, hash)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range devices {
		if f := posture.Judge(bound, d); len(f) > 0 {
			t.Errorf("golden device %d: %v", i, f)
		}
	}
	if f := posture.Judge(&p, devices[0]); len(f) != 2 {
		t.Errorf("unbound rules: %v", f)
	}
	other, err := profile.BindPosture(&p, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if f := posture.Judge(other, devices[0]); len(f) != 2 {
		t.Errorf("another root hash: %v", f)
	}
	if _, err := profile.BindPosture(&p, nil); err == nil {
		t.Error("a release without a root hash")
	}
	if q, err := profile.BindPosture(nil, nil); q != nil || err != nil {
		t.Errorf("%v, %v", q, err)
	}
}

// A mode that is asked for holds, or is refused with the reason.
func TestLearnPostureAsAsked(t *testing.T) {
	for _, c := range []struct {
		claim  string
		mode   posture.Mode
		values []string
		fails  bool
	}{
		{posture.Mounts, posture.Contains, []string{"/ ext4 ro"}, false},
		{posture.Mounts, posture.Recorded, nil, false},
		{posture.Mounts, posture.Equal, nil, true},
		{posture.Lockdown, posture.Within, []string{"integrity"}, false},
		{posture.TPMFirmware, posture.Within, []string{"firmware 1.2", "firmware 1.3"}, false},
		{posture.DiskWear, posture.Equal, []string{"mmcblk0 life-a 0-10%"}, false},
		{posture.EVM, posture.Equal, nil, true},
		{posture.EVM, posture.Recorded, nil, false},
		{posture.CPU, posture.Contains, nil, true},
		{"none.such", posture.Equal, nil, true},
	} {
		p, _, err := profile.LearnPosture(goldenDevices(), map[string]posture.Mode{c.claim: c.mode}, nil)
		if (err != nil) != c.fails || err != nil && c.claim != "none.such" && !errors.Is(err, profile.ErrPosture) {
			t.Errorf("%s %s: %v", c.claim, c.mode, err)
		}
		if r := p.RuleOf(c.claim); err == nil && (r == nil || r.Mode != c.mode || !slices.Equal(r.Values, c.values)) {
			t.Errorf("%s %s: %+v", c.claim, c.mode, r)
		}
	}
	devices := goldenDevices()
	devices[1] = devices[1][1:]
	if _, _, err := profile.LearnPosture(devices, nil, nil); !errors.Is(err, profile.ErrPosture) {
		t.Errorf("devices that tell different claims: %v", err)
	}
}
