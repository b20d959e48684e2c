package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ward/internal/lab/board"
	"ward/internal/lab/disk"
	"ward/internal/lab/efistore"
	"ward/internal/lab/tool"
	"ward/internal/lab/uki"
)

// UKI makes a unified kernel image of img with words added to the command line,
// and signs it with the lab's db key.
func (b *Builder) UKI(ctx context.Context, img *Image, words ...string) (UKI, error) {
	u := UKI{Cmdline: img.Board.Cmdline(img.RootHash, words...)}
	stub, err := findFirmware("/usr/lib", img.Board.Firmware.Stub, "systemd-boot-efi")
	if err != nil {
		return u, err
	}
	inputs, err := hashFiles(stub, img.Kernel, img.Initramfs)
	if err != nil {
		return u, err
	}
	dir, err := b.step(ctx, "uki", append(inputs, u.Cmdline, img.OSRelease), func(dir string) error {
		parts := make([][]byte, 3)
		for i, path := range []string{stub, img.Kernel, img.Initramfs} {
			if parts[i], err = os.ReadFile(path); err != nil {
				return fmt.Errorf("read part of kernel image: %w", err)
			}
		}
		pe, err := uki.Assemble(parts[0], []uki.Section{
			{Name: ".osrel", Data: []byte(img.OSRelease)},
			{Name: ".cmdline", Data: []byte(u.Cmdline)},
			{Name: ".linux", Data: parts[1]},
			{Name: ".initrd", Data: parts[2]},
		})
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(dir, "unsigned.efi"), pe, 0o644)
	})
	if err != nil {
		return u, err
	}
	u.Unsigned = filepath.Join(dir, "unsigned.efi")
	keys, err := LoadKeys(b.Keys)
	if err != nil {
		return u, err
	}
	if inputs, err = hashFiles(u.Unsigned, keys.cert("db")); err != nil {
		return u, err
	}
	dir, err = b.step(ctx, "signed-uki", inputs, func(dir string) error {
		_, err := tool.Run(ctx, "sbsign", "--key", keys.key("db"), "--cert", keys.cert("db"),
			"--output", filepath.Join(dir, "signed.efi"), u.Unsigned)
		return err
	})
	u.Path = filepath.Join(dir, "signed.efi")
	return u, err
}

// BootFile is where the firmware looks for the kernel image on the ESP.
const BootFile = "EFI/BOOT/BOOTX64.EFI"

// Contents are what is written to a new disk besides the root file system.
type Contents struct {
	UKI   string               // kernel image on the host; may be empty
	ESP   map[string]disk.File // further files of the ESP, such as ward/release.dsse
	State map[string]disk.File // content of the state partition
	Data  map[string]disk.File // content of the data partition
	// Volumes encrypt partitions, by use. One that is not here is a plain file
	// system, which no device mounts: for a golden boot.
	Volumes map[string]disk.Volume
}

// NewDisk writes a device's disk to dst.
func (img *Image) NewDisk(ctx context.Context, dst string, c Contents) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dst), ".disk-")
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	defer os.RemoveAll(tmp)
	parts, size, err := partitions(img.Board)
	if err != nil {
		return err
	}
	esp := make(map[string]disk.File)
	for name, f := range c.ESP {
		esp[name] = f
	}
	if c.UKI != "" {
		esp[BootFile] = disk.File{Host: c.UKI}
	}
	whole := filepath.Join(tmp, "disk")
	out, err := os.Create(whole)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	defer out.Close()
	if err := out.Truncate(size); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	guid, err := efistore.ParseGUID(img.Board.Disk.GUID)
	if err != nil {
		return err
	}
	if err := disk.WriteGPT(out, size, guid, parts); err != nil {
		return err
	}
	for i, p := range img.Board.Partitions {
		piece := filepath.Join(tmp, p.Use)
		switch p.Use {
		case board.UseESP:
			err = disk.MakeFAT(ctx, piece, parts[i].Size, esp)
		case board.UseState:
			err = c.makeVolume(ctx, piece, parts[i].Size, p, disk.Owner{UID: wardUser, GID: wardUser}, c.State)
		case board.UseData:
			err = c.makeVolume(ctx, piece, parts[i].Size, p, disk.Owner{UID: pumpUser, GID: pumpUser}, c.Data)
		case board.UseRoot:
			piece = img.RootFS
		case board.UseHash:
			piece = img.HashTree
		}
		if err == nil {
			err = disk.Copy(out, parts[i].Start, parts[i].Size, piece)
		}
		if err != nil {
			return fmt.Errorf("make disk, partition %s: %w", p.Label, err)
		}
	}
	if err := errors.Join(out.Close(), os.Rename(whole, dst)); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	return nil
}

// makeVolume makes the image of the state or the data partition.
func (c Contents) makeVolume(ctx context.Context, piece string, size int64, p board.Partition, owner disk.Owner, files map[string]disk.File) error {
	v, encrypted := c.Volumes[p.Use]
	if !encrypted {
		return disk.MakeExt4(ctx, piece, size, p.Label, p.UUID, owner, files)
	}
	plain := piece + ".plain"
	if err := disk.MakeExt4(ctx, plain, disk.PlainSize(size), p.Label, p.UUID, owner, files); err != nil {
		return err
	}
	return disk.MakeVolume(ctx, piece, size, p.Label, p.UUID, v, plain)
}

// partitions lays out the board's partitions.
func partitions(brd *board.Board) ([]disk.Partition, int64, error) {
	var parts []disk.Partition
	for _, p := range brd.Partitions {
		kind, err := efistore.ParseGUID(p.Type)
		if err != nil {
			return nil, 0, fmt.Errorf("partition %s: %w", p.Label, err)
		}
		guid, err := efistore.ParseGUID(p.GUID)
		if err != nil {
			return nil, 0, fmt.Errorf("partition %s: %w", p.Label, err)
		}
		parts = append(parts, disk.Partition{Label: p.Label, Type: kind, GUID: guid, Size: p.MiB << 20})
	}
	size := disk.Layout(parts)
	return parts, size, nil
}

// PutESP writes files to the ESP of a disk that no device is using, replacing
// those of the same name. The kernel image is BootFile.
func (img *Image) PutESP(ctx context.Context, dst string, files map[string]disk.File) error {
	offset, err := img.partitionOffset(board.UseESP)
	if err != nil {
		return err
	}
	return disk.PutFAT(ctx, dst, offset, files)
}

// CopyPartition writes a partition of a disk to a file.
func (img *Image) CopyPartition(dst, from, use string) error {
	parts, _, err := partitions(img.Board)
	if err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy partition: %w", err)
	}
	defer in.Close()
	for i, p := range img.Board.Partitions {
		if p.Use != use {
			continue
		}
		out, err := os.Create(dst)
		if err != nil {
			return fmt.Errorf("copy partition: %w", err)
		}
		_, err = io.Copy(out, io.NewSectionReader(in, parts[i].Start, parts[i].Size))
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("copy partition: %w", err)
		}
		return nil
	}
	return fmt.Errorf("copy partition: the board has none of use %q", use)
}

func (img *Image) partitionOffset(use string) (int64, error) {
	parts, _, err := partitions(img.Board)
	if err != nil {
		return 0, err
	}
	for i, p := range img.Board.Partitions {
		if p.Use == use {
			return parts[i].Start, nil
		}
	}
	return 0, fmt.Errorf("find partition: the board has none of use %q", use)
}
