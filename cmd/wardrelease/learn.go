package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/internal/cli"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/profile"
)

func newLearn() *cobra.Command {
	var b boardFlags
	var log, measured, firmware, out string
	cmd := &cobra.Command{
		Use:   "learn --eventlog LOG --pcrs FILE --board FILE -o PROFILE.json",
		Short: "Learn a firmware profile from a golden boot, once for each firmware and board",
		Long: "Learn what a firmware measures on a board from the event log and the registers of a golden boot: one on a known good device, of any release. From the profile, predict and build compute the registers of later releases.\n" +
			"The log must explain every register that the board profile judges. The same firmware file can measure differently with another variable store or set-up: learn one profile for each.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			on, err := b.read()
			if err != nil {
				return err
			}
			p, err := learn(log, measured, firmware, on)
			if err != nil {
				return err
			}
			text, err := profile.Encode(p)
			if err != nil {
				return err
			}
			if err := disk.Write(out, text); err != nil {
				return err
			}
			version := p.Version
			if version == "" {
				version = "no version stated"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "profile of firmware %s (%s) on %s: %d registers\n", p.Firmware, version, p.Board, len(p.PCRs))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&log, "eventlog", "", "event log `FILE` of the golden boot")
	f.StringVar(&measured, "pcrs", "", "registers of the same boot, JSON `FILE` {\"sha256\":{\"0\":\"hex\"}}")
	f.StringVar(&firmware, "firmware", "", "`NAME` of the firmware in manifests (default: the version that it states)")
	f.StringVarP(&out, "output", "o", "", "write the profile to `FILE`")
	b.register(cmd)
	for _, name := range []string{"eventlog", "pcrs", "output"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

// learn reads a golden boot; without a file of registers the log is taken at its
// word.
func learn(file, registers, firmware string, on board) (profile.Profile, error) {
	text, err := disk.Read(file, disk.MaxEventLog)
	if err != nil {
		return profile.Profile{}, err
	}
	log, err := eventlog.Parse(text)
	if errors.Is(err, eventlog.ErrEmpty) {
		return profile.Profile{}, cli.Fail(cli.NotDecided, "%s: the event log is empty: read it on the device, as root, from /sys/kernel/security/tpm0/binary_bios_measurements", file)
	}
	if err != nil {
		return profile.Profile{}, fmt.Errorf("%s: %w", file, err)
	}
	var measured pcr.Values
	if registers != "" {
		if measured, err = readMeasured(registers); err != nil {
			return profile.Profile{}, err
		}
	}
	p, err := profile.Learn(profile.Golden{Log: log, PCRs: measured, Board: on.name, Firmware: firmware}, on.rules)
	if err != nil {
		return profile.Profile{}, cli.Fail(cli.Findings, "%s: %w", file, err)
	}
	return p, nil
}

// readMeasured reads the sha256 registers of a boot.
func readMeasured(name string) (pcr.Values, error) {
	text, err := disk.Read(name, disk.MaxKey)
	if err != nil {
		return nil, err
	}
	var banks map[string]pcr.Values
	if err := json.Unmarshal(text, &banks); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	v, ok := banks[pcr.SHA256.String()]
	if !ok || v == nil {
		return nil, fmt.Errorf("%s: no sha256 registers: want {\"sha256\":{\"0\":\"hex\", ...}}", name)
	}
	return v, nil
}

// readProfiles reads firmware profiles.
func readProfiles(files []string) ([]profile.Profile, error) {
	var list []profile.Profile
	for _, name := range files {
		text, err := disk.Read(name, profile.MaxSize)
		if err != nil {
			return nil, err
		}
		p, err := profile.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: want a profile as learn writes it", name, err)
		}
		list = append(list, p)
	}
	return list, nil
}
