package bench

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/device/securityfs"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/peers"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
)

// eventLogs holds parse and replay against go-attestation on every log.
func eventLogs(t *testing.T, b *table) {
	logs, err := peers.Logs()
	if err != nil {
		t.Errorf("not every event log was measured: %v", err)
	}
	for _, log := range logs {
		m := peers.Boot(t, log.Bytes)
		best := byTurns(300*time.Millisecond, func() {
			bank, err := peers.Replay(log.Bytes, m.Bank)
			if err != nil {
				t.Fatal(err)
			}
			for i := range pcr.Count {
				if !bytes.Equal(bank.Value(i), m.Values[i]) {
					t.Fatalf("%s: PCR %d differs", log.Name, i)
				}
			}
		}, func() {
			if err := peers.GoAttestation(log.Bytes, m); err != nil {
				t.Fatal(err)
			}
		})
		b.budgeted(fmt.Sprintf("parse and replay an event log [%s]", log.Name),
			fmt.Sprintf("%s, go-attestation %s: %.2f", short(best[0]), short(best[1]), ratio(best[0], best[1])), ratio(best[0], best[1]), 1, "1.00")
	}
}

// entries is how long the long lists are.
const entries = 100_000

// lists holds the replay of a long list against the bare hashing and evmctl.
func lists(t *testing.T, b *table) {
	list := peers.Generate("ima-ng", entries)
	data := templateData(t, list)
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA1} {
		var m *peers.ListMachine
		replay := func() {
			if _, err := peers.ReplayList(list, bank); err != nil {
				t.Fatal(err)
			}
		}
		best := byTurns(2*time.Second, replay, func() { hashOnly(bank, data) })
		b.budgeted(fmt.Sprintf("replay %d IMA entries, bank %s", entries, bank),
			fmt.Sprintf("%s, bare hashing %s: %.2f", short(best[0]), short(best[1]), ratio(best[0], best[1])), ratio(best[0], best[1]), 1.3, "1.30")

		m = peers.Measure(t, list, bank)
		file := filepath.Join(t.TempDir(), "list")
		start := time.Now()
		if answer, err := peers.Evmctl(file, list, m); err != nil || answer != peers.Follows {
			t.Errorf("evmctl was not measured: %s, %v", answer, err)
		} else {
			took := time.Since(start)
			b.noted(fmt.Sprintf("the same by evmctl, bank %s", bank), fmt.Sprintf("%s: Ward %.3f of it", short(took), ratio(best[0], took)))
		}
		allocations := testing.AllocsPerRun(1, replay)
		b.budgeted(fmt.Sprintf("allocations for each of them, bank %s", bank),
			fmt.Sprintf("%.0f in all", allocations), allocations/entries, 0.001, "0")
	}
}

// templateData is what the kernel hashed for each entry, in one piece.
func templateData(t *testing.T, list []byte) (data [][]byte) {
	t.Helper()
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	var sizes []int
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Data...)
		sizes = append(sizes, len(e.Data))
	}
	for _, n := range sizes {
		data = append(data, all[:n])
		all = all[n:]
	}
	return data
}

// hashOnly is the hashing of entries and the extending of one register, and
// nothing else.
func hashOnly(bank pcr.Algorithm, data [][]byte) {
	if bank == pcr.SHA1 {
		var joined [2 * sha1.Size]byte
		for _, d := range data {
			sum := sha1.Sum(d)
			copy(joined[sha1.Size:], sum[:])
			sum = sha1.Sum(joined[:])
			copy(joined[:], sum[:])
		}
		return
	}
	var joined [2 * sha256.Size]byte
	for _, d := range data {
		sum := sha256.Sum256(d)
		copy(joined[sha256.Size:], sum[:])
		sum = sha256.Sum256(joined[:])
		copy(joined[:], sum[:])
	}
}

// device is a device on paper with the virtual device's event log, which ran the
// files that the virtual device ran.
func device(t *testing.T) *appraisaltest.Device {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(root, "internal/format/eventlog/testdata/qemu-x86_64.bin"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(root, "internal/format/ima/testdata/qemu-x86_64.bin"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	var ran []appraisaltest.Measured
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !e.IsBootAggregate() && len(e.Path) > 0 && e.Path[0] == '/' {
			ran = append(ran, appraisaltest.Program(e.Clone().Path))
		}
	}
	return appraisaltest.Booted(t, log, ran...)
}

// appraisals measures the whole appraisal of the device's evidence.
func appraisals(t *testing.T, b *table) {
	d := device(t)
	e, verified, policy := d.Quoted(t, []byte("nonce"), evidence.Record{}), d.Verified(t), d.Policy(t)
	var r appraisal.Result
	best := byTurns(time.Second, func() { r = appraisal.Appraise(e, verified, policy, time.Unix(1_750_000_000, 0)) })
	if r.Events == 0 || r.IMAEntries == 0 {
		t.Errorf("the appraisal was not measured: %d events, %d entries, %s", r.Events, r.IMAEntries, r.Verdict)
	}
	b.budgeted(fmt.Sprintf("appraise the device's evidence: %d events, %d entries, quotes", r.Events, r.IMAEntries),
		short(best[0]), best[0].Seconds(), 0.002, "2ms")
}

// following measures taking over one more entry of a short and a long list.
func following(t *testing.T, b *table) {
	more := appraisaltest.Program("/usr/bin/later")
	sizes := [2]int{100, entries}
	var kernels [2]*securityfstest.Kernel
	var followers [2]*securityfs.Follower
	for i, n := range sizes {
		kernels[i] = securityfstest.New(t)
		programs := make([]appraisaltest.Measured, n)
		for k := range programs {
			programs[k] = appraisaltest.Program(fmt.Sprintf("/usr/lib/module/%06d.so", k))
		}
		kernels[i].Measure(programs...)
		f, err := securityfs.FollowIMA(kernels[i].SecurityFS())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		followers[i] = f
		drain(t, f, n)
	}
	const rounds = 2000
	var spent [2]time.Duration
	for range rounds {
		for i := range sizes {
			kernels[i].Measure(more)
			start := time.Now()
			if changed, err := followers[i].Changed(); err != nil || !changed {
				t.Fatalf("changed %v: %v", changed, err)
			}
			drain(t, followers[i], 1)
			spent[i] += time.Since(start)
		}
	}
	b.budgeted(fmt.Sprintf("follow a list by one entry: %d entries over %d", sizes[1], sizes[0]),
		fmt.Sprintf("%s, %s: %.2f", short(spent[1]/rounds), short(spent[0]/rounds), ratio(spent[1], spent[0])), ratio(spent[1], spent[0]), 1.3, "about 1")
}

// drain takes over as many entries as there must be.
func drain(t *testing.T, f *securityfs.Follower, want int) {
	t.Helper()
	for n := 0; ; n++ {
		_, err := f.Next()
		if errors.Is(err, io.EOF) {
			if n != want {
				t.Fatalf("%d entries, want %d", n, want)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
