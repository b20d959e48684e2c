package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/serverauth"
)

// errNoIdentity: the identity role says what is wrong; this one waits.
var errNoIdentity = errors.New("there is no usable identity yet")

// connect tries every broker once, in their order. The error is the one that
// tells most: a broker that was refused before one that was not there.
func (u *Uplink) connect(ctx context.Context) (Publisher, string, error) {
	wait, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	config, err := u.config.Credentials.TLS(wait)
	if err != nil {
		u.setState("no-identity", "", err)
		return nil, "", fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	u.setState("connecting", "", nil)
	config.ServerName = u.config.ServerName
	will, err := presence.Encode(u.presence(presence.Lost))
	if err != nil {
		return nil, "", err
	}
	var worst error
	refused := false
	for _, broker := range u.config.Brokers {
		u.config.Alive()
		conn, err := u.config.Connect(ctx, mqtt.Options{
			Broker: broker, ClientID: u.config.Device, TLS: config, KeepAlive: u.config.KeepAlive, Log: u.config.Log,
			Will: &mqtt.Will{Topic: u.topic(presence.State), Payload: will, Retain: true},
		})
		if err == nil {
			u.using = config
			return conn, broker, nil
		}
		refused = refused || causeOf(err) == mqtt.Refused || causeOf(err) == mqtt.OwnKey
		u.config.Log.Debug("connect", "broker", broker, "error", err)
		if worst == nil || causeOf(worst) == mqtt.Unreachable {
			worst = err
		}
	}
	if worst == nil {
		worst = errors.New("connect: no broker is configured")
	}
	if refused {
		u.config.Outcome(config, false)
	}
	return nil, "", worst
}

func (u *Uplink) topic(k presence.Kind) string {
	return presence.Topic(u.config.Tenant, u.config.Device, k)
}

// presence is the status message for a state. A last will is written before
// the fact and therefore has no time.
func (u *Uplink) presence(state string) presence.Status {
	s := u.config.Birth()
	s.State, s.Tenant, s.Device, s.Epoch = state, u.config.Tenant, u.config.Device, u.config.Epoch
	s.WorryAfterSeconds = int(u.config.WorryAfter.Round(time.Second) / time.Second)
	if state == presence.Online {
		s.Keys = u.keys()
	}
	if state != presence.Lost {
		now := time.Now().UTC()
		s.Time = &now
	}
	return s
}

func causeOf(err error) mqtt.Cause {
	var e *mqtt.ConnectError
	if errors.As(err, &e) {
		return e.Cause
	}
	return mqtt.Unreachable
}

// failed says what is wrong with the link: a broker that is not the fleet's,
// or that refuses the device, at once; one that cannot be reached after a
// grace. What is known to be wrong stays until a connection stands: a network
// that is gone mends no certificate.
func (u *Uplink) failed(ctx context.Context, err error) {
	if errors.Is(err, errNoIdentity) {
		return
	}
	u.setState("connecting", "", err)
	u.config.Log.Info("no connection to the fleet", "error", err)
	code := finding.LinkDown
	switch causeOf(err) {
	case mqtt.ServerUntrusted:
		code = finding.LinkServerUntrusted
		if r := serverauth.Explain(err); r.Step != serverauth.Reach {
			code = r.Code
		}
	case mqtt.ServerName:
		code = finding.LinkServerName
	case mqtt.Refused:
		code = finding.LinkRefused
	default:
		if u.link.holds() || time.Since(u.lastSeen) < downGrace {
			return
		}
	}
	u.link.raise(ctx, u, finding.New(code, err.Error()))
}
