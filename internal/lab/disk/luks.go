package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"ward/internal/lab/tool"
)

// Sizes of an encrypted volume.
const (
	volumeKeySize = 64 // bytes: AES-256-XTS
	// dataOffset is where the file system begins. The header takes twice 16 KiB,
	// each key slot 256 KiB; the 16 MiB of cryptsetup's default would be half of a
	// small partition.
	dataOffset = 4 << 20
)

// Costs of guessing the passphrase of a key slot.
const (
	// The sealed key is 256 random bits: nobody guesses it, and stretching it would
	// only cost time at each boot. 1,000 is the least that LUKS2 admits.
	sealedIterations = "1000"
	// The recovery key is typed, and may be photographed in part: Argon2id with
	// 64 MiB, so that a device with little memory can do it, too.
	recoveryMemory, recoveryPasses = "65536", "4"
)

// Volume is what an encrypted volume is made with.
type Volume struct {
	Passphrase []byte // of key slot 0; sealed in the token
	Token      []byte // JSON
	Recovery   string // passphrase of key slot 1
	Key        []byte // the volume key, 64 random bytes
}

// MakeVolume makes an encrypted partition of the file system in plain, which is
// PlainSize(size) bytes long. The header is cryptsetup's, on a file and thus
// without root; the file system is encrypted here.
func MakeVolume(ctx context.Context, image string, size int64, label, uuid string, v Volume, plain string) error {
	if err := blank(image, size); err != nil {
		return err
	}
	keys, err := os.MkdirTemp("", "ward-keys-")
	if err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	defer os.RemoveAll(keys)
	file := func(name string) string { return filepath.Join(keys, name) }
	for name, key := range map[string][]byte{"volume": v.Key, "sealed": v.Passphrase, "recovery": []byte(v.Recovery), "token": v.Token} {
		if err := os.WriteFile(file(name), key, 0o600); err != nil {
			return fmt.Errorf("make volume %s: %w", label, err)
		}
	}
	for _, args := range [][]string{
		{"luksFormat", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", strconv.Itoa(8 * volumeKeySize), "--volume-key-file", file("volume"),
			"--sector-size", strconv.Itoa(sector), "--offset", strconv.Itoa(dataOffset / sector), "--label", label, "--uuid", uuid,
			"--key-slot", "0", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", sealedIterations, image, file("sealed")},
		{"luksAddKey", "--key-file", file("sealed"), "--key-slot", "1", "--pbkdf", "argon2id", "--pbkdf-memory", recoveryMemory,
			"--pbkdf-force-iterations", recoveryPasses, "--pbkdf-parallel", "1", image, file("recovery")},
		{"token", "import", "--token-id", "0", "--json-file", file("token"), image},
	} {
		if _, err := tool.Run(ctx, "cryptsetup", append([]string{"--batch-mode", "--disable-locks"}, args...)...); err != nil {
			return fmt.Errorf("make volume %s: %w", label, err)
		}
	}
	if err := encryptFile(image, plain, v.Key, size-dataOffset); err != nil {
		return fmt.Errorf("make volume %s: %w", label, err)
	}
	return nil
}

// PlainSize is the size of the file system in a volume of a size.
func PlainSize(size int64) int64 { return size - dataOffset }

// encryptFile writes the file system, encrypted, behind the header.
func encryptFile(image, plain string, key []byte, size int64) error {
	x, err := newXTS(key)
	if err != nil {
		return err
	}
	in, err := os.Open(plain)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if _, err := io.ReadFull(in, buf); err != nil {
			return fmt.Errorf("read file system: %w", err)
		}
		x.encrypt(buf, uint64(at/sector))
		if _, err := out.WriteAt(buf, dataOffset+at); err != nil {
			return err
		}
	}
	return errors.Join(in.Close(), out.Close())
}
