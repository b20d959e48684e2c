package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
	"ward/internal/trust/volume"
)

// volumeReport is where the early boot of the device reports.
const volumeReport = "/run/ward/volumes"

// Volumes reads what the early boot of the running device reported.
func (s *Stage) Volumes(ctx context.Context) (map[string]volume.Outcome, error) {
	text, err := s.VM.Pull(ctx, volumeReport)
	if err != nil {
		return nil, fmt.Errorf("read report on volumes: %w", err)
	}
	all, err := volume.ParseReport(text)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]volume.Outcome)
	for _, o := range all {
		byName[o.Name] = o
	}
	return byName, nil
}

// DataClosed wants the state volume open, the data volume closed for a cause, and
// the fleet told.
func (s *Stage) DataClosed(ctx context.Context, mark int, cause volume.Cause) error {
	v, err := s.Volumes(ctx)
	if err != nil {
		return err
	}
	if !v[volume.State].Opened || v[volume.Data].Opened || v[volume.Data].Cause != cause {
		return s.Explain(fmt.Errorf("volumes: %+v; want state open and data closed, %s", v, cause))
	}
	r, err := s.AwaitFinding(ctx, mark, string(finding.IdentityDataClosed), "")
	if err != nil {
		return err
	}
	s.Line.Say("fleet", "%s: %s: %s", r.Device, r.Event.Finding.Code, r.Event.Finding.Detail)
	return nil
}

func Holds(all []localapi.Condition, code finding.Code) bool {
	for _, f := range all {
		if f.Code == code {
			return true
		}
	}
	return false
}

// BedsideStatus is what wardctl tells on the running device.
func (s *Stage) BedsideStatus(ctx context.Context) (localapi.Status, error) {
	var st localapi.Status
	ctx, cancel := context.WithTimeout(ctx, AlertTime)
	defer cancel()
	for {
		r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status", "--json")
		if err != nil {
			return st, err
		}
		// The daemon may be starting, and its conditions follow its record.
		if err := json.Unmarshal(r.Stdout, &st); err == nil && Holds(st.Findings, finding.IdentityMissing) {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("read status: %s%s", r.Stdout, r.Stderr)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
