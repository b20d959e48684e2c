package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"ward/internal/cli"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/format/dsse"
	"ward/internal/format/luks2"
	"ward/internal/trust/release"
	"ward/internal/trust/volume"
)

// limit bounds the whole: a TPM that hangs must not hold up the boot.
const limit = 30 * time.Second

const keyHelp = `Usage: wardunlock key --device PARTITION [--release FILE] [flags]

Reads the sealed key from the partition's LUKS2 header, has the TPM open it, and
writes it to standard output, as cryptsetup's --key-file=- takes it. With
--release the key must be bound to the boot state, and the approvals of that
release's manifest open it; without, it must be sealed to the TPM alone. It ends
within 30 s whatever the TPM does.

`

// keyOptions are the flags of key.
type keyOptions struct {
	device, release, trust, tpm, report, name string
}

func runKey(flags *flag.FlagSet, args []string, _ io.Reader, out io.Writer) error {
	var o keyOptions
	flags.StringVar(&o.device, "device", "", "`partition` of the volume")
	flags.StringVar(&o.release, "release", "", "release manifest: the key must be bound to the boot state (`file`)")
	flags.StringVar(&o.trust, "trust", "/usr/lib/ward/trust", "`folder` of the trust anchors; the policy key lies in policy/")
	flags.StringVar(&o.tpm, "tpm", "/dev/tpmrm0", "the TPM's device `file`")
	flags.StringVar(&o.report, "report", "", "append a line of JSON on the outcome to this `file`")
	flags.StringVar(&o.name, "name", "", "`name` of the volume in the report; the partition's if empty")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), keyHelp)
		flags.PrintDefaults()
		fmt.Fprint(flags.Output(), statuses)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.device == "" {
		return cli.Fail(cli.Usage, "want --device and no further arguments; see wardunlock key --help")
	}
	if o.name == "" {
		o.name = filepath.Base(o.device)
	}
	begun := time.Now()
	key, err := bounded(func(ctx context.Context) ([]byte, error) { return unlock(ctx, o) })
	outcome := volume.Outcome{Name: o.name, Opened: err == nil, TookMS: time.Since(begun).Milliseconds()}
	var r *refusal
	if errors.As(err, &r) {
		outcome.Cause, outcome.Detail = r.cause, err.Error()
	}
	if reportErr := o.append(outcome); reportErr != nil {
		fmt.Fprintf(flags.Output(), "wardunlock: %v\n", reportErr) // the key matters more
	}
	if err != nil {
		return &cli.Exit{Status: r.status(), Err: err}
	}
	_, err = out.Write(key)
	return err
}

// refusal is an error with its cause.
type refusal struct {
	cause volume.Cause
	err   error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (r *refusal) status() int {
	switch r.cause {
	case volume.NoTPM, volume.Failing:
		return cli.NotDecided
	case volume.Release, volume.Unknown:
		return cli.Usage
	}
	return cli.Findings
}

func refuse(cause volume.Cause, format string, args ...any) error {
	return &refusal{cause, fmt.Errorf(format, args...)}
}

// bounded asks for the key and stops waiting when the time is over.
func bounded(ask func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type answer struct {
		key []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		key, err := ask(ctx)
		done <- answer{key, err}
	}()
	select {
	case a := <-done:
		return a.key, a.err
	case <-time.After(limit + time.Second): // the TPM's own bound comes first
		return nil, refuse(volume.Failing, "no answer within %s", limit)
	}
}

// unlock reads header and approvals and has the TPM open the key. Every error is
// a refusal.
func unlock(ctx context.Context, o keyOptions) ([]byte, error) {
	sealed, err := readHeader(o.device)
	if err != nil {
		return nil, err
	}
	var boot *tpm.Boot
	switch {
	case o.release == "" && len(sealed.Policy) > 0:
		return nil, refuse(volume.Release, "%s: its key is bound to the boot state: give --release", o.device)
	case o.release != "" && len(sealed.Policy) == 0:
		return nil, refuse(volume.Policy, "%s: its key is not bound to the boot state", o.device)
	case o.release != "":
		if boot, err = readApprovals(o.release, filepath.Join(o.trust, "policy")); err != nil {
			return nil, &refusal{volume.Release, err}
		}
	}
	chip, err := tpm.Open(o.tpm)
	if err != nil {
		return nil, &refusal{cause(err), err}
	}
	defer chip.Close()
	key, err := chip.Unseal(ctx, tpm.Blob{Public: sealed.Public, Private: sealed.Private}, boot)
	if err != nil {
		return nil, &refusal{cause(err), err}
	}
	return key, nil
}

func readHeader(device string) (volume.Sealed, error) {
	f, err := os.Open(device)
	if err != nil {
		return volume.Sealed{}, &refusal{volume.Unknown, err}
	}
	defer f.Close()
	header, err := luks2.Parse(f)
	if err != nil {
		why := volume.Unknown
		switch {
		case errors.Is(err, luks2.ErrNotLUKS), errors.Is(err, luks2.ErrVersion):
			why = volume.Plain
		case errors.Is(err, luks2.ErrHeader):
			why = volume.Header
		}
		return volume.Sealed{}, refuse(why, "%s: %w", device, err)
	}
	sealed, err := volume.Key(header)
	if err != nil {
		return volume.Sealed{}, refuse(volume.Header, "%s: %w", device, err)
	}
	return sealed, nil
}

// readApprovals reads what the policy key signed for the release. The manifest's
// own signatures are not verified: the TPM takes nothing that the policy key did
// not sign.
func readApprovals(file, keys string) (*tpm.Boot, error) {
	trusted, err := anchors.PolicyKey(keys)
	if err != nil {
		return nil, err
	}
	envelope, err := anchors.Read(file, dsse.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read release manifest: %w", err)
	}
	p, err := release.ParseUntrustedIdentityPolicy(envelope, trusted)
	if err != nil {
		return nil, fmt.Errorf("read release manifest %s: %w", file, err)
	}
	if p == nil {
		return nil, fmt.Errorf("read release manifest %s: it approves no boot state", file)
	}
	return &tpm.Boot{Key: trusted, Approvals: p.Approvals}, nil
}

// cause names what the TPM's error means for the volume.
func cause(err error) volume.Cause {
	for _, c := range []struct {
		is  error
		why volume.Cause
	}{
		{tpm.ErrAbsent, volume.NoTPM},
		{tpm.ErrBootState, volume.BootState},
		{tpm.ErrRollback, volume.Rollback},
		{tpm.ErrNoIndex, volume.Cleared},
		{tpm.ErrOtherTPM, volume.OtherTPM},
		{tpm.ErrNoKey, volume.Cleared},
		{tpm.ErrPolicy, volume.Policy},
	} {
		if errors.Is(err, c.is) {
			return c.why
		}
	}
	return volume.Failing
}

// append adds the outcome to the report.
func (o keyOptions) append(v volume.Outcome) error {
	if o.report == "" {
		return nil
	}
	f, err := os.OpenFile(o.report, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = f.Write(v.Line())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
