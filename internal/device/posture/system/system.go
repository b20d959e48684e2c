// Package system reads the posture of the running system: what is mounted and how,
// who may log in, what listens, what starts by itself, which debug interfaces are
// open, how worn the disks are. One file holds one collector; each reads bounded
// files of procfs, sysfs and /etc through an fs.FS that is rooted at the device's
// "/" (proc(5), Documentation/ABI of the Linux source, passwd(5), shadow(5),
// sshd(8), crontab(5), systemd.unit(5)). Password hashes, keys and command lines are
// never part of a claim. Nothing is judged here: that is trust/posture's.
package system

import (
	"errors"
	"io/fs"

	"ward/internal/device/dm"
	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	"ward/internal/device/posture/privileged"
	claim "ward/internal/trust/posture"
)

// Config is what collectors need beside the file system. Its zero value is good:
// what nothing tells is then not claimed.
type Config struct {
	// Files is what the last walk over all files found; nil: nobody walks, and the
	// claims that come from it are not made.
	Files func() (privileged.Files, error)
	// Tables are the device mapper's tables as they were read with privilege, and
	// TablesError why they were not.
	Tables      []dm.Table
	TablesError error
	// Policy is what the release expects: it names the fuses to read, which differ by
	// board. nil: none.
	Policy func() *claim.Policy
	// Name gives an account's name as it may leave the device; nil: as it is.
	Name func(account string) string
}

// Collectors lists all collectors of the running system.
func Collectors(c Config) []posture.Collector {
	if c.Name == nil {
		c.Name = func(account string) string { return account }
	}
	if c.Policy == nil {
		c.Policy = func() *claim.Policy { return nil }
	}
	all := []posture.Collector{
		Mounts(), Verity(c.Tables, c.TablesError), Encrypted(), Sockets(), Logins(c.Name), EmptyPasswords(c.Name), AuthorisedKeys(c.Name),
		Cron(), Units(), Fuses(c.Policy), Consoles(), ClockSync(), Wear(), BlockDevices(), FSVerity(c.Files),
	}
	if c.Files != nil {
		all = append(all, Setuid(c.Files), WorldWritable(c.Files))
	}
	return all
}

// Bounds of what is read, in bytes unless said.
const (
	textFile = 256 << 10 // a file of /etc, a list of mounts
	table    = 4 << 20   // a table of sockets, most of whose lines are connections
	maxNames = 65536     // entries of a folder: every process that Linux numbers by default
)

// errAbsent: this device has no such thing.
var errAbsent = errors.New("there is no such thing")

// gone is errAbsent where a file is not there, else err.
func gone(err error) error {
	if bounded.Absent(err) {
		return errAbsent
	}
	return err
}

// collector makes the claim of what read gives.
func collector(name string, read func(root fs.FS) ([]string, error)) posture.Collector {
	return posture.Collector{Name: name, Collect: func(root fs.FS) claim.Claim {
		values, err := read(root)
		switch {
		case err == errAbsent:
			return posture.Absent(name)
		case err != nil:
			return posture.Failed(name, err)
		}
		return posture.Value(name, values...)
	}}
}
