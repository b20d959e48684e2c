package tpm

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/registers"
	"ward/internal/device/tpm/session"
	"ward/internal/format/pcr"
)

// ReadPCRs reads registers of one bank (TPM2_PCR_Read, Part 3, section 22.4).
// All values are of one moment: when the TPM's update counter moves between
// two commands, they are read anew, at most 5 times. A bank that the TPM does
// not have is an error. When the TPM is pinned, nobody between it and the
// processor can change the values; else only a quote vouches for them.
func (t *TPM) ReadPCRs(ctx context.Context, bank pcr.Algorithm, indexes []int) (pcr.Values, error) {
	for _, i := range indexes {
		if i < 0 || i >= pcr.Count {
			return nil, fmt.Errorf("read PCRs: there is no PCR %d", i)
		}
	}
	return run(ctx, t, "read PCRs", func(c *channel) (pcr.Values, error) {
		audit, err := t.auditPinned(c)
		if err != nil {
			return nil, err
		}
		return registers.Read(c, bank, indexes, audit...)
	})
}

// auditPinned opens the session that authenticates answers of commands that
// take no authorisation, if the TPM is pinned.
func (t *TPM) auditPinned(c *channel) ([]tpm2.Session, error) {
	if t.pinned() == nil {
		return nil, nil
	}
	s, err := t.audit(c)
	return []tpm2.Session{s}, err
}

// audit opens a session that authenticates commands and answers and hides
// nothing.
func (t *TPM) audit(c *channel) (tpm2.Session, error) {
	root, _, err := t.storageSalt(c)
	if err != nil {
		return nil, err
	}
	return session.Protected(c, root, tpm2.Audit())
}
