package crash

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
)

// securityFS is where securityfs is mounted, below sysfs.
const securityFS = "kernel/security"

// kernel plays the kernel's part: its files, and what it extends the TPM with.
type kernel struct {
	t        testing.TB
	security string
	entries  []appraisaltest.Measured // unknown to the release, in their order
	known    int                      // entries of the release
	extended int                      // of entries, into PCR 10
}

func newKernel(t testing.TB, sys string, d *appraisaltest.Device) *kernel {
	k := &kernel{t: t, security: filepath.Join(sys, securityFS), known: count(t, d.List)}
	write(t, filepath.Join(k.security, "tpm0/binary_bios_measurements"), d.Log)
	write(t, k.list(), d.List)
	k.setCount()
	return k
}

func (k *kernel) list() string { return filepath.Join(k.security, "ima/binary_runtime_measurements") }

// run has the kernel measure a program that is not of the release. The entry is
// there as a whole before it is counted.
func (k *kernel) run() string {
	m := appraisaltest.Program(fmt.Sprintf("/opt/unknown/%06d", len(k.entries)))
	f, err := os.OpenFile(k.list(), os.O_APPEND|os.O_WRONLY, 0)
	check(k.t, err)
	_, err = f.Write(m.Bytes())
	check(k.t, errors.Join(err, f.Close()))
	k.entries = append(k.entries, m)
	k.setCount()
	return m.Path
}

// setCount writes the count over the one that was there: a reader keeps the file
// open, and sees one of the two.
func (k *kernel) setCount() {
	f, err := os.OpenFile(filepath.Join(k.security, "ima/runtime_measurements_count"), os.O_CREATE|os.O_WRONLY, 0o644)
	check(k.t, err)
	_, err = f.Write(fmt.Appendf(nil, "%d\n", k.known+len(k.entries)))
	check(k.t, errors.Join(err, f.Close()))
}

func entriesOf(t testing.TB, list []byte) (all []ima.Entry) {
	d, err := ima.NewDecoder(bytes.NewReader(list))
	check(t, err)
	for {
		e, err := d.Next()
		if err != nil {
			return all
		}
		all = append(all, e.Clone())
	}
}

func count(t testing.TB, list []byte) int { return len(entriesOf(t, list)) }

// extendBoot extends the TPM as the firmware and the kernel of the paper's boot did.
func (w *world) extendBoot() {
	log, err := eventlog.Parse(w.paper.Log)
	check(w.t, err)
	w.withTPM(func(chip transport.TPM) {
		for _, e := range log.Events {
			if d, ok := e.Digest(pcr.SHA256); ok && e.Extends() {
				extend(w.t, chip, e.PCR, d)
			}
		}
		for _, e := range entriesOf(w.t, w.paper.List) {
			extend(w.t, chip, ima.Register, e.Extension(pcr.SHA256))
		}
	})
}

// manageTPM does what the kernel's resource manager does when a program that used
// the TPM is gone, and extends PCR 10 with what was measured meanwhile: swtpm
// serves one connection at a time.
func (w *world) manageTPM() {
	w.withTPM(func(chip transport.TPM) {
		for _, kind := range []tpm2.TPMHT{tpm2.TPMHTTransient, tpm2.TPMHTLoadedSession, tpm2.TPMHTSavedSession} {
			for _, h := range handles(w.t, chip, kind) {
				_, err := tpm2.FlushContext{FlushHandle: h}.Execute(chip)
				check(w.t, err)
			}
		}
		k := w.kernel
		for ; k.extended < len(k.entries); k.extended++ {
			for _, e := range entriesOf(w.t, k.entries[k.extended].Bytes()) {
				extend(w.t, chip, ima.Register, e.Extension(pcr.SHA256))
			}
		}
	})
}

func (w *world) withTPM(do func(transport.TPM)) {
	chip, err := linuxudstpm.Open(w.chip.Socket)
	check(w.t, err)
	defer chip.Close()
	do(chip)
}

func extend(t testing.TB, chip transport.TPM, register int, d pcr.Digest) {
	t.Helper()
	if len(d) != sha256.Size {
		t.Fatalf("extend PCR %d: digest of %d bytes", register, len(d))
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d}}},
	}.Execute(chip)
	check(t, err)
}

func handles(t testing.TB, chip transport.TPM, kind tpm2.TPMHT) []tpm2.TPMHandle {
	t.Helper()
	const most = 64
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(kind) << 24, PropertyCount: most}.Execute(chip)
	check(t, err)
	list, err := answer.CapabilityData.Data.Handles()
	check(t, err)
	var out []tpm2.TPMHandle
	for _, h := range list.Handle {
		if uint32(h)>>24 == uint32(kind) {
			out = append(out, h)
		}
	}
	return out
}
