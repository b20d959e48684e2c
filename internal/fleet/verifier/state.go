package verifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"ward/internal/fleet/files"
	"ward/internal/trust/presence"
)

// stateSchema is the version of the state file.
const stateSchema = 1

// maxState bounds the state file that is read: some 900 bytes a device.
const maxState = 256 << 20

// state is the state file. Event logs are not in it: after a restart devices are
// asked for them again.
type state struct {
	Schema  int                `json:"schema"`
	Devices map[string]*device `json:"devices"` // by "tenant/device"
}

func load(path string) (map[string]*device, error) {
	devices := make(map[string]*device)
	if path == "" {
		return devices, nil
	}
	b, err := files.Read(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return devices, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("read state file %s: %w; restore it from its backup, or begin anew with another file", path, err)
	}
	if st.Schema != stateSchema {
		return nil, fmt.Errorf("read state file %s: schema %d, want %d", path, st.Schema, stateSchema)
	}
	for name, d := range st.Devices {
		tenant, id, _ := strings.Cut(name, "/")
		if err := presence.CheckNames(tenant, id); err != nil || d == nil {
			return nil, fmt.Errorf("read state file %s: device %q is empty or has no name", path, name)
		}
		d.tenant, d.name = tenant, id
		devices[name] = d
	}
	return devices, nil
}

func save(path string, devices map[string]*device) error {
	b, err := json.Marshal(state{Schema: stateSchema, Devices: devices})
	if err == nil {
		err = files.Replace(path, b)
	}
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}
