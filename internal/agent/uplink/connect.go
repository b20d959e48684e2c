package uplink

import (
	"context"
	"crypto/tls"
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

// standing is a connection that a broker has admitted.
type standing struct {
	conn   Publisher
	broker string
	rank   int // its place in the order of preference, 0 for the first
	using  *tls.Config
}

// connect tries every broker once, in their order.
func (u *Uplink) connect(ctx context.Context) (*standing, error) {
	config, err := u.credentials(ctx)
	if err != nil {
		u.setState("no-identity", "", err)
		return nil, fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	u.setState("connecting", "", nil)
	st, refused, err := u.dial(ctx, config, u.config.Brokers)
	if refused {
		u.config.Outcome(config, false)
	}
	return st, err
}

func (u *Uplink) credentials(ctx context.Context) (*tls.Config, error) {
	wait, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	config, err := u.config.Credentials.TLS(wait)
	if err != nil {
		return nil, err
	}
	config.ServerName = u.config.ServerName
	return config, nil
}

// dial tries brokers once, in their order. The error is the one that tells most:
// a broker that was refused before one that was not there. refused says that one
// refused the device, or its key failed.
func (u *Uplink) dial(ctx context.Context, config *tls.Config, brokers []string) (st *standing, refused bool, err error) {
	will, err := presence.Encode(u.presence(presence.Lost))
	if err != nil {
		return nil, false, err
	}
	var worst error
	for rank, broker := range brokers {
		u.config.Alive()
		conn, err := u.config.Connect(ctx, mqtt.Options{
			Broker: broker, Proxy: u.config.Proxy, ClientID: u.config.Device, TLS: config, KeepAlive: u.config.KeepAlive, Log: u.config.Log,
			Will: &mqtt.Will{Topic: u.topic(presence.State), Payload: will, Retain: true}, MaxIncoming: maxIncoming, MaxMessage: maxMessage,
		})
		if err == nil {
			return &standing{conn, broker, rank, config}, false, nil
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
	return nil, refused, worst
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
// that refuses the device or breaks the protocol, at once; one that cannot be
// reached, or to which the proxy opens no way, after a grace. What is known to be
// wrong stays until a connection stands: a network that is gone mends no
// certificate.
func (u *Uplink) failed(ctx context.Context, err error) {
	if errors.Is(err, errNoIdentity) {
		return
	}
	u.setState("connecting", "", err)
	u.config.Log.Info("no connection to the fleet", "error", err)
	if errors.Is(err, mqtt.ErrProtocol) || causeOf(err) == mqtt.Protocol {
		u.protocol.raise(ctx, u, finding.New(finding.LinkProtocol, err.Error()))
		return
	}
	code, early := finding.LinkDown, time.Since(u.lastSeen) < downGrace
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
	case mqtt.ProxyRefused:
		code = finding.LinkProxyRefused
		if early || u.link.holds() && u.link.current.Code != finding.LinkDown {
			return
		}
	default:
		if early || u.link.holds() {
			return
		}
	}
	u.link.raise(ctx, u, finding.New(code, err.Error()))
}
