package factory

import (
	"crypto/rand"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/cli"
	"ward/internal/format/recovery"
	"ward/internal/provision"
	"ward/internal/trust/policy"
	"ward/internal/trust/volume"
)

// maxRecovery bounds a file with a recovery key, in bytes.
const maxRecovery = 256

var volumeNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Ways to bind what is sealed.
const (
	bindTPM  = "tpm"
	bindBoot = "boot-state"
)

// sealing are the flags of provision volume.
type sealing struct {
	config, bind, keyOut, tokenOut, recoveryOut, recoveryIn string
	force                                                   bool
}

func newProvisionVolume() *cobra.Command {
	var f sealing
	cmd := &cobra.Command{
		Use:   "volume NAME --key-out FILE --token-out FILE",
		Short: "Make the key of an encrypted volume, sealed by this TPM, and its recovery key",
		Long: `Make the key of an encrypted volume and a recovery key, at manufacture. The key
file (32 bytes) is the passphrase of the LUKS2 header's key slot 0 and is given to
cryptsetup once; the token file holds the same key sealed by this TPM and is
imported into the header. The recovery key is the passphrase of key slot 1: it is
printed once, belongs on paper, and is stored nowhere.

  cryptsetup luksFormat --type luks2 --cipher aes-xts-plain64 --key-size 512 \
    --key-slot 0 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file KEY DEVICE
  cryptsetup luksAddKey --key-slot 1 --key-file KEY DEVICE RECOVERY
  cryptsetup token import --token-id 0 --json-file TOKEN DEVICE

The TPM need not be provisioned yet: the state volume comes first, the identity that
lies on it after. The volume "state" is sealed to the TPM alone, so that an altered device can still
report; "data" to the boot states that the policy key approves. For other names
say --bind. Files with a key are written to a file system in memory (/run) and to
no other, unless --force is given; remove them afterwards. --recovery-in takes the
recovery key of another volume, so that one paper opens both.

Exit status: 0 done, 1 refused, 2 bad usage, 3 the TPM does not answer.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	onsite.Flag(cmd, &f.config)
	flags.StringVar(&f.bind, "bind", "", "seal to the `tpm` alone, or to the boot-state")
	flags.StringVar(&f.keyOut, "key-out", "", "`FILE` for the key, in memory")
	flags.StringVar(&f.tokenOut, "token-out", "", "`FILE` for the header's token")
	flags.StringVar(&f.recoveryOut, "recovery-out", "", "`FILE`, in memory, or a printer's pipe for the recovery key, instead of printing it here")
	flags.StringVar(&f.recoveryIn, "recovery-in", "", "`FILE` with the recovery key to use; none is made or printed then")
	flags.BoolVar(&f.force, "force", false, "write keys to a file system that keeps them")
	cmd.MarkFlagsMutuallyExclusive("recovery-out", "recovery-in")
	for _, name := range []string{"key-out", "token-out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (f *sealing) run(cmd *cobra.Command, name string) error {
	if !volumeNames.MatchString(name) {
		return cli.Fail(cli.Usage, "volume %.40q: want small letters, digits and '-'", name)
	}
	if !f.force {
		for _, file := range []string{f.keyOut, f.recoveryOut} {
			if file == "" {
				continue
			}
			if err := onsite.InMemory(file); err != nil {
				return err
			}
		}
	}
	device, err := onsite.Open(cmd, f.config)
	if err != nil {
		return err
	}
	boot, err := f.policy(device, name)
	if err != nil {
		return err
	}
	if f.recoveryIn != "" {
		text, err := console.ReadAll(cmd, f.recoveryIn, maxRecovery)
		if err == nil {
			_, err = recovery.Parse(text)
		}
		if err != nil {
			return cli.Fail(cli.Usage, "read %s: %w", f.recoveryIn, err)
		}
	}
	if err := device.OpenTPM(); err != nil {
		return err
	}
	defer device.Close()
	key, token, err := provision.SealVolume(cmd.Context(), device.Chip, boot)
	if err != nil {
		return onsite.Explain(err)
	}
	if err := onsite.WriteNew(f.keyOut, 0o600, key[:]); err != nil {
		return err
	}
	if err := onsite.WriteNew(f.tokenOut, 0o644, token); err != nil {
		return err
	}
	return f.paper(cmd, name)
}

// policy is what the volume's key is bound to; nil: to the TPM alone.
func (f *sealing) policy(device *onsite.Device, name string) (*policy.Digest, error) {
	bind := f.bind
	if bind == "" {
		bind = map[string]string{volume.State: bindTPM, volume.Data: bindBoot}[name]
	}
	switch bind {
	case bindTPM:
		return nil, nil
	case bindBoot:
		key, err := device.PolicyKey()
		if err != nil {
			return nil, cli.Fail(cli.Usage, "%w", err)
		}
		digest := policy.BootPolicy(key)
		return &digest, nil
	}
	return nil, cli.Fail(cli.Usage, "--bind %q: want tpm or boot-state", f.bind)
}

// paper prints the recovery key, once.
func (f *sealing) paper(cmd *cobra.Command, name string) error {
	if f.recoveryIn != "" {
		return nil
	}
	key, err := recovery.New(rand.Reader)
	if err != nil {
		return err
	}
	if f.recoveryOut != "" {
		return onsite.WriteNew(f.recoveryOut, 0o600, []byte(key.String()))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Recovery key of the volume %s; it is printed once and kept nowhere:\n\n  %s\n\n", name, key)
	return err
}
