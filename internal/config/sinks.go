package config

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// maxSinks bounds the servers beside the fleet: the hospital's log, its SIEM, its
// audit record repository, and one to change over to.
const maxSinks = 4

// Formats of sinks.
const (
	RFC5424 = "rfc5424"
	CEF     = "cef"
	DICOM   = "dicom"
)

// Sink is one syslog server.
type Sink struct {
	Name       string // as it is written, without the server's name
	Format     string // RFC5424, CEF or DICOM
	Address    string // host:port
	ServerName string // name that the server's certificate must carry; empty: the host
}

// ParseSink reads "format+tls://host:port#server-name".
func ParseSink(text string) (Sink, error) {
	wrong := "is not an address"
	u, err := url.Parse(text)
	if err == nil && len(text) <= maxText {
		wrong = checkSink(u)
	}
	if wrong != "" {
		return Sink{}, fmt.Errorf("%q %s: write rfc5424+tls://host:6514, cef+tls://host:6514 or dicom+tls://host:6514, with #name where the certificate has another name", shorten(text), wrong)
	}
	format, _ := strings.CutSuffix(u.Scheme, "+tls")
	return Sink{Name: u.Scheme + "://" + u.Host, Format: format, Address: u.Host, ServerName: u.Fragment}, nil
}

// checkSink says what is wrong with the address of a sink, empty for nothing.
func checkSink(u *url.URL) string {
	format, secure := strings.CutSuffix(u.Scheme, "+tls")
	if !secure || format != RFC5424 && format != CEF && format != DICOM {
		return "has no format of events over TLS"
	}
	if u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Opaque != "" || u.Hostname() == "" || u.Port() == "" {
		return "has a part too many or too few"
	}
	if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > math.MaxUint16 {
		return "has no port that exists"
	}
	for _, name := range []string{u.Hostname(), u.Fragment} {
		if name != "" && serverName.check(name) != nil {
			return "names no host"
		}
	}
	return ""
}

var sinks = bound{fmt.Sprintf("rfc5424+tls://, cef+tls:// or dicom+tls:// and host:port, with #server-name or without; at most %d", maxSinks), func(value any) error {
	list := value.([]string)
	if len(list) > maxSinks {
		return fmt.Errorf("has %d entries: write at most %d", len(list), maxSinks)
	}
	seen := make(map[string]bool)
	for _, text := range list {
		s, err := ParseSink(text)
		if err != nil {
			return err
		}
		if seen[s.Name] {
			return fmt.Errorf("%q stands twice: write it once", shorten(s.Name))
		}
		seen[s.Name] = true
	}
	return nil
}}
