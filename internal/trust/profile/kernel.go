package profile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"ward/internal/format/pcr"
	"ward/internal/format/pe"
)

// A section of a unified kernel image that systemd's EFI stub measures.
type section struct {
	name string
	// newer: stubs of version 252 do not know it. It is predicted where the
	// golden boot's stub measured one of that name.
	newer bool
}

// sections in the order in which the stub measures them (UAPI Group, unified
// kernel image; systemd-stub(7)). .pcrsig is never measured.
var sections = []section{
	{".linux", false}, {".osrel", false}, {".cmdline", false}, {".initrd", false}, {".ucode", true}, {".splash", false},
	{".dtb", false}, {".uname", true}, {".sbat", true}, {".pcrpkey", false}, {".profile", true}, {".dtbauto", true}, {".hwids", true},
	{".efifw", true},
}

// unhashed begins the text of an event whose data are a label and not what was
// hashed, as a learned event's text does.
const unhashed = "untrusted: "

// predictKernel computes what stubs and kernel measure: PCR 9, 11 and 12.
func (p *Profile) predictKernel(image *pe.Image, a Artefacts) error {
	content, err := p.content(image)
	if err != nil {
		return err
	}
	var kernel, stub []Event
	if content == nil { // a plain kernel
		if a.Cmdline == nil {
			return errors.New("it is no unified kernel image with a section .linux, and no command line is given for a plain kernel")
		}
		kernel = handed(*a.Cmdline, a.Initrd)
	} else {
		if a.Initrd != nil {
			return errors.New("the initramfs is a part of the unified kernel image: none can be given apart")
		}
		cmdline := strings.TrimRight(string(content[".cmdline"]), "\x00\n")
		if a.Cmdline != nil {
			if p.secureBootOn() && content[".cmdline"] != nil {
				return errors.New("with Secure Boot on, the stub takes no other command line than the image's own")
			}
			cmdline = *a.Cmdline
		}
		for _, s := range sections {
			if data := content[s.name]; data != nil {
				stub = append(stub, hashed(typeSection, append([]byte(s.name), 0), unhashed+s.name), hashed(typeSection, data, unhashed+s.name))
			}
		}
		initrd, err := initramfs(image, content[".initrd"])
		if err != nil && p.learned(kernelRegister) {
			return fmt.Errorf("PCR %d: %w", kernelRegister, err)
		}
		kernel = handed(cmdline, initrd)
	}
	if i := slices.IndexFunc(p.PCRs[kernelRegister].Events, func(e Event) bool { return e.Type != typeKernel }); i >= 0 {
		e := p.PCRs[kernelRegister].Events[i]
		return fmt.Errorf("PCR %d: in the golden boot a loader measured what cannot be predicted (event %d, %s): record the register", kernelRegister, e.Index, e.Type)
	}
	overrides, err := p.overrides(content != nil, a.Cmdline)
	if err != nil {
		return fmt.Errorf("PCR %d: %w", overrideRegister, err)
	}
	return errors.Join(p.set(kernelRegister, kernel), p.set(stubRegister, stub), p.set(overrideRegister, overrides))
}

func (p *Profile) learned(n int) bool {
	_, ok := p.PCRs[n]
	return ok
}

// content reads the measured sections; nil: it is no unified kernel image.
func (p *Profile) content(image *pe.Image) (map[string][]byte, error) {
	content := make(map[string][]byte)
	for _, s := range sections {
		name := pcr.SHA256.Sum(append([]byte(s.name), 0))
		if s.newer && !slices.ContainsFunc(p.PCRs[stubRegister].Events, func(e Event) bool { return bytes.Equal(e.Digest, name) }) {
			continue
		}
		if n := image.Count(s.name); n > 1 {
			return nil, fmt.Errorf("the image has %d sections %s: which one counts is chosen at boot", n, s.name)
		}
		data, err := image.Section(s.name)
		if err != nil {
			return nil, err
		}
		if data != nil {
			content[s.name] = data
		}
	}
	if content[".linux"] == nil {
		return nil, nil
	}
	return content, nil
}

// archivesOSRelease is the first version of systemd-stub that puts os-release
// into an archive behind the initramfs.
const archivesOSRelease = 257

// initramfs is what the stub of a unified image hands to the kernel. Stubs add
// archives for some sections, whose bytes are not predicted.
func initramfs(image *pe.Image, initrd []byte) ([]byte, error) {
	for _, name := range []string{".pcrsig", ".pcrpkey", ".ucode", ".profile"} {
		if image.Count(name) > 0 {
			return nil, fmt.Errorf("the stub adds what it makes of section %s to the initramfs, which is not predicted: record the register", name)
		}
	}
	magic, err := image.Section(".sdmagic")
	if err != nil {
		return nil, err
	}
	if _, rest, ok := strings.Cut(string(magic), "systemd-stub "); ok {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		if version, err := strconv.Atoi(digits); err == nil && version >= archivesOSRelease {
			return nil, fmt.Errorf("systemd-stub %d adds os-release to the initramfs, which is not predicted: record the register", version)
		}
	}
	return initrd, nil
}

// handed is what the kernel's EFI stub measures of what it was handed
// (drivers/firmware/efi/libstub/efi-stub-helper.c).
func handed(cmdline string, initrd []byte) []Event {
	events := []Event{hashed(typeKernel, loadOptions(cmdline), unhashed+"kernel command line: LOADED_IMAGE::LoadOptions")}
	if len(initrd) > 0 {
		events = append(events, hashed(typeKernel, initrd, unhashed+"initrd: Linux initrd"))
	}
	return events
}

// overrides predicts PCR 12: zero, or the command line that a unified image's
// stub, or a loader that did so in the golden boot, was handed.
func (p *Profile) overrides(unified bool, cmdline *string) ([]Event, error) {
	golden := p.PCRs[overrideRegister].Events
	if cmdline == nil && len(golden) > 0 {
		return nil, fmt.Errorf("in the golden boot something from outside the image was measured (event %d, %s): give the command line, or learn from a boot without", golden[0].Index, golden[0].Type)
	}
	if cmdline == nil || !unified && len(golden) == 0 {
		return nil, nil
	}
	return []Event{hashed(typeSection, loadOptions(*cmdline), unhashed+"command line")}, nil
}

func hashed(kind string, data []byte, text string) Event {
	return Event{Index: predicted, Type: kind, Digest: pcr.SHA256.Sum(data), Text: text}
}

// loadOptions is a command line as loaders hand it to an EFI application: UTF-16
// with a NUL at its end.
func loadOptions(cmdline string) []byte {
	var out []byte
	for _, u := range append(utf16.Encode([]rune(cmdline)), 0) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}
