// Package config reads wardd.toml, the daemon's settings on one device: where
// things lie, whom to report to, how much to keep. What must be trusted (policy,
// reference values, keys) is signed data and never stands here. The format is
// TOML 1.0, version 1 of the keys in docs/CONFIG.md; an unknown key, a value of
// another type or one outside its bounds refuses the whole file, because a
// setting that is silently ignored is worse than a daemon that says so.
package config

import (
	"path/filepath"
	"time"
)

// Version is the version of the keys that this package reads.
const Version = 1

// Config is the content of wardd.toml.
type Config struct {
	Version          int
	BringUp          bool // report everything, judge nothing
	ReleaseThreshold int  // distinct release keys that must have signed
	Paths            Paths
	TPM              TPM
	Identity         Identity
	Uplink           Uplink
	Forward          Forward
	Journal          Journal
	Log              Log
	Integrity        Integrity
	Update           Update
}

// Paths says where things lie. All are absolute.
type Paths struct {
	State    string // writable folder, the daemon's own
	Socket   string // local socket for wardctl and the host application
	Release  string // signed release manifest
	Baseline string // file baseline that the manifest names by digest
	Trust    string // folder of the trust anchors
	SysFS    string // mount point of sysfs
}

// SecurityFS is where the kernel's logs are: securityfs is mounted within sysfs.
func (p Paths) SecurityFS() string { return filepath.Join(p.SysFS, "kernel", "security") }

// TPM names the TPM.
type TPM struct {
	Device string // resource-managed device file
}

// Identity says who issues the device's certificates.
type Identity struct {
	Registrar  string // https://host:port; empty: certificates come by files
	ServerName string // name that the registrar's certificate must carry; empty for the address's own
	SerialFile string // where the hardware's serial number is read; empty: it is not compared
}

// Uplink says how to reach the fleet's broker.
type Uplink struct {
	Enabled    bool
	Brokers    []string      // tls://host:port or wss://host:port/path, tried in order
	ServerName string        // name that the broker's certificate must carry
	Proxy      string        // http://host:port that carries the connection; empty: none
	Keepalive  time.Duration // longest silence on the connection
	DailyBytes int64         // what may be sent in a day
}

// Forward says which syslog servers get the events too.
type Forward struct {
	Sinks []string // as ParseSink reads them
}

// Journal bounds the record of events.
type Journal struct {
	MaxBytes int64 // on the state partition
}

// Log shapes the daemon's own log on standard error.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Integrity paces the watch over the kernel's measurement list.
type Integrity struct {
	IMAPoll time.Duration
}

// Update says how a release that runs is confirmed.
type Update struct {
	Confirm string // explicit: by wardctl update confirm; automatic: by an affirming verdict
}

// Automatic tells that nobody needs to confirm a release.
func (u Update) Automatic() bool { return u.Confirm == "automatic" }

// Default returns the built-in settings. They name no broker: a daemon that
// runs on them keeps its events on the device.
func Default() Config {
	return Config{
		Version:          Version,
		ReleaseThreshold: 1,
		Paths: Paths{
			State:    "/var/lib/ward",
			Socket:   "/run/ward/wardd.sock",
			Release:  "/boot/ward/release.dsse",
			Baseline: "/usr/lib/ward/baseline",
			Trust:    "/usr/lib/ward/trust",
			SysFS:    "/sys",
		},
		TPM:       TPM{Device: "/dev/tpmrm0"},
		Identity:  Identity{SerialFile: "/sys/class/dmi/id/product_serial"},
		Uplink:    Uplink{Enabled: true, Keepalive: time.Minute, DailyBytes: 32 << 20},
		Journal:   Journal{MaxBytes: 16 << 20},
		Log:       Log{Level: "info", Format: "text"},
		Integrity: Integrity{IMAPoll: 250 * time.Millisecond},
		Update:    Update{Confirm: "explicit"},
	}
}
