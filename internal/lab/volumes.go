package lab

import (
	"context"
	"crypto/rand"
	"fmt"

	"ward/internal/device/tpm"
	"ward/internal/format/recovery"
	"ward/internal/format/tss2"
	"ward/internal/lab/board"
	"ward/internal/lab/disk"
	"ward/internal/lab/golden"
	"ward/internal/trust/policy"
	"ward/internal/trust/volume"
)

// What manufacture plants in the data volume, to be looked for on a stolen disk.
const (
	patientFile    = "pump/patient"
	plantedPatient = "Planted Patient, Ada, born 1815-12-10"
)

// Sizes of keys, in bytes.
const (
	sealedKeySize = 32 // of the passphrase of key slot 0
	volumeKeySize = 64 // AES-256-XTS
)

// sealVolumes makes the rollback counter and the keys of the volumes: of state
// sealed to the TPM alone, of data to the boot states that the policy key
// approves. One recovery key opens both.
func (l *Lab) sealVolumes(ctx context.Context, chip *tpm.TPM) (map[string]disk.Volume, string, error) {
	key, err := policy.NewKey(&l.PKI.Policy.PublicKey)
	if err != nil {
		return nil, "", err
	}
	if err := chip.DefineRollback(ctx, key, golden.Base); err != nil {
		return nil, "", err
	}
	paper, err := recovery.New(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	boot := policy.BootPolicy(key)
	volumes := make(map[string]disk.Volume)
	for _, v := range []struct {
		use  string
		boot *policy.Digest
	}{{board.UseState, nil}, {board.UseData, &boot}} {
		passphrase, token, err := sealVolume(ctx, chip, v.boot)
		if err != nil {
			return nil, "", fmt.Errorf("seal key of volume %s: %w", v.use, err)
		}
		master := make([]byte, volumeKeySize)
		_, _ = rand.Read(master) // it never fails
		volumes[v.use] = disk.Volume{Passphrase: passphrase, Token: token, Recovery: paper.String(), Key: master}
	}
	return volumes, paper.String(), nil
}

// sealVolume makes the passphrase of a volume, and the token with the passphrase
// sealed by the TPM and, with a policy, to the boot states that it stands for.
func sealVolume(ctx context.Context, chip *tpm.TPM, boot *policy.Digest) (passphrase, token []byte, err error) {
	passphrase = make([]byte, sealedKeySize)
	_, _ = rand.Read(passphrase) // it never fails
	blob, err := chip.Seal(ctx, passphrase, boot)
	if err != nil {
		return nil, nil, err
	}
	token, err = volume.Token(tss2.File{Kind: tss2.Sealed, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private})
	return passphrase, token, err
}
