// Package board reads the profile of a board, board/<name>/board.toml: what the
// firmware, the kernel, the disk and the budgets of one device are. A board is
// data; adding one adds no code.
package board

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"ward/internal/trust/posture"
	"ward/internal/trust/watch"
)

// SchemaVersion is the version of board.toml that this package reads.
const SchemaVersion = 1

// A Board is the profile of one device.
type Board struct {
	Dir string `toml:"-"` // where the profile lies

	Schema     int         `toml:"schema"`
	Name       string      `toml:"name"`
	Arch       string      `toml:"arch"`
	Product    string      `toml:"product"`
	Firmware   Firmware    `toml:"firmware"`
	TPM        TPM         `toml:"tpm"`
	Kernel     Kernel      `toml:"kernel"`
	Modules    Modules     `toml:"modules"`
	Disk       Disk        `toml:"disk"`
	Partitions []Partition `toml:"partition"`
	PCRs       []PCR       `toml:"pcr"`
	Budget     Budget      `toml:"budget"`

	// What the release expects of the running system, and how it is watched; nil: the
	// defaults.
	Posture *posture.Policy `toml:"posture"`
	Watch   *watch.Policy   `toml:"watch"`
}

// runningFile is where a profile keeps the last two where they are long; it has no
// other keys.
const runningFile = "running.toml"

// Firmware names the firmware's files as distributions install them.
type Firmware struct {
	Code      string `toml:"code"`      // below /usr/share
	Variables string `toml:"variables"` // below /usr/share
	Stub      string `toml:"stub"`      // below /usr/lib
}

// TPM is the device's TPM.
type TPM struct {
	Interface string   `toml:"interface"`
	Banks     []string `toml:"banks"`
}

// Kernel names the kernel's package and the fixed part of the command line.
type Kernel struct {
	Package string   `toml:"package"`
	Cmdline []string `toml:"cmdline"`
}

// Modules are the kernel modules that each stage loads, in order.
type Modules struct {
	Initramfs []string `toml:"initramfs"`
	Volumes   []string `toml:"volumes"` // before the volumes are opened
	System    []string `toml:"system"`
}

// Disk is the partition table.
type Disk struct {
	GUID string `toml:"guid"`
}

// Uses of a partition.
const (
	UseESP   = "esp"
	UseRoot  = "root"
	UseHash  = "hash"
	UseState = "state"
	UseData  = "data"
)

// A Partition is one entry of the GPT.
type Partition struct {
	Label string `toml:"label"`
	Use   string `toml:"use"`
	Type  string `toml:"type"`
	GUID  string `toml:"guid"`
	UUID  string `toml:"uuid"` // of the file system, where it has one
	MiB   int64  `toml:"mib"`
}

// Modes of judging a PCR.
const (
	ModeExact    = "exact"
	ModeEvents   = "events"
	ModeRecorded = "recorded"
)

// A PCR says how one register of the sha256 bank is judged.
type PCR struct {
	Index  int      `toml:"index"`
	Mode   string   `toml:"mode"`
	Reason string   `toml:"reason"`
	Any    []string `toml:"any"`  // mode events: types of events that are allowed whatever they say
	User   []string `toml:"user"` // words that user space extends after the firmware, in order
}

// Budget holds the ceilings for the daemon on this board.
type Budget struct {
	RSSMiB           int `toml:"rssMiB"`
	RSSScanMiB       int `toml:"rssScanMiB"`
	IdleCPUPermille  int `toml:"idleCpuPermille"`
	VerdictMS        int `toml:"verdictMs"`
	AlertP99MS       int `toml:"alertP99Ms"`
	FlashBytesPerDay int `toml:"flashBytesPerDay"`
	NetBytesPerDay   int `toml:"netBytesPerDay"`
}

// Load reads dir/board.toml, and dir/running.toml where there is one. Unknown keys
// are an error.
func Load(dir string) (*Board, error) {
	file := filepath.Join(dir, "board.toml")
	b := &Board{Dir: dir}
	if err := decode(file, b); err != nil {
		return nil, err
	}
	var running struct {
		Posture *posture.Policy `toml:"posture"`
		Watch   *watch.Policy   `toml:"watch"`
	}
	switch err := decode(filepath.Join(dir, runningFile), &running); {
	case err == nil:
		b.Posture, b.Watch = running.Posture, running.Watch
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("read board profile %s: %w", file, err)
	}
	return b, nil
}

func decode(file string, into any) error {
	meta, err := toml.DecodeFile(file, into)
	if err != nil {
		return fmt.Errorf("read board profile: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("read board profile %s: unknown key %s", file, unknown[0])
	}
	return nil
}

// check finds what would make a device that cannot boot or a verdict that
// cannot be explained.
func (b *Board) check() error {
	if b.Schema != SchemaVersion {
		return fmt.Errorf("schema %d: want %d", b.Schema, SchemaVersion)
	}
	if b.Name != filepath.Base(b.Dir) {
		return fmt.Errorf("name %q differs from its folder %q", b.Name, filepath.Base(b.Dir))
	}
	for _, use := range []string{UseESP, UseRoot, UseHash, UseState, UseData} {
		if _, err := b.Partition(use); err != nil {
			return err
		}
	}
	seen := make(map[int]bool)
	for _, p := range b.PCRs {
		switch {
		case p.Index < 0 || p.Index > 23:
			return fmt.Errorf("pcr %d: want 0 to 23", p.Index)
		case seen[p.Index]:
			return fmt.Errorf("pcr %d: given twice", p.Index)
		case p.Mode != ModeExact && p.Mode != ModeEvents && p.Mode != ModeRecorded:
			return fmt.Errorf("pcr %d: mode %q: want %q, %q or %q", p.Index, p.Mode, ModeExact, ModeEvents, ModeRecorded)
		case p.Reason == "":
			return fmt.Errorf("pcr %d: the reason is missing", p.Index)
		}
		seen[p.Index] = true
	}
	if err := b.Posture.Check(); err != nil {
		return fmt.Errorf("posture.%w", err)
	}
	if err := b.Watch.Check(); err != nil {
		return fmt.Errorf("watch.%w", err)
	}
	return nil
}

// Partition returns the only partition of that use.
func (b *Board) Partition(use string) (Partition, error) {
	var found []Partition
	for _, p := range b.Partitions {
		if p.Use == use {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return Partition{}, fmt.Errorf("%d partitions of use %q: want one", len(found), use)
	}
	return found[0], nil
}

// Cmdline is the kernel command line for a root hash, with words added.
func (b *Board) Cmdline(rootHash string, extra ...string) string {
	words := append(append([]string{}, b.Kernel.Cmdline...), "ward.roothash="+rootHash)
	return strings.Join(append(words, extra...), " ")
}
