package profile_test

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// named is the golden profile under another name, with another PCR 0.
func named(t *testing.T, name string) profile.Profile {
	t.Helper()
	p := golden(t)
	p.Firmware = name
	p.PCRs = maps.Clone(p.PCRs)
	p.PCRs[0] = register(t, 0, profile.Event{Index: 1, Type: "EV_S_CRTM_VERSION", Digest: sum(name)})
	return p
}

// Pitfall: PCR 0 differed between two variable stores under one firmware file.
// Each is a profile of its own, and a release accepts both.
//
// Verifies: SR-001
func TestAssembleSeveralFirmware(t *testing.T) {
	a, b := golden(t), named(t, "OVMF, other store")
	boot, err := profile.Assemble([]profile.Profile{a, b}, rules())
	if err != nil {
		t.Fatal(err)
	}
	checked(t, boot)
	if !slices.Equal(boot.Firmware, []string{"OVMF", "OVMF, other store"}) || len(boot.PCRs[0].Values) != 2 ||
		bytes.Equal(boot.PCRs[0].Values[0].Digest, boot.PCRs[0].Values[1].Digest) || len(boot.PCRs[4].Digests()) != 1 {
		t.Errorf("%+v", boot.PCRs[0])
	}
	// TPM2_Quote over PCR 7, 11 and 12.
	h := sha256.New()
	for _, n := range []int{7, 11, 12} {
		h.Write(a.PCRs[n].Value)
	}
	if len(boot.Composites) != 2 || !bytes.Equal(boot.Composites[0].Digest, h.Sum(nil)) || !slices.Equal(boot.Composites[1].PCRs, []int{7, 11, 12}) {
		t.Errorf("composites %v", boot.Composites)
	}
}

func TestAssembleDemandsOfSecureBoot(t *testing.T) {
	on, off := golden(t), withoutSecureBoot(t)
	boot, err := profile.Assemble([]profile.Profile{on}, rules())
	if err != nil {
		t.Fatal(err)
	}
	p := boot.SecureBoot
	if p == nil || !p.Required || len(p.PK) != 1 || len(p.KEK) != 1 || len(p.DB) != 1 || len(p.MinimumDBX) != 1 {
		t.Fatalf("%+v", p)
	}
	// The lab's dbx holds the digest of no bytes.
	if got := p.MinimumDBX[0].String(); got != sum("").String() {
		t.Errorf("dbx %s", got)
	}
	off.Firmware = "off"
	if boot, err = profile.Assemble([]profile.Profile{on, off}, map[int]profile.Rule{0: {Mode: release.Exact}}); err != nil || boot.SecureBoot != nil {
		t.Errorf("demanded where one firmware does not measure it: %+v, %v", boot.SecureBoot, err)
	}
}

func TestAssembleEventsAndUserSpace(t *testing.T) {
	judge := rules()
	judge[4] = profile.Rule{Mode: release.Events, Any: []string{"EV_EFI_ACTION"}}
	judge[11] = profile.Rule{Mode: release.Exact, User: []string{"enter-initrd", "leave-initrd"}}
	boot, err := profile.Assemble([]profile.Profile{golden(t), named(t, "other")}, judge)
	if err != nil {
		t.Fatal(err)
	}
	checked(t, boot)
	if got := boot.PCRs[4].Rules; len(got) != 2 || got[0].Type != "EV_EFI_BOOT_SERVICES_APPLICATION" || len(got[0].Digests) != 1 || got[1].Type != "EV_EFI_ACTION" || !got[1].Any {
		t.Errorf("rules %+v", got)
	}
	if got := boot.PCRs[11].UserEvents; len(got) != 2 || !bytes.Equal(got[0].Digest, pcr.SHA256.Sum([]byte("enter-initrd"))) {
		t.Errorf("events of user space %+v", got)
	}
}

func TestAssembleRefuses(t *testing.T) {
	elsewhere := named(t, "other")
	elsewhere.Board = "b"
	less := named(t, "other")
	delete(less.PCRs, 3)
	for name, c := range map[string]struct {
		profiles []profile.Profile
		rules    map[int]profile.Rule
		says     string
	}{
		"no profile":         {nil, rules(), "no firmware profile"},
		"no rules":           {[]profile.Profile{golden(t)}, nil, "no register"},
		"two of one name":    {[]profile.Profile{golden(t), golden(t)}, rules(), `two profiles of firmware "OVMF"`},
		"two boards":         {[]profile.Profile{golden(t), elsewhere}, rules(), `of board "b"`},
		"a register missing": {[]profile.Profile{golden(t), less}, rules(), `PCR 3: the profile of firmware "other" was learned without it`},
	} {
		if _, err := profile.Assemble(c.profiles, c.rules); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s gives %v, want an error with %q", name, err, c.says)
		}
	}
}
