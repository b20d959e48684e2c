// Package verifier asks devices for evidence and appraises it: the Verifier of
// RFC 9334, section 4. It knows each device's attestation key, the released
// manifests with their baselines, and what earlier evidence has established; it
// asks with signed nonces that are fresh, expire and are answered once, and gives
// a verdict on whatever comes, asked or not. It judges with package appraisal
// alone, and it speaks to nobody: what carries questions and evidence calls it.
package verifier

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"ward/internal/fleet/register"
	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/verdict"
)

const (
	// DefaultEvery is the wait between two questions to one device.
	DefaultEvery = time.Hour
	// DefaultLifetime is how long a question may be answered: a slow TPM signs
	// twice within two seconds, and a long document over a slow link takes the rest.
	DefaultLifetime = time.Minute
	// questionGap is the least wait between two questions to one device, above
	// the ten seconds below which a device leaves one unanswered.
	questionGap = 15 * time.Second
	// maxQuestions is how many devices are asked at one Look: a fleet that begins
	// to listen must not have all its devices answer at once.
	maxQuestions = 200
	// maxPending bounds what is held of unfinished documents of all devices, in
	// bytes, and idle is how long one waits for its next part.
	maxPending = 256 << 20
	idle       = time.Minute
	// A device may send so many bytes and documents in a minute: three documents
	// at their longest, and more questions than it is asked.
	maxBytes     = 3 * evidence.MaxDocument
	maxDocuments = 12
	window       = time.Minute
)

// Config says with what is asked and judged.
type Config struct {
	ChallengeKey crypto.Signer      // signs questions; nil: nobody is asked
	Keys         *register.Register // the devices' attestation keys
	Releases     Releases           // what devices may run
	Every        time.Duration      // DefaultEvery if zero
	Lifetime     time.Duration      // DefaultLifetime if zero
	// StateFile keeps what is known of every device, so that a restart knows
	// replays and other keys; empty keeps it in memory only.
	StateFile string
	Random    io.Reader // of nonces; nil: crypto/rand
	Log       *slog.Logger
}

// Verifier is the role. It is not for several goroutines.
type Verifier struct {
	config  Config
	devices map[string]*device // by "tenant/device"
	nonces  nonces
	logs    logs
	pending int  // bytes of unfinished documents
	changed bool // what is known was not saved yet
}

// New reads the state file.
func New(c Config) (*Verifier, error) {
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Lifetime == 0 {
		c.Lifetime = DefaultLifetime
	}
	if c.Every < questionGap || c.Lifetime < time.Second || c.Lifetime > receipt.MaxLifetime {
		return nil, fmt.Errorf("verify evidence: a question every %s that lives for %s: want at least %s, and %s to %s",
			c.Every, c.Lifetime, questionGap, time.Second, receipt.MaxLifetime)
	}
	if c.Keys == nil {
		return nil, errors.New("verify evidence: no folder of attestation keys is given")
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	devices, err := load(c.StateFile)
	if err != nil {
		return nil, err
	}
	return &Verifier{config: c, devices: devices, nonces: nonces{random: c.Random}}, nil
}

func (v *Verifier) device(tenant, name string) *device {
	key := tenant + "/" + name
	d := v.devices[key]
	if d == nil {
		d = &device{}
		v.devices[key] = d
	}
	d.tenant, d.name = tenant, name
	return d
}

// Heard takes a device's status: one that is online with a boot that is not known
// yet is asked at the next Look.
func (v *Verifier) Heard(now time.Time, s presence.Status) {
	d := v.device(s.Tenant, s.Device)
	if s.State != presence.Online {
		d.online, d.excused = false, true
		return
	}
	d.online = true
	if s.Boot == d.boot {
		return
	}
	if d.boot != "" && d.Question != nil { // it was asked before it was started anew
		d.end(d.Question, false)
		v.changed = true
	}
	d.boot, d.next, d.misses = s.Boot, now, 0
	if d.Since != nil && d.Since.Boot == s.Boot {
		d.next = d.Accepted.Add(v.config.Every)
	}
}

// Take takes one message of evidence that came under a device's name. known tells
// the hash of a record of that device, false when the fleet does not hold it; it
// may be nil.
func (v *Verifier) Take(now time.Time, tenant, name string, message []byte, known func(epoch, sequence uint64) (chain.Hash, bool)) []verdict.Statement {
	d := v.device(tenant, name)
	if now.Sub(d.windowBegun) > window {
		d.windowBegun, d.bytes, d.documents = now, 0, 0
	}
	d.bytes += len(message)
	if d.bytes > maxBytes || d.documents >= maxDocuments {
		return d.tell(now, finding.LinkEvidenceFlood, fmt.Sprintf("more than %d bytes or %d documents in %s", maxBytes, maxDocuments, window))
	}
	held := d.parts.Held()
	document, err := d.parts.Add(message)
	v.pending += d.parts.Held() - held
	d.partCame = now
	if v.pending > maxPending {
		v.giveUp(d)
		return d.tell(now, finding.LinkEvidenceFlood, fmt.Sprintf("all devices together have more than %d bytes of unfinished documents here", maxPending))
	}
	var e evidence.Evidence
	switch {
	case err == nil && document == nil:
		return nil
	case err == nil:
		d.documents++
		sum := pcr.SHA256.Sum(document)
		if bytes.Equal(sum, d.last) {
			return nil // QoS 1 delivers at least once
		}
		d.last = sum
		e, err = evidence.Parse(document)
	}
	if err != nil {
		return d.tell(now, finding.LinkEvidenceInvalid, err.Error())
	}
	return v.judge(now, d, e, known)
}

func (v *Verifier) giveUp(d *device) {
	v.pending -= d.parts.Held()
	d.parts.Reset()
}

// Look asks who is to be asked, and tells whose answer did not come. It is called
// about once a second. Questions are kept on disk before they are handed out, so
// that a restart knows which answers belong to them.
func (v *Verifier) Look(now time.Time) (ask []verdict.Question, say []verdict.Statement, err error) {
	for _, d := range v.devices {
		if d.parts.Held() > 0 && now.Sub(d.partCame) > idle {
			v.giveUp(d)
		}
		if d.Question != nil && now.After(d.Question.Expires) {
			say = append(say, v.expired(now, d)...)
		}
		if len(ask) == maxQuestions || !v.wantsAsking(now, d) {
			continue
		}
		q, err := v.ask(now, d)
		if err != nil {
			return nil, say, err
		}
		ask = append(ask, q)
	}
	return ask, say, v.Save()
}

// Save writes what is known to the state file, if something changed.
func (v *Verifier) Save() error {
	if !v.changed || v.config.StateFile == "" {
		return nil
	}
	if err := save(v.config.StateFile, v.devices); err != nil {
		return err
	}
	v.changed = false
	return nil
}
