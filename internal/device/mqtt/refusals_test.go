package mqtt_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/trust/serverauth"
	"ward/internal/trust/serverauth/serverauthtest"
)

// Every broker that must be refused is refused, with its cause.
//
// Verifies: SR-044
func TestEveryWrongBroker(t *testing.T) {
	w := serverauthtest.NewWorld(t, "broker.example", time.Now())
	for _, s := range w.Servers {
		t.Run(s.Name, func(t *testing.T) {
			b := startBroker(t, s.TLS, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := mqtt.Connect(ctx, mqtt.Options{Broker: b.URL(), ClientID: "pump-1", TLS: w.Client(t)})
			if s.Code == "" {
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				return
			}
			var e *mqtt.ConnectError
			want := mqtt.ServerUntrusted
			if s.Step == serverauth.Name {
				want = mqtt.ServerName
			}
			if !errors.As(err, &e) || e.Cause != want {
				t.Errorf("%v, want cause %q", err, want)
			}
			if got := serverauth.Explain(err); got.Code != s.Code {
				t.Errorf("%v explained as %+v, want %s", err, got, s.Code)
			}
		})
	}
}
