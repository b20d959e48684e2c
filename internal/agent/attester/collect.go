package attester

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"ward/internal/device/securityfs"
	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

// collected is evidence whose IMA list is still to be read as a stream.
type collected struct {
	evidence  evidence.Evidence
	list      io.Reader
	truncated func() bool
	close     func()
	findings  []finding.Finding
	tpm       time.Duration // spent waiting for the TPM
}

// collect reads the event log and the registers and opens the IMA list, in this
// order, so that the list covers at least what the registers do.
func (a *Attester) collect(ctx context.Context) collected {
	c := collected{list: bytes.NewReader(nil), truncated: func() bool { return false }, close: func() {}}
	c.evidence = evidence.Evidence{Device: a.config.Device, Boot: a.config.Boot, Bank: Bank}

	log, err := securityfs.ReadEventLog(a.config.SecurityFS)
	c.evidence.EventLog, c.evidence.EventLogError = log, reason(err)

	a.collectPCRs(ctx, &c)

	list, err := securityfs.OpenIMA(a.config.SecurityFS)
	if err != nil {
		c.evidence.IMAError = reason(err)
		return c
	}
	c.list, c.truncated = list, list.Truncated
	c.close = func() {
		if err := list.Close(); err != nil {
			a.config.Log.Warn("close IMA list", "error", err)
		}
	}
	return c
}

// reason is why a part could not be read, in the form that evidence asks for.
func reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s: %v", evidence.Absent, err)
	}
	return err.Error()
}

// errNoTPM stands for a reader that was not given.
var errNoTPM = fmt.Errorf("read PCRs: %w", tpm.ErrAbsent)

// collectPCRs reads the registers from the TPM, and where that fails as the
// kernel shows them; the TPM's failure stays a finding.
func (a *Attester) collectPCRs(ctx context.Context, c *collected) {
	err := errNoTPM
	if a.config.TPM != nil {
		which := make([]int, pcr.Count)
		for i := range which {
			which[i] = i
		}
		began := time.Now()
		c.evidence.PCRs, err = a.config.TPM.ReadPCRs(ctx, Bank, which)
		c.tpm = time.Since(began)
	}
	if err == nil {
		return
	}
	c.evidence.PCRs = nil
	code := finding.TPMFailing
	if errors.Is(err, tpm.ErrAbsent) {
		code = finding.TPMAbsent
	}
	values, sysErr := securityfs.ReadPCRs(a.config.SysFS, Bank)
	if sysErr != nil {
		c.evidence.PCRError = fmt.Sprintf("%v; %v", err, sysErr)
		c.findings = append(c.findings, finding.New(code, err.Error()))
		return
	}
	c.evidence.PCRs = values
	c.findings = append(c.findings, finding.New(code, fmt.Sprintf("%v; the registers were read from the kernel's files instead", err)))
}
