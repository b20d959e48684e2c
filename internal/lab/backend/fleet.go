package backend

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/pki"
)

// Fleet is a running "wardfleet listen": the real backend program, whose lines
// of JSON the lab reads.
type Fleet struct {
	cmd  *exec.Cmd
	log  *boundedBuffer
	done chan struct{}

	mu       sync.Mutex
	received []ingest.Received
	changed  chan struct{} // closed and replaced at every message
}

// Released is what the fleet judges devices by; each is a file or folder.
type Released struct {
	Devices       string   // the devices' attestation keys
	Manifests     []string // of the releases, which have one baseline
	Baseline, Key string
}

// askEvery is how often the lab's fleet asks a device, so that a test need not
// wait for an hour.
const askEvery = 20 * time.Second

// StartFleet starts the backend against the broker. The certificate is the
// backend's own; receipts and questions are signed with the lab's keys.
func StartFleet(keys *pki.Keys, program, broker, dir string, r Released) (*Fleet, error) {
	f := &Fleet{log: newBoundedBuffer(1 << 20), done: make(chan struct{}), changed: make(chan struct{})}
	args := []string{"listen", "--json",
		"--broker", "tls://" + broker, "--server-name", pki.BrokerName,
		"--ca", keys.File("fleet-ca.crt"), "--cert", keys.File("backend.crt"), "--key", keys.File("backend.key"),
		"--receipt-key", keys.File("receipt.key"), "--state", filepath.Join(dir, "fleet.state"),
		"--challenge-key", keys.File("challenge.key"), "--challenge-every", askEvery.String(), "--devices", r.Devices,
		"--release-key", r.Key, "--baseline", r.Baseline}
	for _, m := range r.Manifests {
		args = append(args, "--release", m)
	}
	f.cmd = exec.Command(program, args...)
	f.cmd.Stderr = f.log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start wardfleet: %w", err)
	}
	if err := f.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start wardfleet: %w", err)
	}
	go f.read(out)
	return f, nil
}

// maxLine bounds one line of the backend's output: a message is at most
// 128 KiB, and JSON may escape it.
const maxLine = 1 << 20

func (f *Fleet) read(r io.Reader) {
	defer close(f.done)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var m ingest.Received
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			fmt.Fprintf(f.log, "lab: line of wardfleet is not JSON: %v\n", err)
			continue
		}
		f.mu.Lock()
		f.received = append(f.received, m)
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
	}
	_ = f.cmd.Wait()
}

// Mark is a position in what arrived: Await looks only behind it.
func (f *Fleet) Mark() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.received)
}

// Received is what arrived since a mark.
func (f *Fleet) Received(mark int) []ingest.Received {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]ingest.Received(nil), f.received[mark:]...)
}

// Await waits for the first message behind the mark that fits. It fails when
// ctx ends or the backend does.
func (f *Fleet) Await(ctx context.Context, mark int, what string, fits func(ingest.Received) bool) (ingest.Received, error) {
	for {
		f.mu.Lock()
		for ; mark < len(f.received); mark++ {
			if m := f.received[mark]; fits(m) {
				f.mu.Unlock()
				return m, nil
			}
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-f.done:
			return ingest.Received{}, fmt.Errorf("wait for %s: wardfleet ended: %s", what, f.log.lastLine())
		case <-ctx.Done():
			return ingest.Received{}, fmt.Errorf("wait for %s: it did not arrive in time", what)
		}
	}
}

// Stop ends the backend and waits for it.
func (f *Fleet) Stop() {
	_ = f.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-f.done:
	case <-time.After(5 * time.Second):
		_ = f.cmd.Process.Kill()
		<-f.done
	}
}
