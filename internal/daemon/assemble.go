package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/health"
	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/localapi"
	"ward/internal/agent/uplink"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

// Bounds within which each role promises progress; a role calls more often.
const (
	fastBound = 30 * time.Second
	slowBound = 3 * time.Minute
)

// birthWait is how long the first connection waits for the verdict on the boot,
// so that the birth can name the release; a device that cannot judge its boot
// connects all the same.
const birthWait = 10 * time.Second

// readerGroup is the group whose members may ask the local socket (the service
// technician's and the host application's).
const readerGroup = 902

// worryAfter is the silence after which the fleet should worry.
const worryAfter = 15 * time.Minute

// capabilities are what this device can tell; the birth names them.
var capabilities = []string{"measured-boot", "ima", "journal", "receipts", "evidence"}

// assemble makes the roles.
func (d *daemon) assemble() {
	chip := tpm.NewLazy(d.config.TPM.Device)
	boot := d.assembleBoot(chip)
	gate := d.assembleUpdate(chip, boot)
	conditions := health.NewConditions(history{d.journal}, d.boot)
	d.add("conditions", 0, func(ctx context.Context) error { return conditions.Run(ctx, d.alive("conditions")) })

	who := identity.New(identity.Config{
		State: d.config.Paths.State, Trust: d.config.Paths.Trust, Tenant: d.source.Tenant, Device: d.source.Device,
		Floor: boot.builtAt, Keys: reporting{chip, idstore.Open(d.config.Paths.State)}, Recorder: d.journal, Alive: d.alive("identity"), Log: d.log.With("role", "identity"),
	})
	d.add("identity", slowBound, who.Run)

	var link *uplink.Uplink
	if d.config.Uplink.Enabled && len(d.config.Uplink.Brokers) > 0 {
		receipts, err := anchors.Keys(filepath.Join(d.config.Paths.Trust, "receipt"))
		if err != nil {
			d.log.Error("load receipt keys; no receipt will be accepted", "error", err)
		}
		challenges, err := anchors.Keys(filepath.Join(d.config.Paths.Trust, "challenge"))
		if err != nil {
			d.log.Error("load challenge keys; no question of the fleet will be answered", "error", err)
		}
		link = uplink.New(uplink.Config{
			Brokers: d.config.Uplink.Brokers, ServerName: d.config.Uplink.ServerName, KeepAlive: d.config.Uplink.Keepalive,
			WorryAfter: worryAfter, Tenant: d.source.Tenant, Device: d.source.Device, Epoch: d.journal.Epoch(),
			Birth: func() presence.Status {
				return presence.Status{
					Boot: d.boot, Session: d.session, Release: boot.releaseVersion(), Version: Version(), Capabilities: capabilities,
				}
			},
			Receipts: receipts, Challenges: challenges, Attester: prover{boot.attester}, Journal: d.journal, Recorder: d.journal, Credentials: who,
			Alive: d.alive("uplink"), Log: d.log.With("role", "uplink"),
		})
		d.add("uplink", slowBound, func(ctx context.Context) error {
			boot.wait(ctx, birthWait)
			return link.Run(ctx)
		})
	}
	api := localapi.New(localapi.Config{
		Socket: d.config.Paths.Socket, Readers: []uint32{readerGroup}, Journal: d.journal,
		Alive: d.alive("localapi"), Log: d.log.With("role", "localapi"),
		Status: func() localapi.Status {
			s := d.status(boot, who, link, conditions)
			s.Update = describeUpdate(gate.Status())
			return s
		},
		Actions: []localapi.Action{confirmUpdate(gate)},
	})
	d.add("localapi", fastBound, api.Run)
}

// add puts a role on the list; a bound of zero means that it waits for others
// and may be still for as long as they are.
func (d *daemon) add(name string, bound time.Duration, run func(context.Context) error) {
	d.roles = append(d.roles, role{name, bound, run})
}

// reporting gives the identity its key.
type reporting struct {
	chip  *tpm.Lazy
	store *idstore.Store
}

// signTimeout bounds one signature with the waiting for other commands.
const signTimeout = 10 * time.Second

// ReportingKey is the newest reporting key that has a certificate.
func (r reporting) ReportingKey(ctx context.Context) (crypto.Signer, error) {
	all, err := r.store.Generations(enrolment.Reporting)
	for _, g := range all {
		if g.Chain != nil {
			return r.chip.BlobSigner(ctx, tpm.Blob{Public: g.Key.Public, Private: g.Key.Private}, nil, signTimeout)
		}
	}
	return nil, errors.Join(err, fmt.Errorf("look for the reporting key: %w", tpm.ErrNoKey))
}

// prover has the attester answer the fleet's questions.
type prover struct{ *attester.Attester }

func (p prover) Evidence(ctx context.Context, c *receipt.Challenge) ([]byte, error) {
	if c == nil {
		return p.Attester.Evidence(ctx, attester.Question{})
	}
	return p.Attester.Evidence(ctx, attester.Question{Nonce: c.Nonce, Boot: c.Boot, EventLog: c.EventLog, List: c.List})
}
