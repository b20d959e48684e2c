package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key describes one key of the file: its field, its bounds and its meaning.
type key struct {
	name    string // dotted
	field   func(*Config) any
	bound   bound
	meaning string
}

// bound is a rule that a value must keep, and the rule in words.
type bound struct {
	words string
	check func(value any) error
}

// Bounds of the numbers and lists, each with its reason.
const (
	maxThreshold = 16               // more signers than any release process has
	minKeepalive = 5 * time.Second  // below, the idle day's traffic budget is spent on pings
	maxKeepalive = 20 * time.Minute // above, hospital firewalls have dropped the connection
	minJournal   = 1 << 20          // holds one boot's events and some thousand more
	maxJournal   = 1 << 30          // state partitions are small; the chain is read at start
	minPoll      = 50 * time.Millisecond
	maxPoll      = time.Minute // the bound on how late an unknown program is seen
	maxBrokers   = 8
	minDaily     = 1 << 20  // an idle day and its evidence
	maxDaily     = 64 << 30 // above, it bounds nothing that a device can send
	maxText      = 1024     // longest text value, bytes
)

var keys = []key{
	{"version", func(c *Config) any { return &c.Version }, exactly(Version), "Version of these keys. Must be there."},
	{"bring_up", func(c *Config) any { return &c.BringUp }, anything, "Bring-up mode: everything is reported and nothing is judged. Never in a released device."},
	{"release_threshold", func(c *Config) any { return &c.ReleaseThreshold }, integers(1, maxThreshold), "Distinct release keys that must have signed the release manifest."},

	{"paths.state", func(c *Config) any { return &c.Paths.State }, absolute, "Writable folder that belongs to the daemon: journal, certificate, session number."},
	{"paths.socket", func(c *Config) any { return &c.Paths.Socket }, absolute, "Local socket for wardctl and the host application."},
	{"paths.release", func(c *Config) any { return &c.Paths.Release }, absolute, "Signed release manifest, beside the kernel image."},
	{"paths.baseline", func(c *Config) any { return &c.Paths.Baseline }, absolute, "File baseline that the release manifest names by digest."},
	{"paths.trust", func(c *Config) any { return &c.Paths.Trust }, absolute, "Folder of the trust anchors: release/*.pem, fleet/*.pem, receipt/*.pem, challenge/*.pem, one policy/*.pem, and syslog/*.pem where syslog servers have other authorities than the fleet."},
	{"paths.sysfs", func(c *Config) any { return &c.Paths.SysFS }, absolute, "Mount point of sysfs; the kernel's logs are read from kernel/security within it."},

	{"tpm.device", func(c *Config) any { return &c.TPM.Device }, absolute, "Device file of the TPM behind the kernel's resource manager."},

	{"identity.registrar", func(c *Config) any { return &c.Identity.Registrar }, registrar, "Registrar that enrols the device and renews its certificates. Empty: none is asked, and certificates come by files."},
	{"identity.server_name", func(c *Config) any { return &c.Identity.ServerName }, orEmpty(serverName), "Name that the registrar's certificate must carry. Empty: the address's own."},
	{"identity.serial_file", func(c *Config) any { return &c.Identity.SerialFile }, orEmpty(absolute), "File with the hardware's serial number, which is compared with the one that manufacture fixed. Empty: it is not compared."},

	{"uplink.enabled", func(c *Config) any { return &c.Uplink.Enabled }, anything, "Report to the fleet. When false, events stay on the device."},
	{"uplink.brokers", func(c *Config) any { return &c.Uplink.Brokers }, brokers, "Brokers in the order of preference: the first that admits the device is used, and while it is not the first of all, those before it are tried again every 5 to 15 minutes. Must be there when the uplink is enabled."},
	{"uplink.server_name", func(c *Config) any { return &c.Uplink.ServerName }, serverName, "Name that the broker's certificate must carry. Must be there when the uplink is enabled."},
	{"uplink.proxy", func(c *Config) any { return &c.Uplink.Proxy }, orEmpty(proxy), "HTTP proxy that is asked to CONNECT to the broker; TLS goes through it unopened. No password can be given, and the environment is not asked. Empty: none."},
	{"uplink.daily_bytes", func(c *Config) any { return &c.Uplink.DailyBytes }, integers(minDaily, maxDaily), "Budget of what is sent in 24 hours. From 80 % on, evidence that nobody asked for waits; at 100 %, events wait until one of high or critical severity comes; at 200 % all wait. Nothing is lost while the journal has room."},
	{"uplink.keepalive", func(c *Config) any { return &c.Uplink.Keepalive }, durations(minKeepalive, maxKeepalive), "Longest silence on the connection: each ping takes 128 bytes with its headers, so that an idle day keeps to its budget; the broker announces the device's death after one and a half of it."},

	{"forward.sinks", func(c *Config) any { return &c.Forward.Sinks }, sinks, "Syslog servers of the hospital that get every event too (docs/sinks.md). Empty: none."},

	{"journal.max_bytes", func(c *Config) any { return &c.Journal.MaxBytes }, integers(minJournal, maxJournal), "Most bytes that the journal takes on the state partition."},

	{"log.level", func(c *Config) any { return &c.Log.Level }, oneOf("debug", "info", "warn", "error"), "Least severe line of the daemon's own log on standard error."},
	{"log.format", func(c *Config) any { return &c.Log.Format }, oneOf("text", "json"), "Form of the daemon's own log."},

	{"integrity.ima_poll", func(c *Config) any { return &c.Integrity.IMAPoll }, durations(minPoll, maxPoll), "How often the kernel's measurement list is looked at."},

	{"update.confirm", func(c *Config) any { return &c.Update.Confirm }, oneOf("automatic", "explicit"), "Who marks a new release good, which locks older ones out: the updater or a person (explicit, wardctl update confirm), or an affirming verdict alone (automatic)."},
}

func lookup(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

func isSection(name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return strings.HasPrefix(k.name, name+".") })
}

// unknown names the key that was probably meant, or where the list stands.
func unknown(name string) error {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, k := range keys {
		if strings.EqualFold(k.name, name) || k.name[strings.LastIndexByte(k.name, '.')+1:] == last {
			return fmt.Errorf("is not a key of wardd.toml: remove the line, or write %s", k.name)
		}
	}
	return fmt.Errorf("is not a key of wardd.toml: remove the line, or look the key up in docs/CONFIG.md")
}

// store checks a TOML value and puts it into the key's field.
func (k *key) store(c *Config, value any) error {
	switch field := k.field(c).(type) {
	case *bool:
		v, ok := value.(bool)
		if !ok {
			return wrongType("true or false", value)
		}
		*field = v
	case *int:
		v, err := k.integer(value)
		if err != nil {
			return err
		}
		*field = int(v)
	case *int64:
		v, err := k.integer(value)
		if err != nil {
			return err
		}
		*field = v
	case *string:
		v, ok := value.(string)
		if !ok {
			return wrongType("a text in quotes", value)
		}
		if err := k.bound.check(v); err != nil {
			return err
		}
		*field = v
	case *time.Duration:
		text, ok := value.(string)
		if !ok {
			return wrongType(`a duration in quotes, such as "30s"`, value)
		}
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf(`%q is not a duration: write a number and its unit, such as "30s" or "250ms"`, shorten(text))
		}
		if err := k.bound.check(v); err != nil {
			return err
		}
		*field = v
	case *[]string:
		list, ok := value.([]any)
		if !ok {
			return wrongType("a list of texts", value)
		}
		texts := make([]string, 0, min(len(list), maxBrokers))
		for _, item := range list {
			text, ok := item.(string)
			if !ok {
				return wrongType("a list of texts", value)
			}
			texts = append(texts, text)
		}
		if err := k.bound.check(texts); err != nil {
			return err
		}
		*field = texts
	}
	return nil
}

func (k *key) integer(value any) (int64, error) {
	v, ok := value.(int64)
	if !ok {
		return 0, wrongType("a whole number", value)
	}
	return v, k.bound.check(v)
}

func wrongType(want string, value any) error {
	names := map[string]string{"string": "a text", "int64": "a whole number", "float64": "a number with a fraction", "bool": "true or false", "[]interface {}": "a list"}
	got, ok := names[fmt.Sprintf("%T", value)]
	if !ok {
		got = "something else"
	}
	return fmt.Errorf("must be %s, not %s", want, got)
}

var anything = bound{"", func(any) error { return nil }}

func exactly(n int64) bound {
	return bound{strconv.FormatInt(n, 10), func(value any) error {
		if value != n {
			return fmt.Errorf("is %v, and this wardd reads version %d: install a configuration and a wardd of the same release", value, n)
		}
		return nil
	}}
}

func integers(low, high int64) bound {
	return bound{fmt.Sprintf("%d to %d", low, high), func(value any) error {
		if v := value.(int64); v < low || v > high {
			return fmt.Errorf("%d is out of bounds: write %d to %d", v, low, high)
		}
		return nil
	}}
}

func durations(low, high time.Duration) bound {
	words := span(low) + " to " + span(high)
	return bound{words, func(value any) error {
		if v := value.(time.Duration); v < low || v > high {
			return fmt.Errorf("%s is out of bounds: write %s", span(v), words)
		}
		return nil
	}}
}

// span writes a duration without empty minutes and seconds: 20m, not 20m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func oneOf(words ...string) bound {
	list := strings.Join(words, ", ")
	return bound{list, func(value any) error {
		if !slices.Contains(words, value.(string)) {
			return fmt.Errorf("%q is not known: write one of %s", shorten(value.(string)), list)
		}
		return nil
	}}
}

var absolute = bound{"absolute path", func(value any) error {
	p := value.(string)
	if len(p) > maxText || !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%q is not an absolute path: write it from / on, without .. and double slashes", shorten(p))
	}
	return nil
}}

var serverName = bound{"host name or IP address", func(value any) error {
	n := value.(string)
	if n == "" || len(n) > 253 || strings.ContainsAny(n, " \t\r\n/*@") || (net.ParseIP(n) == nil && strings.Contains(n, ":")) {
		return fmt.Errorf("%q is not a host name: write the name in the broker's certificate, without port", shorten(n))
	}
	return nil
}}

// orEmpty is a bound that also takes the empty text.
func orEmpty(b bound) bound {
	return bound{b.words + ", or empty", func(value any) error {
		if value == "" {
			return nil
		}
		return b.check(value)
	}}
}

var registrar = orEmpty(bound{"https://host[:port]", func(value any) error {
	address := value.(string)
	u, err := url.Parse(address)
	if err != nil || len(address) > maxText || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%q is not the address of a registrar: write https://host:port", shorten(address))
	}
	return nil
}})

var brokers = bound{fmt.Sprintf("tls://host:port or wss://host[:port]/path, at most %d", maxBrokers), func(value any) error {
	list := value.([]string)
	if len(list) > maxBrokers {
		return fmt.Errorf("has %d entries: write at most %d", len(list), maxBrokers)
	}
	for _, b := range list {
		if err := broker(b); err != nil {
			return err
		}
	}
	return nil
}}

// broker refuses every scheme without TLS, and credentials inside an address.
func broker(address string) error {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxText || u.Hostname() == "" {
		return fmt.Errorf("%q is not an address: write tls://host:8883 or wss://host/path", shorten(address))
	}
	if u.Scheme != "tls" && u.Scheme != "wss" {
		return fmt.Errorf("%q has no TLS: write tls:// or wss://", shorten(address))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme == "tls" && (u.Port() == "" || u.Path != "")) {
		return fmt.Errorf("%q has a part too many or too few: write tls://host:8883 or wss://host/path", shorten(address))
	}
	return port(address, u)
}

// port refuses a port that does not exist; none is left to the caller.
func port(address string, u *url.URL) error {
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > math.MaxUint16 {
			return fmt.Errorf("%q has no port that exists: write 1 to %d", shorten(address), math.MaxUint16)
		}
	}
	return nil
}

// proxy is the address of an HTTP proxy. One with a password is not repeated.
var proxy = bound{"http://host:port", func(value any) error {
	u, err := url.Parse(value.(string))
	switch {
	case err == nil && u.User != nil:
		return fmt.Errorf("has a name or a password in it: write http://host:port, and have the proxy let the device through without")
	case err != nil || len(value.(string)) > maxText || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is not the address of a proxy: write http://host:port", shorten(value.(string)))
	}
	return port(value.(string), u)
}}

// shorten keeps a wrong value from filling the line that reports it.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
