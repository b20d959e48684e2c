// Package itself wires the role by which the daemon watches itself (package self):
// which files are its own, and which manifest may take the place of another.
package itself

import (
	"path/filepath"

	"ward/internal/agent/self"
	"ward/internal/config"
	"ward/internal/device/anchors"
	"ward/internal/trust/release"
)

// unitFiles are where systemd finds the daemon's unit; a file in the second place
// is in force before one in the first.
var unitFiles = []string{"/usr/lib/systemd/system/wardd.service", "/etc/systemd/system/wardd.service"}

// New makes the role for a daemon with these settings from a file, which may be
// empty; the rest of the configuration is the caller's.
func New(settings config.Config, file string, c self.Config) *self.Self {
	c.Files = []self.File{{Path: settings.Paths.Release, Genuine: func(manifest []byte) bool { return genuine(settings, manifest) }}}
	for _, f := range append(unitFiles, file) {
		if f != "" {
			c.Files = append(c.Files, self.File{Path: f})
		}
	}
	return self.New(c)
}

// genuine says whether a manifest is one that the release keys signed: an update
// puts it there for the next boot.
func genuine(settings config.Config, manifest []byte) bool {
	keys, err := anchors.Keys(filepath.Join(settings.Paths.Trust, "release"))
	if err != nil {
		return false
	}
	_, err = release.Open(manifest, keys, max(settings.ReleaseThreshold, 1))
	return err == nil
}
