package profile

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/bootevent"
	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/format/pe"
)

// Names of Secure Boot's variables.
const (
	nameSecureBoot = "SecureBoot"
	namePK         = "PK"
	nameKEK        = "KEK"
	nameDB         = "db"
	nameDBX        = "dbx"
)

func authenticode(i *pe.Image) (pcr.Digest, error) {
	h := sha256.New()
	if err := i.Authenticode(h); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// variable finds a variable that the firmware measured, by its name.
func (p *Profile) variable(name string) (efi.Variable, int, bool) {
	for i, e := range p.PCRs[secureBootRegister].Events {
		if e.Type != typeVariable {
			continue
		}
		if v, err := efi.ParseVariable(e.Data); err == nil && v.Name == name {
			return v, i, true
		}
	}
	return efi.Variable{}, 0, false
}

// secureBootOn tells whether the firmware refuses what db does not admit.
func (p *Profile) secureBootOn() bool {
	v, _, ok := p.variable(nameSecureBoot)
	return ok && len(v.Data) == 1 && v.Data[0] == 1
}

// predictSecureBoot makes the events of replaced variables anew (Firmware
// Profile, 3.3.4.8 and 10.2.6: the digest is over UEFI_VARIABLE_DATA) and those
// of the authorities that admit the applications: of each the first entry of db
// that does, measured once (10.4.1, EV_EFI_VARIABLE_AUTHORITY). Authorities that
// admitted the firmware's own drivers, and those of loaders (shim's), stay.
func (p *Profile) predictSecureBoot(applications []*pe.Image, variables map[string][]byte) error {
	r, ok := p.PCRs[secureBootRegister]
	if !ok {
		if len(variables) > 0 {
			return errors.New("the profile was learned without it: its variables cannot be replaced")
		}
		return nil
	}
	events := slices.Clone(r.Events)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		v, at, ok := p.variable(name)
		if !ok {
			return fmt.Errorf("the golden boot holds no measurement of variable %q that hashes to its digest", name)
		}
		v.Data = variables[name]
		if name != nameSecureBoot {
			if _, err := efi.ParseSignatureLists(v.Data); err != nil {
				return fmt.Errorf("%w: variable %q: %w", ErrArtefact, name, err)
			}
		} else if len(v.Data) != 1 || v.Data[0] > 1 {
			return fmt.Errorf("%w: variable %q: want one byte, 0 or 1", ErrArtefact, name)
		}
		made := event(secureBootRegister, eventlog.EVEFIVariableConfig, v.Bytes(), bootevent.Describe)
		made.Index = events[at].Index
		events[at] = made
	}
	if err := p.set(secureBootRegister, events); err != nil {
		return err
	}
	if !p.secureBootOn() {
		return nil
	}
	return p.predictAuthorities(applications)
}

// predictAuthorities replaces those of the boot phase that are of db.
func (p *Profile) predictAuthorities(applications []*pe.Image) error {
	events := p.PCRs[secureBootRegister].Events
	ofLoaders := false
	replaced := func(e Event) bool {
		if e.Type != typeAuthority || e.Index >= 0 && e.Index < p.BootPhase {
			return false
		}
		v, err := efi.ParseVariable(e.Data)
		if err != nil || v.Vendor != efi.ImageSecurity || v.Name != nameDB {
			ofLoaders = true
			return false
		}
		return true
	}
	at := slices.IndexFunc(events, replaced)
	kept := without(events, replaced)
	if at < 0 {
		at = len(kept)
	}
	db, dbx, err := p.databases()
	if err != nil {
		return err
	}
	for i, a := range applications {
		signature, err := admit(a, db, dbx)
		if err != nil && (i == 0 || !ofLoaders) {
			return fmt.Errorf("application %d of %d is refused by Secure Boot: %w", i+1, len(applications), err)
		}
		if err != nil {
			continue // a loader with keys of its own admits it, and measures that
		}
		data := efi.Variable{Vendor: efi.ImageSecurity, Name: nameDB, Data: signature.Bytes()}.Bytes()
		made := event(secureBootRegister, eventlog.EVEFIVariableAuth, data, bootevent.Describe)
		if slices.ContainsFunc(kept, func(e Event) bool { return bytes.Equal(e.Digest, made.Digest) }) {
			continue
		}
		kept = slices.Insert(kept, at, made)
		at++
	}
	return p.set(secureBootRegister, kept)
}

// databases reads db and dbx as they will be.
func (p *Profile) databases() (db, dbx []efi.SignatureList, err error) {
	v, _, ok := p.variable(nameDB)
	if !ok {
		return nil, nil, errors.New("the golden boot holds no measurement of db that hashes to its digest: nothing tells what admits an image")
	}
	if db, err = efi.ParseSignatureLists(v.Data); err != nil {
		return nil, nil, fmt.Errorf("db: %w", err)
	}
	if v, _, ok = p.variable(nameDBX); ok {
		if dbx, err = efi.ParseSignatureLists(v.Data); err != nil {
			return nil, nil, fmt.Errorf("dbx: %w", err)
		}
	}
	return db, dbx, nil
}

// admit finds the entry of db that admits an image (UEFI 32.5.3.3): the first
// certificate to which one of its signatures leads, else its hash. A hash or
// certificate in dbx forbids it.
func admit(image *pe.Image, db, dbx []efi.SignatureList) (efi.Signature, error) {
	digest, err := authenticode(image)
	if err != nil {
		return efi.Signature{}, err
	}
	signatures, err := image.Signatures()
	if err != nil {
		return efi.Signature{}, err
	}
	if _, ok := listed(dbx, digest, signatures); ok {
		return efi.Signature{}, errors.New("dbx forbids it")
	}
	if s, ok := listed(db, digest, signatures); ok {
		return s, nil
	}
	if len(signatures) == 0 {
		return efi.Signature{}, errors.New("it is not signed, and db does not hold its hash: sign it first")
	}
	return efi.Signature{}, errors.New("no entry of db admits its signature")
}

// listed finds the first certificate of lists to which a signature leads, else
// the image's hash.
func listed(lists []efi.SignatureList, digest pcr.Digest, signatures []pe.Signature) (efi.Signature, bool) {
	var byHash *efi.Signature
	for _, l := range lists {
		for _, entry := range l.Signatures {
			switch l.Type {
			case efi.CertSHA256:
				if byHash == nil && bytes.Equal(entry.Data, digest) {
					byHash = &entry
				}
			case efi.CertX509:
				c, err := x509.ParseCertificate(entry.Data)
				if err != nil {
					continue // the firmware cannot use it either
				}
				if slices.ContainsFunc(signatures, func(s pe.Signature) bool { return s.LeadsTo(c) }) {
					return entry, true
				}
			}
		}
	}
	if byHash != nil {
		return *byHash, true
	}
	return efi.Signature{}, false
}
