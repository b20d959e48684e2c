package daemon

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"ward/internal/agent/localapi"
	"ward/internal/device/anchors"
	"ward/internal/trust/volume"
)

// volumeReport is the report of the early boot, beside the local socket. Only the
// early boot writes it; a device without encrypted volumes has none.
const volumeReport = "volumes"

// beginVolumes reads what became of the encrypted volumes at this start and
// raises what did not open. They stay as they are until the next start, so that is
// once.
func (d *daemon) beginVolumes(ctx context.Context) {
	file := filepath.Join(filepath.Dir(d.config.Paths.Socket), volumeReport)
	text, err := anchors.Read(file, volume.MaxReport)
	if err == nil {
		d.volumes, err = volume.ParseReport(text)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		d.log.Error("read the report on the volumes", "file", file, "error", err)
		// What is not known to be open is not open.
		d.volumes = []volume.Outcome{{Name: volume.State, Cause: volume.Unknown, Detail: err.Error()}, {Name: volume.Data, Cause: volume.Unknown, Detail: err.Error()}}
	}
	for _, v := range d.volumes {
		if f, closed := v.Finding(); closed {
			d.raise(ctx, f, "volume "+v.Name)
		}
	}
}

func (d *daemon) volumeStatus() []localapi.Volume {
	all := []localapi.Volume{}
	for _, v := range d.volumes {
		all = append(all, localapi.Volume{Name: v.Name, Opened: v.Opened, Cause: string(v.Cause), Detail: v.Detail})
	}
	return all
}
