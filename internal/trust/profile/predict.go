package profile

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/eventlog"
	"ward/internal/format/pe"
)

// Registers that depend on the release (Firmware Profile, 3.3.4; UAPI Group,
// Linux TPM PCR registry).
const (
	bootRegister       = 4  // applications, measured by the firmware
	secureBootRegister = 7  // Secure Boot's variables and who admitted the applications
	kernelRegister     = 9  // command line and initramfs, measured by the kernel's EFI stub
	stubRegister       = 11 // the image's sections, measured by systemd's EFI stub
	overrideRegister   = 12 // command lines from outside the image
)

// Types of events by the names that profiles use.
var (
	typeSeparator   = eventlog.EVSeparator.String()
	typeApplication = eventlog.EVEFIBootApplication.String()
	typeVariable    = eventlog.EVEFIVariableConfig.String()
	typeAuthority   = eventlog.EVEFIVariableAuth.String()
	typeSection     = eventlog.EVIPL.String()
	typeKernel      = eventlog.EVEventTag.String()
)

// ErrArtefact: an artefact cannot be read as what it is given for.
var ErrArtefact = errors.New("unreadable artefact")

// Artefacts are what a new release puts on a device, as far as its boot depends
// on it.
type Artefacts struct {
	Loaders [][]byte // EFI applications that start before the image, in order
	Image   []byte   // the kernel image: unified, or plain with an EFI stub
	// Cmdline is the command line of a plain kernel, or what is handed to a
	// unified image over its own; nil: none.
	Cmdline *string
	Initrd  []byte // the initramfs of a plain kernel; nil: none
	// Variables are new values of Secure Boot variables by name: signature
	// lists, of SecureBoot one byte.
	Variables map[string][]byte
}

// Predict computes the boot of a release on the profile's firmware before any
// device has booted it: what depends on the artefacts from their bytes, the rest
// from the golden boot. Registers that were not learned are not predicted, and
// what cannot be predicted is an error for those that were. An image may be
// signed or not: its signature is not measured, but with Secure Boot on it is
// needed to tell which entry of db admits the image.
func (p Profile) Predict(a Artefacts) (Profile, error) {
	image, err := pe.Parse(a.Image)
	if err != nil {
		return Profile{}, fmt.Errorf("predict boot: %w: %w", ErrArtefact, err)
	}
	applications := make([]*pe.Image, 0, len(a.Loaders)+1)
	for i, b := range a.Loaders {
		loader, err := pe.Parse(b)
		if err != nil {
			return Profile{}, fmt.Errorf("predict boot: %w: loader %d: %w", ErrArtefact, i+1, err)
		}
		applications = append(applications, loader)
	}
	applications = append(applications, image)

	out := p
	out.PCRs = maps.Clone(p.PCRs)
	if err := out.predictApplications(applications); err != nil {
		return Profile{}, fmt.Errorf("predict boot: PCR %d: %w", bootRegister, err)
	}
	if err := out.predictSecureBoot(applications, a.Variables); err != nil {
		return Profile{}, fmt.Errorf("predict boot: PCR %d: %w", secureBootRegister, err)
	}
	if err := out.predictKernel(image, a); err != nil {
		return Profile{}, fmt.Errorf("predict boot: %w", err)
	}
	return out, nil
}

// failedOption is what the firmware measures when a boot option gives control
// back (Firmware Profile, 10.4.2, EV_EFI_ACTION).
const failedOption = "Returning from EFI Application from Boot Option"

// predictApplications puts the applications in the place of the golden boot's.
// The kernel in a unified image has no event of its own: the stub starts it
// without the firmware.
func (p *Profile) predictApplications(applications []*pe.Image) error {
	r, ok := p.PCRs[bootRegister]
	if !ok {
		return nil
	}
	var events []Event
	var golden []Event
	for _, e := range r.Events {
		switch {
		case e.Type == typeApplication:
			golden = append(golden, e)
		case string(e.Data) == failedOption:
			return fmt.Errorf("in the golden boot another boot option failed first (event %d): take it out of the boot order and learn again", e.Index)
		case len(golden) > 0:
			return fmt.Errorf("the golden boot holds %s behind an application (event %d), which cannot be predicted", e.Type, e.Index)
		default:
			events = append(events, e)
		}
	}
	if len(golden) == 0 {
		return fmt.Errorf("the golden boot holds no %s in whose place the image could stand", typeApplication)
	}
	for i, a := range applications {
		digest, err := authenticode(a)
		if err != nil {
			return err
		}
		e := Event{Index: predicted, Type: typeApplication, Digest: digest}
		// Where the chain is as long as before, each stands where it stood.
		if len(golden) == len(applications) {
			e.Text = golden[i].Text
		}
		events = append(events, e)
	}
	return p.set(bootRegister, events)
}

// without copies events but those that drop tells.
func without(events []Event, drop func(Event) bool) []Event {
	return slices.DeleteFunc(slices.Clone(events), drop)
}
