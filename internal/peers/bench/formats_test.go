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
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Errorf("CI=true: not every event log was measured: %v", err)
	case err != nil:
		b.noted("event logs of other machines", "not measured: the corpus is not beside the repository")
	}
	for _, log := range logs {
		m := peers.Boot(t, log.Bytes)
		took := byTurns(15, func() {
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
			fmt.Sprintf("%s, go-attestation %s: %.2f", short(median(took[0])), short(median(took[1])), took[0].over(took[1])), took[0].over(took[1]), 1, "1.00")
	}
}

// entries is how long the long lists are.
const entries = 100_000

// lists holds the replay of a long list against the bare hashing and evmctl.
func lists(t *testing.T, b *table) {
	list := peers.Generate("ima-ng", entries)
	data := templateData(t, list)
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA1} {
		replay := func() {
			if _, err := peers.ReplayList(list, bank); err != nil {
				t.Fatal(err)
			}
		}
		took := byTurns(15, replay, func() { hashOnly(bank, data) })
		b.budgeted(fmt.Sprintf("replay %d IMA entries, bank %s", entries, bank),
			fmt.Sprintf("%s, bare hashing %s: %.2f", short(median(took[0])), short(median(took[1])), took[0].over(took[1])), took[0].over(took[1]), 1.3, "1.30")

		m := peers.Measure(t, list, bank)
		file := filepath.Join(t.TempDir(), "list")
		tool := byTurns(3, func() {
			if answer, err := peers.Evmctl(file, list, m); err != nil || answer != peers.Follows {
				t.Fatalf("evmctl was not measured: %s, %v", answer, err)
			}
		})
		b.noted(fmt.Sprintf("the same by evmctl, bank %s", bank),
			fmt.Sprintf("%s: Ward %.3f of it", short(median(tool[0])), float64(median(took[0]))/float64(median(tool[0]))))
		allocations := testing.AllocsPerRun(1, replay)
		b.budgeted(fmt.Sprintf("allocations for each of them, bank %s", bank),
			fmt.Sprintf("%.2f, %.0f in all", allocations/entries, allocations), allocations/entries, 0.005, "0.00")
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

// appraisals measures the whole appraisal of the device's evidence, two quotes
// included: as it lies in memory, and as it comes over the wire.
func appraisals(t *testing.T, b *table) {
	d := device(t)
	e, verified, policy := d.Quoted(t, []byte("nonce"), evidence.Record{}), d.Verified(t), d.Policy(t)
	document, err := evidence.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	var r appraisal.Result
	appraise := func(e evidence.Evidence) {
		if r = appraisal.Appraise(e, verified, policy, time.Unix(1_750_000_000, 0)); r.Verdict != appraisal.Affirming {
			t.Fatalf("the appraisal was not measured: %s, %v", r.Verdict, r.Findings)
		}
	}
	took := byTurns(31, func() { appraise(e) }, func() {
		e, err := evidence.Parse(document)
		if err != nil {
			t.Fatal(err)
		}
		appraise(e)
	})
	for i, what := range []string{
		fmt.Sprintf("appraise the device's evidence: %d events, %d entries, quotes", r.Events, r.IMAEntries),
		fmt.Sprintf("the same from %d bytes of CBOR", len(document)),
	} {
		b.budgeted(what, short(median(took[i])), median(took[i]).Seconds(), 0.002, "2ms")
	}
}

// grown is a list in a file that grows by one entry at a time, with one who
// follows it and one who reads on from where he was.
type grown struct {
	kernel   *securityfstest.Kernel
	follower *securityfs.Follower
	at       securityfs.Position
}

func newGrown(t *testing.T, size int) *grown {
	t.Helper()
	g := &grown{kernel: securityfstest.New(t)}
	programs := make([]appraisaltest.Measured, size)
	for i := range programs {
		programs[i] = appraisaltest.Program(fmt.Sprintf("/usr/lib/module/%06d.so", i))
	}
	g.kernel.Measure(programs...)
	var err error
	if g.follower, err = securityfs.FollowIMA(g.kernel.SecurityFS()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.follower.Close() })
	drain(t, g.follower, size)
	g.from(t, size)
	return g
}

// follow takes over what is new, n entries.
func (g *grown) follow(t *testing.T, n int) {
	if changed, err := g.follower.Changed(); err != nil || !changed {
		t.Fatalf("changed %v: %v", changed, err)
	}
	drain(t, g.follower, n)
}

// from reads what is new, n entries.
func (g *grown) from(t *testing.T, n int) {
	p, err := securityfs.ReadIMAFrom(g.kernel.SecurityFS(), g.at, securityfs.MaxIMA)
	if err != nil || p.End.Entries != g.at.Entries+n {
		t.Fatalf("read from %+v to %+v, want %d entries: %v", g.at, p.End, n, err)
	}
	g.at = p.End
}

// following measures taking over one more entry of a short and a long list, by
// turns: the part of user space, on common files.
func following(t *testing.T, b *table) {
	more := appraisaltest.Program("/usr/bin/later")
	sizes := []int{100, entries}
	lists := []*grown{newGrown(t, sizes[0]), newGrown(t, sizes[1])}
	for _, way := range []struct {
		name string
		take func(g *grown) time.Duration
	}{
		{"follow a list by one entry", func(g *grown) time.Duration {
			start := time.Now()
			g.follow(t, 1)
			took := time.Since(start)
			g.from(t, 1)
			return took
		}},
		{"read one entry from a position on", func(g *grown) time.Duration {
			start := time.Now()
			g.from(t, 1)
			took := time.Since(start)
			g.follow(t, 1)
			return took
		}},
	} {
		took := make([]taken, len(lists))
		for round := range 1000 {
			for turn := range lists {
				i := (round + turn) % len(lists)
				lists[i].kernel.Measure(more)
				took[i] = append(took[i], way.take(lists[i]))
			}
		}
		b.budgeted(fmt.Sprintf("%s: %d entries over %d", way.name, sizes[1], sizes[0]),
			fmt.Sprintf("%s, %s: %.2f", short(median(took[1])), short(median(took[0])), took[1].over(took[0])), took[1].over(took[0]), 1.3, "about 1")
	}
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
