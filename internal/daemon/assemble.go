package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/fleetkeys"
	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/agent/uplink"
	"ward/internal/daemon/bedside"
	"ward/internal/daemon/filescan"
	"ward/internal/daemon/filewatch"
	"ward/internal/daemon/keyuse"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
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

// signerGroup (wardsign) is the group whose members may use the device's keys
// through the local socket. They need to be readers too, to open it.
const signerGroup = 903

// worryAfter is the silence after which the fleet should worry.
const worryAfter = 15 * time.Minute

// capabilities are what this device can tell; the birth names them.
var capabilities = []string{"measured-boot", "ima", "journal", "receipts", "evidence"}

// assemble makes the roles.
func (d *daemon) assemble() {
	chip := d.tpm()
	d.pin(chip)
	boot := d.assembleBoot(chip)
	d.assembleSelf(boot)
	gate := d.assembleUpdate(chip, boot)
	d.assemblePosture(chip, boot)
	people := d.assembleAccess(boot)
	checkpoints := d.assembleAnchor(chip, boot)
	scanner := d.assembleScan(boot, people.Lease)
	watched := d.assembleLive(boot, scanner)
	conditions := health.NewConditions(history{d.journal}, d.boot)
	d.add("conditions", 0, func(ctx context.Context) error { return conditions.Run(ctx, d.alive("conditions")) })

	var link *uplink.Uplink
	who := d.assembleIdentity(chip, boot, func() time.Time {
		if link == nil {
			return time.Time{}
		}
		return link.Status().FleetTime
	})
	if d.config.Uplink.Enabled && len(d.config.Uplink.Brokers) > 0 {
		receipts, err := anchors.Keys(filepath.Join(d.config.Paths.Trust, "receipt"))
		if err != nil {
			d.log.Error("load receipt keys; no receipt will be accepted", "error", err)
		}
		challenges, err := anchors.Keys(filepath.Join(d.config.Paths.Trust, "challenge"))
		if err != nil {
			d.log.Error("load challenge keys; no question of the fleet will be answered", "error", err)
		}
		keys := fleetkeys.Open(filepath.Join(d.config.Paths.State, fleetkeys.File), receipts, challenges, d.log.With("role", "uplink"))
		link = uplink.New(uplink.Config{
			Brokers: d.config.Uplink.Brokers, ServerName: d.config.Uplink.ServerName, KeepAlive: d.config.Uplink.Keepalive,
			Proxy: d.config.Uplink.Proxy, DailyBytes: uint64(d.config.Uplink.DailyBytes),
			WorryAfter: worryAfter, Tenant: d.source.Tenant, Device: d.source.Device, Epoch: d.journal.Epoch(),
			Birth: func() presence.Status {
				return presence.Status{
					Boot: d.boot, Session: d.session, Release: boot.releaseVersion(), Version: Version(), Capabilities: capabilities,
				}
			},
			Receipts: keys.Receipts, Challenges: keys.Challenges, Rotations: keys, Attester: prover{boot.attester}, Journal: d.journal, Recorder: d.recorder, Credentials: who, Outcome: who.Outcome, Outdated: who.Outdated,
			Replaced: d.replaced, Alive: d.alive("uplink"), Log: d.log.With("role", "uplink"),
		})
		d.add("uplink", slowBound, func(ctx context.Context) error {
			boot.wait(ctx, birthWait)
			return link.Run(ctx)
		})
	}
	sinks := d.assembleSinks(who.TLS)
	use := keyuse.New(who, d.recorder)
	api := localapi.New(localapi.Config{
		Socket: d.config.Paths.Socket, Readers: []uint32{readerGroup}, Signers: []uint32{signerGroup}, Journal: d.journal,
		Alive: d.alive("localapi"), Log: d.log.With("role", "localapi"),
		Status: func() localapi.Status {
			s := d.status(boot, who, link, conditions)
			s.Update = describeUpdate(gate.Status())
			s.Journal.Anchor = describeAnchor(checkpoints.Status())
			s.Identity.Signed = use.Signed()
			s.Sinks = describeSinks(sinks)
			people.Describe(&s)
			s.Watch = filewatch.Describe(watched.Status())
			s.Scan = filescan.Describe(scanner.Status())
			return s
		},
		Actions: slices.Concat(use.Actions(), people.Actions(), filescan.Actions(scanner), []localapi.Action{
			confirmUpdate(gate), bedside.Acknowledge(conditions, d.recorder), takeCheckpoint(checkpoints), boot.posture.Tell(func() localapi.Release { r, _ := boot.describe(); return r }), filewatch.Tell(boot.names), localapi.TellInventory(boot.software),
		}),
	})
	d.add("localapi", fastBound, api.Run)
}

// tpm is the TPM of all lives: a role that did not stop in time may still use it.
func (d *daemon) tpm() *tpm.Lazy {
	if d.chip == nil {
		d.chip = tpm.NewLazy(d.config.TPM.Device)
	}
	return d.chip
}

// add puts a role on the list; a bound of zero means that it waits for others
// and may be still for as long as they are.
func (d *daemon) add(name string, bound time.Duration, run func(context.Context) error) {
	d.roles = append(d.roles, role{name, bound, run})
}

// prover has the attester answer the fleet's questions.
type prover struct{ *attester.Attester }

func (p prover) Evidence(ctx context.Context, c *receipt.Challenge) ([]byte, error) {
	if c == nil {
		return p.Attester.Evidence(ctx, attester.Question{})
	}
	return p.Attester.Evidence(ctx, attester.Question{Nonce: c.Nonce, Boot: c.Boot, EventLog: c.EventLog, List: c.List})
}
