package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Verifies: SR-015
func TestWholeFile(t *testing.T) {
	got, err := Load("testdata/whole.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Version: 1, BringUp: true, ReleaseThreshold: 2,
		Paths: Paths{State: "/s", Socket: "/k", Release: "/r", Baseline: "/b", Trust: "/t", SysFS: "/y"},
		TPM:   TPM{Device: "/dev/tpmrm1"}, Identity: Identity{Registrar: "https://registrar.example:8443", ServerName: "registrar.ward.lab"},
		Uplink: Uplink{
			Enabled: true, Brokers: []string{"tls://10.0.2.100:8883", "wss://broker.example/mqtt"},
			ServerName: "broker.ward.lab", Keepalive: 2 * time.Minute, Proxy: "http://proxy.example:3128", DailyBytes: 2_000_000,
		},
		Forward:   Forward{Sinks: []string{"rfc5424+tls://log.example:6514", "dicom+tls://10.0.0.7:6514#arr.example"}},
		Journal:   Journal{MaxBytes: 2 << 20},
		Log:       Log{Level: "debug", Format: "json"},
		Integrity: Integrity{IMAPoll: time.Second},
		Update:    Update{Confirm: "automatic"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// The whole file names every key, so it is also the proof that each is read.
func TestWholeFileNamesEveryKey(t *testing.T) {
	b, err := os.ReadFile("testdata/whole.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		last := k.name[strings.LastIndexByte(k.name, '.')+1:]
		if !strings.Contains(string(b), "\n"+last+" = ") {
			t.Errorf("testdata/whole.toml does not set %s", k.name)
		}
	}
	if len(keys) > 25 {
		t.Errorf("%d keys: a configuration has at most 25", len(keys))
	}
}

func TestAbsentKeysKeepTheirDefault(t *testing.T) {
	got, err := Parse("x", []byte("version = 1\n[uplink]\nenabled = false\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Uplink.Enabled = false
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestDefaultsKeepTheirBounds(t *testing.T) {
	def := Default()
	for _, k := range keys {
		switch v := k.field(&def).(type) {
		case *int:
			if err := k.bound.check(int64(*v)); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		case *int64:
			if err := k.bound.check(*v); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		case *time.Duration:
			if err := k.bound.check(*v); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		case *string:
			if err := k.bound.check(*v); err != nil && *v != "" {
				t.Errorf("%s: %v", k.name, err)
			}
		}
	}
}

// Verifies: SR-015
func TestErrorsNameFileLineAndKey(t *testing.T) {
	const off = "version = 1\n[uplink]\nenabled = false\n" // three good lines
	for _, row := range []struct{ name, text, want string }{
		{"no TOML", "version = 1\nbring_up = \n", `w.toml:2: cannot be read as TOML: `},
		{"twice", "version = 1\nversion = 1\n", `w.toml:2: cannot be read as TOML: `},
		{"not UTF-8", "version = 1\n# \xff\n", `w.toml:2: cannot be read as TOML: `},
		{"empty", "", `w.toml:1: version: is missing: begin the file with version = 1`},
		{"no version", "bring_up = true\n", `w.toml:1: version: is missing: begin the file with version = 1`},
		{"later version", "bring_up = 3\nnew = 1\nversion = 2\n", `w.toml:3: version: is 2, and this wardd reads version 1: install a configuration and a wardd of the same release`},
		{"version as text", "version = \"1\"\n", `w.toml:1: version: must be a whole number, not a text`},
		{"unknown key", off + "[journal]\nmax_byte = 1\n", `w.toml:5: journal.max_byte: is not a key of wardd.toml: remove the line, or look the key up in docs/CONFIG.md`},
		{"unknown key at the top", "version = 1\ncolour = \"red\"\n", `w.toml:2: colour: is not a key of wardd.toml: remove the line, or look the key up in docs/CONFIG.md`},
		{"key in the wrong table", off + "max_bytes = 1048576\n", `w.toml:4: uplink.max_bytes: is not a key of wardd.toml: remove the line, or write journal.max_bytes`},
		{"key in other case", "version = 1\nBring_Up = true\n", `w.toml:2: Bring_Up: is not a key of wardd.toml: remove the line, or write bring_up`},
		{"unknown table", "version = 1\n[updates]\nauto = true\n", `w.toml:2: updates: is not a key of wardd.toml: remove the line, or look the key up in docs/CONFIG.md`},
		{"list of tables", "version = 1\n[[journal]]\nmax_bytes = 1048576\n", `w.toml:2: journal: must be a table: write [journal]`},
		{"value for a table", "version = 1\njournal = 3\n", `w.toml:2: journal: must be a table: write [journal]`},
		{"table for a value", "version = 1\n[journal.max_bytes]\nx = 1\n", `w.toml:2: journal.max_bytes: must be a whole number, not something else`},
		{"inline table", "version = 1\njournal = { max_bytes = 1 }\n", `w.toml:2: journal.max_bytes: 1 is out of bounds: write 1048576 to 1073741824`},
		{"dotted key", "version = 1\n\njournal.max_bytes = 1\n", `w.toml:3: journal.max_bytes: 1 is out of bounds: write 1048576 to 1073741824`},
		{"boolean as text", "version = 1\nbring_up = \"yes\"\n", `w.toml:2: bring_up: must be true or false, not a text`},
		{"fraction", "version = 1\nrelease_threshold = 1.5\n", `w.toml:2: release_threshold: must be a whole number, not a number with a fraction`},
		{"threshold of none", "version = 1\nrelease_threshold = 0\n", `w.toml:2: release_threshold: 0 is out of bounds: write 1 to 16`},
		{"duration as number", off + "keepalive = 30\n", `w.toml:4: uplink.keepalive: must be a duration in quotes, such as "30s", not a whole number`},
		{"duration without unit", off + "keepalive = \"30\"\n", `w.toml:4: uplink.keepalive: "30" is not a duration: write a number and its unit, such as "30s" or "250ms"`},
		{"duration too long", off + "keepalive = \"5h\"\n", `w.toml:4: uplink.keepalive: 5h is out of bounds: write 5s to 20m`},
		{"duration below nought", off + "[integrity]\nima_poll = \"-1s\"\n", `w.toml:5: integrity.ima_poll: -1s is out of bounds: write 50ms to 1m`},
		{"relative path", "version = 1\n[paths]\nstate = \"var/lib\"\n", `w.toml:3: paths.state: "var/lib" is not an absolute path: write it from / on, without .. and double slashes`},
		{"path with dots", "version = 1\n[paths]\nstate = \"/var/../etc\"\n", `w.toml:3: paths.state: "/var/../etc" is not an absolute path: write it from / on, without .. and double slashes`},
		{"unknown word", "version = 1\n[log]\nlevel = \"loud\"\n", `w.toml:3: log.level: "loud" is not known: write one of debug, info, warn, error`},
		{"broker without TLS", off + "brokers = [\"tcp://broker:1883\"]\n", `w.toml:4: uplink.brokers: "tcp://broker:1883" has no TLS: write tls:// or wss://`},
		{"broker without port", off + "brokers = [\"tls://broker\"]\n", `w.toml:4: uplink.brokers: "tls://broker" has a part too many or too few: write tls://host:8883 or wss://host/path`},
		{"broker with password", off + "brokers = [\"tls://u:p@broker:8883\"]\n", `w.toml:4: uplink.brokers: "tls://u:p@broker:8883" has a part too many or too few: write tls://host:8883 or wss://host/path`},
		{"broker port", off + "brokers = [\"tls://broker:70000\"]\n", `w.toml:4: uplink.brokers: "tls://broker:70000" has no port that exists: write 1 to 65535`},
		{"broker as text", off + "brokers = \"tls://broker:8883\"\n", `w.toml:4: uplink.brokers: must be a list of texts, not a text`},
		{"list of numbers", off + "brokers = [1]\n", `w.toml:4: uplink.brokers: must be a list of texts, not a list`},
		{"too many brokers", off + "brokers = [" + strings.Repeat(`"tls://b:1",`, 9) + "]\n", `w.toml:4: uplink.brokers: has 9 entries: write at most 8`},
		{"proxy with a password", off + "proxy = \"http://user:secret@proxy:3128\"\n", `w.toml:4: uplink.proxy: has a name or a password in it: write http://host:port, and have the proxy let the device through without`},
		{"proxy without port", off + "proxy = \"http://proxy\"\n", `w.toml:4: uplink.proxy: "http://proxy" is not the address of a proxy: write http://host:port`},
		{"proxy over TLS", off + "proxy = \"https://proxy:3128\"\n", `w.toml:4: uplink.proxy: "https://proxy:3128" is not the address of a proxy: write http://host:port`},
		{"proxy's port", off + "proxy = \"http://proxy:99999\"\n", `w.toml:4: uplink.proxy: "http://proxy:99999" has no port that exists: write 1 to 65535`},
		{"a budget below an idle day", off + "daily_bytes = 1000\n", `w.toml:4: uplink.daily_bytes: 1000 is out of bounds: write 1048576 to 68719476736`},
		{"server name with port", off + "server_name = \"broker:8883\"\n", `w.toml:4: uplink.server_name: "broker:8883" is not a host name: write the name in the broker's certificate, without port`},
		{"sink without TLS", off + "[forward]\nsinks = [\"rfc5424://log:514\"]\n", `w.toml:5: forward.sinks: "rfc5424://log:514" has no format of events over TLS: write rfc5424+tls://host:6514, cef+tls://host:6514 or dicom+tls://host:6514, with #name where the certificate has another name`},
		{"sink of another format", off + "[forward]\nsinks = [\"leef+tls://log:6514\"]\n", `w.toml:5: forward.sinks: "leef+tls://log:6514" has no format of events over TLS: write `},
		{"sink without port", off + "[forward]\nsinks = [\"cef+tls://log\"]\n", `w.toml:5: forward.sinks: "cef+tls://log" has a part too many or too few: write `},
		{"sink with a path", off + "[forward]\nsinks = [\"cef+tls://log:6514/x\"]\n", `w.toml:5: forward.sinks: "cef+tls://log:6514/x" has a part too many or too few: write `},
		{"sink with a question", off + "[forward]\nsinks = [\"cef+tls://log:6514?a=b\"]\n", `w.toml:5: forward.sinks: "cef+tls://log:6514?a=b" has a part too many or too few: write `},
		{"sink with a user", off + "[forward]\nsinks = [\"cef+tls://u@log:6514\"]\n", `w.toml:5: forward.sinks: "cef+tls://u@log:6514" has a part too many or too few: write `},
		{"sink with a port too high", off + "[forward]\nsinks = [\"dicom+tls://log:65536\"]\n", `w.toml:5: forward.sinks: "dicom+tls://log:65536" has no port that exists: write `},
		{"sink whose name is none", off + "[forward]\nsinks = [\"dicom+tls://log:6514#a/b\"]\n", `w.toml:5: forward.sinks: "dicom+tls://log:6514#a/b" names no host: write `},
		{"sink twice", off + "[forward]\nsinks = [\"cef+tls://log:6514\", \"cef+tls://log:6514#x\"]\n", `w.toml:5: forward.sinks: "cef+tls://log:6514" stands twice: write it once`},
		{"too many sinks", off + "[forward]\nsinks = [" + strings.Repeat(`"cef+tls://b:1",`, 5) + "]\n", `w.toml:5: forward.sinks: has 5 entries: write at most 4`},
		{"no broker", "version = 1\n", `w.toml: uplink.brokers: names no broker: name one, or write enabled = false under [uplink]`},
		{"no server name", "version = 1\n[uplink]\nbrokers = [\"tls://b:8883\"]\n", `w.toml: uplink.server_name: is missing: write the name that the broker's certificate carries`},
		{"the topmost error first", "version = 1\nbring_up = 1\n[log]\nlevel = 1\n", `w.toml:2: bring_up: must be true or false, not a whole number`},
		{"too large", "version = 1\n#" + strings.Repeat("x", MaxSize), `w.toml: is larger than 65536 bytes: this is not a wardd.toml`},
		{"a long value is cut", "version = 1\n[log]\nlevel = \"" + strings.Repeat("x", 200) + "\"\n", `w.toml:3: log.level: "` + strings.Repeat("x", 80) + `..." is not known`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Parse("w.toml", []byte(row.text))
			if err == nil {
				t.Fatalf("want an error, got %+v", got)
			}
			var e *Error
			if !errors.As(err, &e) || e.File != "w.toml" {
				t.Errorf("error is a %T: %v", err, err)
			}
			if !strings.HasPrefix(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %s\nwant %s", err, row.want)
			}
			if diff := cmp.Diff(Config{}, got); diff != "" {
				t.Errorf("a refused file gave settings:\n%s", diff)
			}
		})
	}
}

// Verifies: SR-015
func TestParseSink(t *testing.T) {
	for text, want := range map[string]Sink{
		"rfc5424+tls://log.example:6514":         {"rfc5424+tls://log.example:6514", RFC5424, "log.example:6514", ""},
		"cef+tls://10.0.0.7:6515#siem.example":   {"cef+tls://10.0.0.7:6515", CEF, "10.0.0.7:6515", "siem.example"},
		"dicom+tls://[fd00::7]:6514#arr.example": {"dicom+tls://[fd00::7]:6514", DICOM, "[fd00::7]:6514", "arr.example"},
	} {
		if got, err := ParseSink(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestFileThatCannotBeOpened(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "open configuration: ") {
		t.Errorf("got %v", err)
	}
}

// Whatever the bytes are: no panic, and either an error or settings within
// their bounds.
func FuzzParse(f *testing.F) {
	whole, err := os.ReadFile("testdata/whole.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("version = 1\n[uplink]\nenabled = false\n"))
	f.Add([]byte("version = 1\n[[journal]]\njournal.max_bytes = 1\n"))
	f.Add([]byte("version = 1\n\"\" = 1\na.b.c = { d = [[]] }\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("x", b)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		if c.Version != Version || c.ReleaseThreshold < 1 || c.Journal.MaxBytes < minJournal || c.Integrity.IMAPoll < minPoll {
			t.Errorf("out of bounds: %+v", c)
		}
	})
}
