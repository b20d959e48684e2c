package stage

import (
	"context"

	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/lab/works"
)

// The release after the lab's: another command line, another initramfs.
const (
	NextVersion = "1.1.0"
	NextText    = NextVersion + "\n"
	NextWords   = "ward.next=1"
	NextFile    = "etc/ward-release" // in the initramfs
)

// NextImage makes an image of the next release; the text stands in its
// initramfs.
func (s *Stage) NextImage(ctx context.Context, text string) (*image.Image, error) {
	return s.Builder.Variant(ctx, s.Image, NextVersion, map[string][]byte{NextFile: []byte(text)}, NextWords)
}

// Reinstall puts the release's kernel image and manifest on the disk, whatever a
// drill before has put there.
func (s *Stage) Reinstall(ctx context.Context) error {
	return s.Image.PutESP(ctx, s.Device.Disk(), map[string]disk.File{
		image.BootFile:    {Host: s.Image.UKIs[image.Release].Path, Mode: 0o644},
		works.ReleaseFile: {Data: s.Manifest, Mode: 0o644},
	})
}
