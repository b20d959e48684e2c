package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf16"

	"ward/internal/format/pcr"
	"ward/internal/format/pe"
)

// Registers that depend on the kernel image (UAPI Group, Linux TPM PCR
// registry).
const (
	bootRegister   = 4  // the image itself, measured by the firmware
	kernelRegister = 9  // command line and initramfs, measured by the kernel's EFI stub
	stubRegister   = 11 // the image's sections, measured by systemd's EFI stub
)

// measuredSections are the sections that systemd's EFI stub measures, in its
// order (systemd-stub(7)); the stub of version 252 knows no others.
var measuredSections = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb"}

// Types of the events that an image causes.
const (
	eventApplication = "EV_EFI_BOOT_SERVICES_APPLICATION"
	eventSection     = "EV_IPL"
	eventKernel      = "EV_EVENT_TAG"
)

// Predict computes the boot of a unified kernel image before any device has
// booted it: the registers that depend on the image from its bytes, the others
// from a profile, the boot that was learned from another image on the same
// board and firmware. The image must be signed as it will be booted only in so
// far as Authenticode leaves the signature out: unsigned and signed give the
// same.
func Predict(profile Boot, image []byte) (Boot, error) {
	if profile.Bank != pcr.SHA256.String() {
		return Boot{}, fmt.Errorf("predict boot: a profile of bank %q, want sha256", profile.Bank)
	}
	uki, err := measureImage(image)
	if err != nil {
		return Boot{}, fmt.Errorf("predict boot: %w", err)
	}
	out := Boot{Bank: profile.Bank, PCRs: maps.Clone(profile.PCRs)}
	for n, events := range map[int][]ReferenceEvent{kernelRegister: uki.kernel, stubRegister: uki.stub} {
		if err := out.set(n, events); err != nil {
			return Boot{}, fmt.Errorf("predict boot: %w", err)
		}
	}
	boot := slices.Clone(profile.PCRs[bootRegister].Events)
	last := -1
	for i, e := range boot {
		if e.Type == eventApplication {
			last = i
		}
	}
	if last < 0 {
		return Boot{}, fmt.Errorf("predict boot: the profile's PCR %d holds no %s in whose place the image could stand", bootRegister, eventApplication)
	}
	boot[last].Digest = uki.application
	if err := out.set(bootRegister, boot); err != nil {
		return Boot{}, fmt.Errorf("predict boot: %w", err)
	}
	return out, nil
}

// set gives an exact register the value that the events make.
func (b *Boot) set(n int, events []ReferenceEvent) error {
	ref, ok := b.PCRs[n]
	if !ok || ref.Mode != Exact {
		return nil // not judged: nothing to predict
	}
	bank, err := pcr.NewBank(pcr.SHA256)
	if err != nil {
		return err
	}
	for _, e := range events {
		if err := bank.Extend(n, e.Digest); err != nil {
			return err
		}
	}
	ref.Values, ref.Events = []pcr.Digest{bank.Value(n)}, events
	b.PCRs[n] = ref
	return nil
}

// unhashed begins the text of an event whose data are a label and not what was
// hashed, as a learned event's text does.
const unhashed = "untrusted: "

// measured is what firmware and stubs measure of one image.
type measured struct {
	application  pcr.Digest
	kernel, stub []ReferenceEvent
}

func measureImage(b []byte) (measured, error) {
	image, err := pe.Parse(b)
	if err != nil {
		return measured{}, err
	}
	h := sha256.New()
	if err := image.Authenticode(h); err != nil {
		return measured{}, err
	}
	m := measured{application: h.Sum(nil)}
	sections := make(map[string][]byte)
	for _, name := range measuredSections {
		data, err := image.Section(name)
		if err != nil {
			return measured{}, err
		}
		if data == nil {
			continue
		}
		sections[name] = data
		m.stub = append(m.stub, reference(eventSection, append([]byte(name), 0), unhashed+name), reference(eventSection, data, unhashed+name))
	}
	if sections[".linux"] == nil || sections[".cmdline"] == nil || sections[".initrd"] == nil {
		return measured{}, errors.New("it is no unified kernel image with .linux, .cmdline and .initrd")
	}
	m.kernel = []ReferenceEvent{
		reference(eventKernel, loadOptions(sections[".cmdline"]), unhashed+"kernel command line: LOADED_IMAGE::LoadOptions"),
		reference(eventKernel, sections[".initrd"], unhashed+"initrd: Linux initrd"),
	}
	return m, nil
}

func reference(kind string, data []byte, text string) ReferenceEvent {
	sum := sha256.Sum256(data)
	return ReferenceEvent{Type: kind, Digest: sum[:], Text: text}
}

// loadOptions is the command line as the stub hands it to the kernel: UTF-16
// with a NUL at its end, without a newline at the end of the section.
func loadOptions(cmdline []byte) []byte {
	cmdline = bytes.TrimRight(cmdline, "\x00\n")
	var out []byte
	for _, u := range append(utf16.Encode([]rune(string(cmdline))), 0) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}
