// Package backend runs what stands beside the virtual device: mosquitto as the
// broker (mosquitto.conf(5)), and the real backend program as listener and as
// registrar. Each ends with the process that started it.
package backend

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"ward/internal/lab/pki"
	"ward/internal/lab/tool"
)

// Broker is a running mosquitto, set up as section 7 of the blueprint says:
// TLS 1.3, client certificates required, the certificate's common name as the
// user name, and an access list that names tenant and device literally.
type Broker struct{ server }

// BrokerConfig says which certificate the broker shows and whom it admits.
type BrokerConfig struct {
	Dir     string   // a folder for the configuration
	Cert    string   // name of the certificate in the PKI, "broker" by default
	Tenant  string   // the tenant of the devices
	Devices []string // device ids
}

// StartBroker starts mosquitto on a free port of 127.0.0.1 and waits until it
// accepts connections.
func StartBroker(ctx context.Context, keys *pki.Keys, c BrokerConfig) (*Broker, error) {
	if c.Cert == "" {
		c.Cert = "broker"
	}
	program, err := tool.Look("mosquitto")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make broker folder: %w", err)
	}
	acl := filepath.Join(c.Dir, "acl")
	if err := os.WriteFile(acl, brokerACL(c.Tenant, c.Devices), 0o600); err != nil {
		return nil, fmt.Errorf("write access list: %w", err)
	}
	conf := filepath.Join(c.Dir, "mosquitto.conf")
	if err := os.WriteFile(conf, brokerConf(keys, c, port, acl), 0o600); err != nil {
		return nil, fmt.Errorf("write broker configuration: %w", err)
	}
	b := &Broker{server{Port: port}}
	if err := b.start(ctx, "mosquitto", program, "-c", conf); err != nil {
		return nil, err
	}
	return b, nil
}

func brokerConf(keys *pki.Keys, c BrokerConfig, port int, acl string) []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "listener %d 127.0.0.1\n", port)
	fmt.Fprintf(&w, "cafile %s\ncertfile %s\nkeyfile %s\n", keys.File("fleet-ca.crt"), keys.File(c.Cert+".crt"), keys.File(c.Cert+".key"))
	fmt.Fprintf(&w, "tls_version tlsv1.3\nrequire_certificate true\nuse_identity_as_username true\nallow_anonymous false\n")
	fmt.Fprintf(&w, "acl_file %s\n", acl)
	if u := os.Getuid(); u == 0 {
		// As root, mosquitto would step down to a user that cannot read the keys.
		fmt.Fprintf(&w, "user root\n")
	}
	fmt.Fprintf(&w, "persistence false\nmessage_size_limit 131072\nlog_dest stderr\nlog_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S\n")
	return w.Bytes()
}

func brokerACL(tenant string, devices []string) []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "user wardfleet\ntopic read ward/v1/+/+/up/#\ntopic write ward/v1/+/+/down/#\n\n")
	fmt.Fprintf(&w, "user reader\ntopic read ward/v1/#\n")
	for _, d := range devices {
		base := "ward/v1/" + tenant + "/" + d
		fmt.Fprintf(&w, "\nuser %s\ntopic write %s/up/#\ntopic read %s/down/#\n", d, base, base)
	}
	return w.Bytes()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
