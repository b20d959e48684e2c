package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/mqtt"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/fleet/ingest"
	"ward/internal/lab/backend"
	"ward/internal/lab/pki"
	"ward/internal/provision"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/enrolment"
)

const (
	tenant = "acme"
	device = "pump-1"
	// patience bounds every wait; what is waited for takes some seconds at most.
	patience = 60 * time.Second
)

// world is a manufactured device with its kernel's files, and the fleet that it
// reports to. The device's programs run as processes; the fleet's ear is in the
// test's own.
type world struct {
	t     testing.TB
	dir   string // short: a UNIX socket's path may have 107 characters
	state string
	keys  *pki.Keys
	chip  *swtpmtest.TPM
	paper *appraisaltest.Device

	kernel *kernel
	broker *backend.Broker
	fleet  *fleet
	wire   *wire
	wardd  string // the program
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld makes a device with a certificate, switches its TPM on and begins the
// broker, the fleet, and a reader of everything that goes over the wire.
func newWorld(t testing.TB) *world { return newWorldOn(t, func(string) {}) }

// newWorldOn is newWorld with a state folder that mount has changed.
func newWorldOn(t testing.TB, mount func(folder string)) *world {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: run 'make deps'")
	}
	dir, err := os.MkdirTemp("", "ward")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, state: filepath.Join(dir, "state"), chip: swtpmtest.Start(t, false)}
	check(t, os.Mkdir(w.state, 0o700))
	mount(w.state)
	w.keys, err = pki.Open(filepath.Join(dir, "keys"))
	check(t, err)
	w.manufacture()
	w.boot()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w.broker, err = backend.StartBroker(ctx, w.keys, backend.BrokerConfig{Dir: filepath.Join(dir, "broker"), Tenant: tenant, Devices: []string{device}})
	check(t, err)
	t.Cleanup(w.broker.Stop)
	w.wire = w.listen()
	w.fleet = &fleet{t: t, w: w}
	w.fleet.start()
	t.Cleanup(w.fleet.stop)
	w.wardd, err = wardd()
	check(t, err)
	w.configure()
	return w
}

// manufacture gives the device what a production line and a registrar give it.
func (w *world) manufacture() {
	t := w.t
	chip, err := tpm.Open(w.chip.Socket)
	check(t, err)
	defer chip.Close()
	store := idstore.Open(w.state)
	made, err := provision.Run(t.Context(), chip, store, provision.Options{
		Tenant: tenant, Serial: device, Now: time.Now(), Keep: func(provision.Vault) error { return nil },
	})
	check(t, err)
	reporting := made.Uses[enrolment.Reporting]
	key, err := tpm.Blob{Public: reporting.Key.Public}.Key()
	check(t, err)
	text, err := w.keys.IssueDevice(key.Public, tenant, device)
	check(t, err)
	check(t, store.SetChain(reporting, derOf(t, text)))
}

// boot writes the kernel's files of a boot that is the release's, has the TPM
// measure it, and puts the release and the trust anchors where wardd looks.
func (w *world) boot() {
	t := w.t
	// Without the record of a start at locality 3, which swtpm does not make.
	w.paper = appraisaltest.Booted(t, appraisaltest.Log(appraisaltest.Events()[1:]...), appraisaltest.Program("/usr/sbin/wardd"), appraisaltest.Program("/usr/bin/pump"))
	w.kernel = newKernel(t, filepath.Join(w.dir, "sys"), w.paper)
	w.extendBoot()
	anchors, err := w.keys.TrustAnchors()
	check(t, err)
	delete(anchors, "release/lab.pem")
	anchors["release/paper.pem"] = appraisaltest.KeyPEM(t, w.paper.Key)
	for name, text := range anchors {
		write(t, filepath.Join(w.dir, "trust", name), text)
	}
	write(t, filepath.Join(w.dir, "release.dsse"), w.paper.Envelope(t))
	write(t, filepath.Join(w.dir, "baseline"), w.paper.Baseline)
}

// configure writes wardd.toml.
func (w *world) configure() {
	write(w.t, w.file("wardd.toml"), fmt.Appendf(nil, `version = 1
[paths]
state = "%[1]s/state"
socket = "%[1]s/wardd.sock"
release = "%[1]s/release.dsse"
baseline = "%[1]s/baseline"
trust = "%[1]s/trust"
sysfs = "%[1]s/sys"
[tpm]
device = "%[2]s"
[identity]
serial_file = ""
[uplink]
brokers = ["tls://%[3]s"]
server_name = "broker.ward.lab"
[journal]
max_bytes = 268435456
[integrity]
ima_poll = "50ms"
`, w.dir, w.chip.Socket, w.broker.Address()))
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	check(t, errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)))
}

// programs is the folder of what was compiled; it goes with the test's process.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "ward-programs"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(programs)
	os.Exit(status)
}

// wardd compiles the daemon as it ships, once, and returns its file.
var wardd = sync.OnceValues(func() (string, error) {
	name := filepath.Join(programs, "wardd")
	cmd := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-buildvcs=false", "-o", name, "ward/cmd/wardd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build wardd: %w: %s", err, out)
	}
	return name, nil
})

// listen reads what goes over the wire with the right to read alone.
func (w *world) listen() *wire {
	tlsConfig, id, err := ingest.LoadTLS(w.keys.File("fleet-ca.crt"), w.keys.File("reader.crt"), w.keys.File("reader.key"), pki.BrokerName)
	check(w.t, err)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	conn, err := mqtt.Connect(ctx, mqtt.Options{Broker: "tls://" + w.broker.Address(), ClientID: id, TLS: tlsConfig, Backpressure: true, Queue: 4096})
	check(w.t, err)
	check(w.t, conn.Subscribe(ctx, "ward/v1/"+tenant+"/"+device+"/up/#"))
	r := &wire{t: w.t, seen: make(map[place]sum)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case m := <-conn.Messages():
				r.take(m)
			case <-conn.Done():
				return
			}
		}
	}()
	w.t.Cleanup(func() { conn.Close(); <-ended })
	return r
}

// fleet is the fleet's ear, which may be begun anew on its own files.
type fleet struct {
	t    testing.TB
	w    *world
	stop func()

	mu       sync.Mutex
	received map[place]sum // accepted or held
	twice    int           // told twice
	receipts uint64        // up to here receipts were sent
	lost     int           // last wills
	problems []string      // what the fleet found, silence aside
}

func (f *fleet) start() {
	keys := f.w.keys
	tlsConfig, id, err := ingest.LoadTLS(keys.File("fleet-ca.crt"), keys.File("backend.crt"), keys.File("backend.key"), pki.BrokerName)
	check(f.t, err)
	ear, err := ingest.New(ingest.Config{
		Broker: "tls://" + f.w.broker.Address(), TLS: tlsConfig, ClientID: id, ReceiptKey: keys.Receipt,
		StateFile: f.w.file("fleet.state"), EventsFile: f.eventsFile(),
	})
	check(f.t, err)
	if f.received == nil {
		f.received = make(map[place]sum)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := ear.Run(ctx); err != nil {
			f.t.Errorf("the fleet's ear: %v", err)
		}
	})
	all.Go(func() {
		for r := range ear.Messages() {
			f.take(r)
		}
	})
	f.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	until(f.t, "the fleet listens", ear.Connected)
}

func (f *fleet) eventsFile() string { return f.w.file("fleet.events") }

func (f *fleet) take(r ingest.Received) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Kind {
	case ingest.KindEvent:
		at := place{r.Event.Epoch, r.Event.Sequence}
		if _, again := f.received[at]; again {
			f.twice++
		}
		f.received[at] = sumOf(r.Raw)
	case ingest.KindReceipt:
		f.receipts = max(f.receipts, r.Sequence)
	case ingest.KindFinding:
		if r.Finding.Code == "link.silence" {
			f.lost++
			return
		}
		f.problems = append(f.problems, fmt.Sprintf("%s: %s", r.Finding.Code, r.Finding.Detail))
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}
