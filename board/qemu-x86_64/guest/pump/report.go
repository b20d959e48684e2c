package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// logLimit bounds the jitter log: at this size it becomes jitter.log.1, and the
// one before goes.
const logLimit = 256 << 10

// States of the pump. It infuses in both.
const (
	running  = "running"
	degraded = "degraded"
)

// A report writes each summary to a log and to a status file.
type report struct {
	logDir, runDir string
	state, detail  string
}

// newReport picks the data directory if files can be made there. Without it the
// pump is degraded: its log is lost at power-off.
func newReport(dataDir, runDir string) *report {
	r := &report{logDir: dataDir, runDir: runDir, state: running}
	probe := filepath.Join(dataDir, ".probe")
	if err := os.WriteFile(probe, nil, 0o644); err != nil {
		r.logDir, r.state, r.detail = runDir, degraded, "no data volume: the log is not kept"
		return r
	}
	_ = os.Remove(probe)
	return r
}

func (r *report) write(s summary) error {
	s.State, s.Detail = r.state, r.detail
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode summary: %w", err)
	}
	line = append(line, '\n')
	return errors.Join(r.appendLog(line), r.writeStatus(line))
}

// begin writes the first status, before there is anything to sum up.
func (r *report) begin() error {
	line, err := json.Marshal(summary{State: r.state, Detail: r.detail})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return r.writeStatus(append(line, '\n'))
}

func (r *report) appendLog(line []byte) error {
	path := filepath.Join(r.logDir, "jitter.log")
	if st, err := os.Stat(path); err == nil && st.Size()+int64(len(line)) > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	return nil
}

// writeStatus replaces the status file at once, so that no reader sees half.
func (r *report) writeStatus(line []byte) error {
	path := filepath.Join(r.runDir, "status.json")
	if err := os.WriteFile(path+".new", line, 0o644); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace status: %w", err)
	}
	return nil
}
