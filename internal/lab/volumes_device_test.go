//go:build device

package lab

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/lab/works"
	"ward/internal/trust/volume"
)

// keptFile is written to the data volume under one release and read under the next.
const keptFile, keptText = "/data/pump/kept", "written under release 1.0.0"

// volumesOpen wants both volumes open and mounted, and what manufacture wrote in
// them; it leaves a file for the next start.
func volumesOpen(ctx context.Context, t *testing.T, s *stage.Stage) {
	mounted(ctx, t, s, true)
	if got := guest(ctx, t, s, 0, "/usr/bin/cat", "/data/"+works.PatientFile); !strings.Contains(got, works.PlantedPatient) {
		t.Errorf("the data volume holds %q", got)
	}
	r, err := s.VM.Do(ctx, control.Request{Put: &control.Put{Path: keptFile, Mode: 0o600, UID: 901, GID: 901, Data: []byte(keptText)}})
	if err != nil || r.Error != "" {
		t.Fatalf("write to the data volume: %v %s", err, r.Error)
	}
	if got := pumpState(ctx, t, s); got != "running" {
		t.Errorf("the pump is %s", got)
	}
	ready, after := s.VM.Ready()
	t.Logf("up %.1f s after power-on, kernel %.1f s", after.Seconds(), float64(ready.UptimeMS)/1000)
}

// volumesKept wants the data volume open under the next release, with what was
// written under the one before.
func volumesKept(ctx context.Context, t *testing.T, s *stage.Stage) {
	t.Helper()
	mounted(ctx, t, s, true)
	if got := guest(ctx, t, s, 0, "/usr/bin/cat", keptFile); got != keptText {
		t.Errorf("after the update the data volume holds %q", got)
	}
}

// dataShut is the altered boot: nothing of the data volume can be read, and
// therapy runs.
func dataShut(ctx context.Context, t *testing.T, s *stage.Stage) {
	mounted(ctx, t, s, false)
	guest(ctx, t, s, 1, "/usr/bin/cat", keptFile)
	if got := pumpState(ctx, t, s); got != "degraded" {
		t.Errorf("the pump is %s", got)
	}
	st := status(ctx, t, s)
	if len(st.Volumes) != 2 || !st.Volumes[0].Opened || st.Volumes[1].Opened || st.Volumes[1].Cause != string(volume.BootState) {
		t.Errorf("the status says of volumes: %+v", st.Volumes)
	}
}

// mounted wants the state volume mounted, and data as told; never a partition
// itself.
func mounted(ctx context.Context, t *testing.T, s *stage.Stage, data bool) {
	t.Helper()
	v, err := s.Volumes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("volumes: %+v", v)
	mounts := guest(ctx, t, s, 0, "/usr/bin/cat", "/proc/mounts")
	if !strings.Contains(mounts, "/dev/mapper/ward-state /var/lib/ward ext4 rw,nosuid,nodev,noexec") {
		t.Errorf("the state volume is not mounted:\n%s", mounts)
	}
	if strings.Contains(mounts, "/dev/mapper/ward-data /data ext4 rw,nosuid,nodev") != data || v[volume.Data].Opened != data {
		t.Errorf("data is mounted: want %v\n%s", data, mounts)
	}
}

func pumpState(ctx context.Context, t *testing.T, s *stage.Stage) string {
	t.Helper()
	b, err := s.VM.Pull(ctx, "/run/pump/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var st struct{ State string }
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	return st.State
}
