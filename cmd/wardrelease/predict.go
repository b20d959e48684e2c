package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/disk"
	"ward/internal/cli"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// Bounds of artefacts, in bytes.
const (
	maxImage    = 512 << 20 // kernel images and initramfs of devices have some ten to a hundred MiB
	maxCmdline  = 64 << 10
	maxVariable = 1 << 20 // the public dbx has some tens of KiB
)

// artefactFlags name what a release puts on a device.
type artefactFlags struct {
	image, cmdline, initrd string
	loaders, variables     []string
}

func (a *artefactFlags) register(f *pflag.FlagSet) {
	f.StringVar(&a.image, "image", "", "kernel image `FILE` of the release: unified, or plain with an EFI stub")
	f.StringArrayVar(&a.loaders, "loader", nil, "EFI application `FILE` that starts before the image (repeatable, in the order of the boot)")
	f.StringVar(&a.cmdline, "cmdline", "", "command line `FILE` of a plain kernel, or handed to a unified image over its own")
	f.StringVar(&a.initrd, "initrd", "", "initramfs `FILE` of a plain kernel")
	f.StringArrayVar(&a.variables, "variable", nil, "Secure Boot variable as the release will have it, `NAME=FILE` with a signature list, of SecureBoot one byte (repeatable)")
}

// given tells whether there is anything to predict from.
func (a *artefactFlags) given() bool {
	return a.image != "" || a.cmdline != "" || a.initrd != "" || len(a.loaders)+len(a.variables) > 0
}

func (a *artefactFlags) read() (profile.Artefacts, error) {
	var out profile.Artefacts
	if a.image == "" {
		return out, cli.Fail(cli.Usage, "--image: a prediction needs the release's kernel image")
	}
	var err error
	if out.Image, err = disk.Read(a.image, maxImage); err != nil {
		return out, err
	}
	for _, name := range a.loaders {
		b, err := disk.Read(name, maxImage)
		if err != nil {
			return out, err
		}
		out.Loaders = append(out.Loaders, b)
	}
	if a.cmdline != "" {
		b, err := disk.Read(a.cmdline, maxCmdline)
		if err != nil {
			return out, err
		}
		text := strings.TrimRight(string(b), "\n")
		out.Cmdline = &text
	}
	if a.initrd != "" {
		if out.Initrd, err = disk.Read(a.initrd, maxImage); err != nil {
			return out, err
		}
	}
	for _, v := range a.variables {
		name, file, ok := strings.Cut(v, "=")
		if !ok || name == "" || file == "" {
			return out, cli.Fail(cli.Usage, "--variable %q: want NAME=FILE", v)
		}
		if _, twice := out.Variables[name]; twice {
			return out, cli.Fail(cli.Usage, "--variable %q: %s is given twice", v, name)
		}
		b, err := disk.Read(file, maxVariable)
		if err != nil {
			return out, err
		}
		if out.Variables == nil {
			out.Variables = make(map[string][]byte)
		}
		out.Variables[name] = b
	}
	return out, nil
}

// predict computes what each profile will be with the artefacts.
func (a *artefactFlags) predict(profiles []profile.Profile) ([]profile.Profile, error) {
	artefacts, err := a.read()
	if err != nil {
		return nil, err
	}
	out := make([]profile.Profile, len(profiles))
	for i, p := range profiles {
		if out[i], err = p.Predict(artefacts); errors.Is(err, profile.ErrArtefact) {
			return nil, fmt.Errorf("%s: %w", a.image, err)
		} else if err != nil {
			return nil, cli.Fail(cli.NotDecided, "%s on firmware %q: %w", a.image, p.Firmware, err)
		}
	}
	return out, nil
}

func newPredict() *cobra.Command {
	var files []string
	var a artefactFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "predict --profile FILE --image FILE",
		Short: "Compute the registers of a release that no device has booted yet",
		Long: "Compute what the registers of a release will hold on each firmware: 4 from the applications in their order, 7 from the Secure Boot variables and the entry of db that admits each application, 9 from command line and initramfs, 11 from the sections of a unified image, 12 from a command line over the image's own; the others from the profile. build takes the same flags.\n" +
			"A signature is no part of what is measured of an image, but with Secure Boot on the image must be signed: the key that admits it is measured.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			profiles, err := readProfiles(files)
			if err != nil {
				return err
			}
			next, err := a.predict(profiles)
			if err != nil {
				return err
			}
			boot, err := profile.Assemble(next, profile.RulesOf(next[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), newPrediction(boot))
			}
			return printPrediction(cmd.OutOrStdout(), boot, profiles)
		},
	}
	cmd.Flags().StringArrayVar(&files, "profile", nil, "firmware profile `FILE` as learn writes it (repeatable)")
	a.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	cmd.MarkFlagRequired("profile")
	cmd.MarkFlagRequired("image")
	return cmd
}

// prediction is the verb's JSON.
type prediction struct {
	Bank     string              `json:"bank"`
	Firmware []firmwareRegisters `json:"firmware"`
	Findings []finding.Finding   `json:"findings"`
}

type firmwareRegisters struct {
	Name       string                           `json:"name"`
	PCRs       pcr.Values                       `json:"pcrs"`
	Events     map[int][]release.ReferenceEvent `json:"events"`
	Composites []release.Composite              `json:"composites"`
}

func newPrediction(boot release.Boot) prediction {
	p := prediction{Bank: boot.Bank, Findings: []finding.Finding{}}
	for _, name := range boot.Firmware {
		f := firmwareRegisters{Name: name, PCRs: make(pcr.Values), Events: make(map[int][]release.ReferenceEvent), Composites: compositesOf(boot, name)}
		for n, ref := range boot.PCRs {
			if v, ok := ref.Of(name); ok {
				f.PCRs[n] = v.Digest
				if len(v.Events) > 0 {
					f.Events[n] = v.Events
				}
			}
		}
		p.Firmware = append(p.Firmware, f)
	}
	return p
}

func compositesOf(b release.Boot, firmware string) []release.Composite {
	list := []release.Composite{}
	for _, c := range b.Composites {
		if c.Firmware == firmware {
			list = append(list, c)
		}
	}
	return list
}

// printPrediction writes a table; registers that the artefacts change from the
// golden boot are marked.
func printPrediction(w io.Writer, boot release.Boot, golden []profile.Profile) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, name := range boot.Firmware {
		if i > 0 {
			fmt.Fprintln(t)
		}
		fmt.Fprintf(t, "firmware %s on %s\n", name, golden[i].Board)
		for _, n := range slices.Sorted(maps.Keys(boot.PCRs)) {
			v, _ := boot.PCRs[n].Of(name)
			mark := ""
			if golden[i].PCRs[n].Value.String() != v.Digest.String() {
				mark = "  predicted"
			}
			fmt.Fprintf(t, "%d\t%s%s\n", n, v.Digest, mark)
		}
		for _, c := range compositesOf(boot, name) {
			fmt.Fprintf(t, "%s\t%s  composite\n", list(c.PCRs), c.Digest)
		}
	}
	return t.Flush()
}

func list(pcrs []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(pcrs), "[]"), " ", ",")
}
