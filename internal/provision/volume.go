package provision

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"ward/internal/device/tpm"
	"ward/internal/trust/policy"
	"ward/internal/trust/volume"
)

// KeySize is the size of a volume's key, the passphrase of its LUKS2 header's
// first slot, in bytes.
const KeySize = 32

// SealVolume makes a volume's key, and the token of its LUKS2 header that holds
// the key sealed to this TPM and, with a policy (policy.BootPolicy), to the boot
// states that it stands for. A TPM without a storage root key gets its persistent
// keys first, as Run makes them: the state volume comes before the identity that
// lies on it. The key itself is for cryptsetup, once, and is kept nowhere.
func SealVolume(ctx context.Context, chip *tpm.TPM, boot *policy.Digest) (key [KeySize]byte, token []byte, err error) {
	_, _ = rand.Read(key[:]) // it never fails
	blob, err := chip.Seal(ctx, key[:], boot)
	if errors.Is(err, tpm.ErrNoKey) {
		if _, err = chip.ProvisionKeys(ctx); err == nil {
			blob, err = chip.Seal(ctx, key[:], boot)
		}
	}
	if err == nil {
		token, err = volume.Token(SecretFile(blob))
	}
	if err != nil {
		return [KeySize]byte{}, nil, fmt.Errorf("seal volume key: %w", err)
	}
	return key, token, nil
}
