// Package status asks a TPM for its own state (TPM 2.0 Library Specification, Part
// 3, section 30.2: TPM2_GetCapability). It needs no authorisation and works in
// lockout.
package status

import (
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
)

// Status is what the TPM says of its own state (TPM2_GetCapability,
// TPM_CAP_TPM_PROPERTIES; Part 2, sections 6.13 and 8.6).
type Status struct {
	// The dictionary attack protection: after MaxTries wrong authorisations the
	// TPM refuses; one try is forgiven every Interval while it is powered.
	Lockout         bool
	Tries, MaxTries uint32
	Interval        time.Duration
	Recovery        time.Duration // after a wrong lockout authorisation; 0: a reset
	// Whether the hierarchies have an authorisation.
	OwnerSet, EndorsementSet, LockoutSet bool
	ClearDisabled                        bool // TPM2_Clear with the lockout authorisation
	// What is free: slots for objects and sessions, persistent objects,
	// counters.
	Objects, Sessions, Persistent, Counters uint32
}

// Bits of TPMA_PERMANENT (Part 2, section 8.6).
const (
	ownerAuthSet       = 1 << 0
	endorsementAuthSet = 1 << 1
	lockoutAuthSet     = 1 << 2
	disableClear       = 1 << 8
	inLockout          = 1 << 9
)

// Read asks the TPM.
func Read(c *link.Channel) (Status, error) {
	const properties = 0x20 // all variable ones are numbered within
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent), PropertyCount: properties,
	}.Execute(c)
	if err != nil {
		return Status{}, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return Status{}, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	values := make(map[tpm2.TPMPT]uint32)
	for _, p := range list.TPMProperty {
		values[p.Property] = p.Value
	}
	permanent, ok := values[tpm2.TPMPTPermanent]
	if !ok {
		return Status{}, fmt.Errorf("%w: no permanent attributes among %d properties", link.ErrResponse, len(values))
	}
	seconds := func(p tpm2.TPMPT) time.Duration { return time.Duration(values[p]) * time.Second }
	return Status{
		Lockout: permanent&inLockout != 0, Tries: values[tpm2.TPMPTLockoutCounter], MaxTries: values[tpm2.TPMPTMaxAuthFail],
		Interval: seconds(tpm2.TPMPTLockoutInterval), Recovery: seconds(tpm2.TPMPTLockoutRecovery),
		OwnerSet: permanent&ownerAuthSet != 0, EndorsementSet: permanent&endorsementAuthSet != 0,
		LockoutSet: permanent&lockoutAuthSet != 0, ClearDisabled: permanent&disableClear != 0,
		Objects: values[tpm2.TPMPTHRTransientAvail], Sessions: values[tpm2.TPMPTHRLoadedAvail],
		Persistent: values[tpm2.TPMPTHRPersistentAvail], Counters: values[tpm2.TPMPTNVCountersAvail],
	}, nil
}

// Remedy says how a lockout ends.
func (s Status) Remedy() string {
	if s.Interval == 0 {
		return fmt.Sprintf("%d of %d tries: it ends with the lockout authorisation alone", s.Tries, s.MaxTries)
	}
	return fmt.Sprintf("%d of %d tries: leave the device on for at most %s, or use the lockout authorisation", s.Tries, s.MaxTries, s.Interval)
}
