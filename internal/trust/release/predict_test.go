package release_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/format/pe"
	"ward/internal/format/pe/petest"
	"ward/internal/trust/release"
)

// kernelImage is a unified kernel image with a command line.
func kernelImage(cmdline string) []byte {
	return petest.Build(
		petest.Section{Name: ".text", Data: "stub"},
		petest.Section{Name: ".osrel", Data: "ID=pump\n"},
		petest.Section{Name: ".cmdline", Data: cmdline},
		petest.Section{Name: ".linux", Data: strings.Repeat("kernel", 1000)},
		petest.Section{Name: ".initrd", Data: "initramfs"},
	)
}

func sum(data string) pcr.Digest { h := sha256.Sum256([]byte(data)); return h[:] }

// replayed extends a register with the digests.
func replayed(t *testing.T, n int, digests ...pcr.Digest) pcr.Digest {
	t.Helper()
	bank, err := pcr.NewBank(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range digests {
		if err := bank.Extend(n, d); err != nil {
			t.Fatal(err)
		}
	}
	return bank.Value(n)
}

// profile is the boot of some other image on the same firmware.
func profile() release.Boot {
	exact := func(v string, events ...release.ReferenceEvent) release.Reference {
		return release.Reference{Mode: release.Exact, Values: []pcr.Digest{sum(v)}, Events: events}
	}
	return release.Boot{Bank: "sha256", PCRs: map[int]release.Reference{
		0: exact("firmware"),
		1: {Mode: release.Recorded, Reason: "varies"},
		4: exact("other", release.ReferenceEvent{Type: "EV_EFI_ACTION", Digest: sum("calling")}, release.ReferenceEvent{Type: "EV_SEPARATOR", Digest: sum("\x00\x00\x00\x00")},
			release.ReferenceEvent{Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Digest: sum("another image"), Text: "path"}),
		9:  exact("other"),
		11: exact("other"),
	}}
}

// TestPredict computes the registers from the rules of the specifications; the
// virtual device's test holds the same code against a TPM.
func TestPredict(t *testing.T) {
	image := kernelImage("quiet\n")
	before := profile()
	got, err := release.Predict(before, image)
	if err != nil {
		t.Fatal(err)
	}
	i, err := pe.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if err := i.Authenticode(h); err != nil {
		t.Fatal(err)
	}
	kernel := sum(strings.Repeat("kernel", 1000))
	for n, want := range map[int]pcr.Digest{
		0: sum("firmware"),
		4: replayed(t, 4, sum("calling"), sum("\x00\x00\x00\x00"), h.Sum(nil)),
		9: replayed(t, 9, sum("q\x00u\x00i\x00e\x00t\x00\x00\x00"), sum("initramfs")),
		11: replayed(t, 11, sum(".linux\x00"), kernel, sum(".osrel\x00"), sum("ID=pump\n"),
			sum(".cmdline\x00"), sum("quiet\n"), sum(".initrd\x00"), sum("initramfs")),
	} {
		if !bytes.Equal(got.PCRs[n].Values[0], want) {
			t.Errorf("PCR %d: predicted %s, want %s", n, got.PCRs[n].Values[0], want)
		}
	}
	if got.PCRs[1].Mode != release.Recorded || len(got.PCRs[4].Events) != 3 || len(got.PCRs[11].Events) != 8 {
		t.Errorf("prediction %+v", got)
	}
	if !bytes.Equal(before.PCRs[4].Events[2].Digest, sum("another image")) {
		t.Error("the profile was changed")
	}
	other, err := release.Predict(before, kernelImage("quiet ward.debug=1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4, 9, 11} {
		if bytes.Equal(other.PCRs[n].Values[0], got.PCRs[n].Values[0]) {
			t.Errorf("PCR %d does not depend on the command line", n)
		}
	}
}

func TestPredictRefuses(t *testing.T) {
	without := profile()
	without.PCRs[4] = release.Reference{Mode: release.Exact, Values: []pcr.Digest{sum("x")}}
	sha1 := profile()
	sha1.Bank = "sha1"
	for name, c := range map[string]struct {
		profile release.Boot
		image   []byte
		says    string
	}{
		"not an image":                   {profile(), []byte("hello"), "PE image"},
		"an image without a kernel":      {profile(), petest.Build(petest.Section{Name: ".text", Data: "x"}), "no unified kernel image"},
		"a profile without applications": {without, kernelImage("quiet"), "EV_EFI_BOOT_SERVICES_APPLICATION"},
		"a profile of another bank":      {sha1, kernelImage("quiet"), "want sha256"},
	} {
		if _, err := release.Predict(c.profile, c.image); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s gives %v, want an error with %q", name, err, c.says)
		}
	}
}
