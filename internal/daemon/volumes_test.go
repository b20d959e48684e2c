package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/daemon/early"
)

// What the early boot reports of the volumes is on the record and in the status;
// the daemon runs whatever is closed, its record then in memory.
//
// Verifies: SR-041 SR-017
func TestClosedVolumesAreTold(t *testing.T) {
	for _, tc := range []struct {
		name, report string
		findings     [][2]string // code and part of the detail
		volumes      string
	}{
		{"no report", "", nil, ""},
		{"both open", `{"name":"state","opened":true}` + "\n" + `{"name":"data","opened":true}` + "\n", nil, "state open data open"},
		{"an altered boot", `{"name":"state","opened":true}` + "\n" + `{"name":"data","opened":false,"cause":"boot-state","detail":"PCR [11] differ"}` + "\n",
			[][2]string{{"identity.data-closed", "none that the manufacturer approved: PCR [11] differ"}}, "state open data boot-state"},
		{"another TPM", `{"name":"state","opened":false,"cause":"other-tpm"}` + "\n" + `{"name":"data","opened":false,"cause":"other-tpm"}` + "\n",
			[][2]string{{"identity.state-closed", "another TPM"}, {"identity.data-closed", "another TPM"}}, "state other-tpm data other-tpm"},
		{"a damaged report", "{", [][2]string{{"identity.state-closed", "line 1"}, {"identity.data-closed", "line 1"}}, "state unknown data unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := short(t)
			if tc.report != "" {
				if err := os.WriteFile(filepath.Join(dir, "volumes"), []byte(tc.report), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := statusOf(t, dir)
			var told []string
			for _, v := range s.Volumes {
				state := "open"
				if !v.Opened {
					state = v.Cause
				}
				told = append(told, v.Name, state)
			}
			if got := strings.Join(told, " "); got != tc.volumes || s.Volumes == nil {
				t.Errorf("the status says %q, want %q", got, tc.volumes)
			}
			for _, f := range tc.findings {
				if !holds(s, f[0], f[1]) {
					t.Errorf("%s with %q is not told: %+v", f[0], f[1], s.Findings)
				}
			}
			if len(tc.findings) == 0 && (holds(s, "identity.data-closed", "") || holds(s, "identity.state-closed", "")) {
				t.Errorf("told: %+v", s.Findings)
			}
		})
	}
}

// statusOf runs a daemon whose socket lies in the folder, until it has told what
// it began with.
func statusOf(t *testing.T, dir string) localapi.Status {
	t.Helper()
	settings := config.Default()
	none := filepath.Join(dir, "none")
	settings.Paths = config.Paths{
		State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s"),
		Release: none, Baseline: none, Trust: none, SysFS: none,
	}
	settings.TPM.Device = none
	d := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.health = health.New(d.journal, nil, d.log)
	ctx, cancel := context.WithCancel(t.Context())
	d.begin(ctx, nil, "")
	d.assemble()
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	patience, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	for {
		// What the roles find follows in the record what the daemon began with.
		s, err := localapi.NewClient(settings.Paths.Socket).Status(patience)
		if err == nil && holds(s, "boot.release-no-trust", "") {
			return s
		}
		select {
		case <-patience.Done():
			t.Fatalf("no status: %+v, %v", s, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
