package mqtt_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/device/mqtt/mqtttest"
)

// tinyproxy is a real proxy; lines are more for its configuration.
func tinyproxy(t *testing.T, lines string) string {
	t.Helper()
	program, err := exec.LookPath("tinyproxy")
	if err != nil {
		t.Skip("tinyproxy is not installed: run 'make deps'")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "Port %d\nListen 127.0.0.1\nAllow 127.0.0.1\nLogLevel Critical\nLogFile \"/dev/null\"\nMaxClients 20\n%s", address.Port, lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-d", "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if c, err := net.Dial("tcp", address.String()); err == nil {
			c.Close()
			return "http://" + address.String()
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("tinyproxy does not listen")
	return ""
}

// mosquitto is reached in every way there is: straight and in a websocket, with
// and without a proxy, ours and a real one. The environment names a proxy that
// is not there, and nobody asks it.
//
// Verifies: SR-064
func TestEveryWayToARealBroker(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	p := mqtttest.NewPKI(t)
	broker := mqtttest.StartMosquitto(t, p, mqtttest.Setup{})
	device, fleet, stranger := p.Client(t, "pump-1"), p.Client(t, "wardfleet"), mqtttest.NewPKI(t).Client(t, "pump-1")
	stranger.RootCAs = p.Pool
	backend, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.URL(), ClientID: "wardfleet", TLS: fleet})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	if err := backend.Subscribe(t.Context(), "ward/v1/+/+/up/#"); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{broker.URL(), broker.WebsocketURL()} {
		for _, through := range []string{"nothing", "a proxy", "tinyproxy"} {
			t.Run(address[:3]+" through "+through, func(t *testing.T) {
				var proxy string
				var ours *mqtttest.Proxy
				switch through {
				case "a proxy":
					ours = mqtttest.StartProxy(t, nil)
					proxy = ours.URL()
				case "tinyproxy":
					proxy = tinyproxy(t, "")
				}
				c, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: address, Proxy: proxy, ClientID: "pump-1", TLS: device})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.Subscribe(t.Context(), "ward/v1/acme/pump-1/down/receipt"); err != nil {
					t.Fatal(err)
				}
				secret := []byte("what nobody on the way may read")
				for _, payload := range [][]byte{secret, bytes.Repeat([]byte("x"), mqtt.MaxPayload)} {
					if err := c.Publish(t.Context(), "ward/v1/acme/pump-1/up/event", false, payload); err != nil {
						t.Fatal(err)
					}
					if m := <-backend.Messages(); !bytes.Equal(m.Payload, payload) {
						t.Errorf("%d bytes arrived, want %d", len(m.Payload), len(payload))
					}
					if err := backend.Publish(t.Context(), "ward/v1/acme/pump-1/down/receipt", false, payload); err != nil {
						t.Fatal(err)
					}
					if m := <-c.Messages(); !bytes.Equal(m.Payload, payload) {
						t.Errorf("%d bytes came down, want %d", len(m.Payload), len(payload))
					}
				}
				if ours != nil {
					_, target, _ := strings.Cut(address, "://")
					target, _, _ = strings.Cut(target, "/")
					if got := fmt.Sprint(ours.Targets()); got != "[CONNECT "+target+"]" {
						t.Errorf("the proxy was asked for %s", got)
					}
					if seen := ours.Seen(); len(seen) < 2*mqtt.MaxPayload || bytes.Contains(seen, secret) || bytes.Contains(seen, []byte("pump-1")) {
						t.Errorf("of %d bytes the proxy could read some", len(seen))
					}
				}
				_, err = mqtt.Connect(t.Context(), mqtt.Options{Broker: address, Proxy: proxy, ClientID: "pump-1", TLS: stranger})
				var e *mqtt.ConnectError
				if !errors.As(err, &e) || e.Cause != mqtt.Refused {
					t.Errorf("a client of another authority: %v, want it refused", err)
				}
			})
		}
	}
}

// What the proxy does to a connection is told as the proxy's doing.
//
// Verifies: SR-064
func TestProxyThatRefuses(t *testing.T) {
	p := mqtttest.NewPKI(t)
	broker, nobody := mqtttest.StartBroker(t, p.Server(t), nil), mqtttest.StartBroker(t, nil, nil)
	nobody.Stop()
	other := mqtttest.NewPKI(t).Server(t)
	say := func(answer string) func(net.Conn, *http.Request) bool {
		return func(c net.Conn, _ *http.Request) bool { io.WriteString(c, answer); return false }
	}
	for _, c := range []struct {
		name   string
		answer func(net.Conn, *http.Request) bool
		target string
		cause  mqtt.Cause
		text   string
	}{
		{"wants a password", say("HTTP/1.1 407 Give \x1b[31m me\r\nProxy-Authenticate: Basic\r\n\r\n"), broker.URL(), mqtt.ProxyRefused, "the proxy refuses: 407 Proxy Authentication Required"},
		{"forbids", say("HTTP/1.1 403 x\r\nContent-Length: 5\r\n\r\nhello"), broker.URL(), mqtt.ProxyRefused, "the proxy refuses: 403 Forbidden"},
		{"finds nobody", nil, nobody.URL(), mqtt.ProxyRefused, "the proxy refuses: 502 Bad Gateway"},
		{"redirects", say("HTTP/1.1 302 x\r\nLocation: http://elsewhere/\r\n\r\n"), broker.URL(), mqtt.ProxyRefused, "the proxy refuses: 302 Found"},
		{"is no proxy", say("220 mail.example ESMTP\r\n"), broker.URL(), mqtt.ProxyRefused, "the proxy does not answer in HTTP"},
		{"hangs up", say(""), broker.URL(), mqtt.ProxyRefused, "the proxy hangs up"},
		{"hangs up in mid-answer", say("HTTP/1.1 200 OK\r\nVia: "), broker.URL(), mqtt.ProxyRefused, "the proxy hangs up"},
		{"speaks first", say("HTTP/1.1 200 OK\r\n\r\nhello"), broker.URL(), mqtt.ProxyRefused, "the proxy speaks before the broker can"},
		{"answers without end", func(c net.Conn, _ *http.Request) bool { endless(c, "HTTP/1.1 200 OK\r\n", "X-Filler: "); return false },
			broker.URL(), mqtt.ProxyRefused, "the proxy's answer has a head of more than 16384 bytes"},
		{"one line without end", func(c net.Conn, _ *http.Request) bool { endless(c, "HTTP/1.1 200 ", "x"); return false },
			broker.URL(), mqtt.ProxyRefused, "the proxy's answer has a head of more than 16384 bytes"},
		{"says nothing", func(c net.Conn, _ *http.Request) bool { io.Copy(io.Discard, c); return false }, broker.URL(), mqtt.Unreachable, "no answer: context deadline exceeded"},
		{"opens TLS", func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_ = tls.Server(c, other).Handshake()
			return false
		}, broker.URL(), mqtt.ServerUntrusted, "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy := mqtttest.StartProxy(t, c.answer)
			patience := 10 * time.Second
			if c.cause == mqtt.Unreachable {
				patience = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var err error
			grown := allocated(func() {
				_, err = mqtt.Connect(ctx, mqtt.Options{Broker: c.target, Proxy: proxy.URL(), ClientID: "pump-1", TLS: p.Client(t, "pump-1")})
			})
			var e *mqtt.ConnectError
			if !errors.As(err, &e) || e.Cause != c.cause || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want cause %q with %q", err, c.cause, c.text)
			}
			if err != nil && (!strings.Contains(err.Error(), "through proxy "+strings.TrimPrefix(proxy.URL(), "http://")) || strings.ContainsAny(err.Error(), "\n\x1b")) {
				t.Errorf("told as %q", err)
			}
			if grown > 8<<20 {
				t.Errorf("%d bytes were reserved", grown)
			}
		})
	}
	t.Run("tinyproxy wants a password", func(t *testing.T) {
		proxy := tinyproxy(t, "BasicAuth user secret\n")
		_, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.URL(), Proxy: proxy, ClientID: "pump-1", TLS: p.Client(t, "pump-1")})
		var e *mqtt.ConnectError
		if !errors.As(err, &e) || e.Cause != mqtt.ProxyRefused || !strings.Contains(err.Error(), "407") {
			t.Errorf("%v", err)
		}
	})
	t.Run("not there", func(t *testing.T) {
		_, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker.URL(), Proxy: "http://" + nobody.Address(), ClientID: "pump-1", TLS: p.Client(t, "pump-1")})
		var e *mqtt.ConnectError
		if !errors.As(err, &e) || e.Cause != mqtt.Unreachable {
			t.Errorf("%v, want unreachable", err)
		}
	})
}

// endless writes one thing and then another until the other side hangs up, or
// 100 MiB have gone.
func endless(c io.Writer, first, again string) {
	if _, err := io.WriteString(c, first); err != nil {
		return
	}
	block := []byte(strings.Repeat(again+strings.Repeat("y", 90)+"\r\n", 1000))
	if again == "x" {
		block = bytes.Repeat([]byte("x"), 1<<17)
	}
	for sent := 0; sent < 100<<20; sent += len(block) {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// allocated is what a function reserves, with what the test's own servers do
// meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestAddresses(t *testing.T) {
	w := newWorld(t)
	for broker, proxy := range map[string]string{
		"ws://127.0.0.1:80/mqtt":        "",
		"wss:///mqtt":                   "",
		"wss://u:p@127.0.0.1/mqtt":      "",
		"wss://127.0.0.1/mqtt?a=b":      "",
		"wss://127.0.0.1/mqtt#a":        "",
		"tls://127.0.0.1:8883/mqtt":     "",
		"tls://127.0.0.1:8883":          "http://127.0.0.1",
		"tls://127.0.0.1:8884":          "https://127.0.0.1:3128",
		"tls://127.0.0.1:8885":          "http://user:secret@127.0.0.1:3128",
		"tls://127.0.0.1:8886":          "http://127.0.0.1:3128/path",
		"tls://127.0.0.1:8887":          "127.0.0.1:3128",
		"tls://127.0.0.1:8888":          "socks5://127.0.0.1:3128",
		"tls://secret:\x7f@127.0.0.1:1": "",
	} {
		c, err := mqtt.Connect(t.Context(), mqtt.Options{Broker: broker, Proxy: proxy, ClientID: "pump-1", TLS: w.client})
		if err == nil {
			c.Close()
			t.Errorf("%s through %q: connected", broker, proxy)
			continue
		}
		if strings.Contains(err.Error(), "secret") && proxy != "" {
			t.Errorf("the error repeats a password: %v", err)
		}
		var e *mqtt.ConnectError
		if errors.As(err, &e) {
			t.Errorf("%s through %q was tried: %v", broker, proxy, err)
		}
	}
}
