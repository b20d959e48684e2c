package works

import (
	"context"
	"crypto/rand"
	"fmt"

	"ward/internal/device/tpm"
	"ward/internal/format/recovery"
	"ward/internal/lab/board"
	"ward/internal/lab/disk"
	"ward/internal/provision"
	"ward/internal/trust/policy"
)

// What manufacture plants in the data volume, to be looked for on a stolen disk.
const (
	PatientFile    = "pump/patient"
	PlantedPatient = "Planted Patient, Ada, born 1815-12-10"
)

// volumeKeySize is the size of a volume's own key in bytes: AES-256-XTS.
const volumeKeySize = 64

// sealVolumes makes the keys of the volumes: of state sealed to the TPM alone, of
// data to the boot states that the policy key approves. One recovery key opens
// both.
func (l *Works) sealVolumes(ctx context.Context, chip *tpm.TPM) (map[string]disk.Volume, string, error) {
	key, err := policy.NewKey(&l.PKI.Policy.PublicKey)
	if err != nil {
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
		passphrase, token, err := provision.SealVolume(ctx, chip, v.boot)
		if err != nil {
			return nil, "", fmt.Errorf("seal key of volume %s: %w", v.use, err)
		}
		master := make([]byte, volumeKeySize)
		_, _ = rand.Read(master) // it never fails
		volumes[v.use] = disk.Volume{Passphrase: passphrase[:], Token: token, Recovery: paper.String(), Key: master}
	}
	return volumes, paper.String(), nil
}
