// Package securityfstest plays the kernel's part for tests: a securityfs and a
// sysfs on disk, with an event log, PCR files and an IMA list that grows and
// fails as it is told (Documentation/ABI/testing/ima_policy of the Linux source).
package securityfstest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
)

// Files below the mount points.
const (
	EventLog = "security/tpm0/binary_bios_measurements"
	List     = "security/ima/binary_runtime_measurements"
	Count    = "security/ima/runtime_measurements_count"
	PCRs     = "sys/class/tpm/tpm0/pcr-sha256"
)

// Kernel is one kernel's files.
type Kernel struct {
	t     testing.TB
	dir   string
	count int
}

// New makes a kernel whose IMA list has no entry and that has no TPM.
func New(t testing.TB) *Kernel {
	t.Helper()
	k := &Kernel{t: t, dir: t.TempDir()}
	k.Measure()
	return k
}

// Boot makes a kernel that was booted on a device on paper.
func Boot(t testing.TB, d *appraisaltest.Device) *Kernel {
	t.Helper()
	k := &Kernel{t: t, dir: t.TempDir()}
	k.Write(EventLog, d.Log)
	k.Write(List, d.List)
	k.SetPCRs(d.PCRs)
	dec, err := ima.NewDecoder(bytes.NewReader(d.List))
	for err == nil {
		if _, err = dec.Next(); err == nil {
			k.count++
		}
	}
	k.SetCount(strconv.Itoa(k.count))
	return k
}

// SecurityFS is rooted at securityfs's mount point.
func (k *Kernel) SecurityFS() fs.FS { return os.DirFS(filepath.Join(k.dir, "security")) }

// SysFS is rooted at sysfs's mount point.
func (k *Kernel) SysFS() fs.FS { return os.DirFS(filepath.Join(k.dir, "sys")) }

// SetPCRs writes the sha256 bank's files.
func (k *Kernel) SetPCRs(values pcr.Values) {
	k.t.Helper()
	for i, v := range values {
		k.Write(PCRs+"/"+strconv.Itoa(i), fmt.Appendf(nil, "%X\n", []byte(v)))
	}
}

// Measure adds entries to the list.
func (k *Kernel) Measure(entries ...appraisaltest.Measured) {
	k.t.Helper()
	f, err := os.OpenFile(k.path(List), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(appraisaltest.List(entries...)); err != nil {
		k.t.Fatal(err)
	}
	k.count += len(entries)
	k.SetCount(strconv.Itoa(k.count))
}

// SetCount writes the count file.
func (k *Kernel) SetCount(text string) {
	k.t.Helper()
	k.Write(Count, []byte(text+"\n"))
}

// Write replaces a file's content in place.
func (k *Kernel) Write(name string, b []byte) {
	k.t.Helper()
	if err := os.WriteFile(k.path(name), b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// Remove takes a file or folder away.
func (k *Kernel) Remove(name string) {
	k.t.Helper()
	if err := os.RemoveAll(k.path(name)); err != nil {
		k.t.Fatal(err)
	}
}

// path makes a file's folder and returns where it lies.
func (k *Kernel) path(name string) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		k.t.Fatal(err)
	}
	return path
}
