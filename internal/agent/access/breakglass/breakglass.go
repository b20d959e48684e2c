// Package breakglass takes down emergency access (blueprint, section 9, rule 7; HIPAA
// 164.312(a)(2)(ii)): a host application that lets somebody in without the usual
// rights says so, and it is recorded at once. It is never refused and never waited for
// longer than a moment: the patient comes first, and what cannot be recorded is said
// in the answer. The person's name stays on the device; an id links it to the record.
package breakglass

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"ward/internal/device/statefile"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// patience is how long an asker waits for the record's disk.
	patience = 2 * time.Second
	// maxRole, maxWhy and maxPerson bound the texts, in bytes.
	maxRole   = 64
	maxWhy    = 200
	maxPerson = 128
	// maxNotes bounds the names that are kept on the device; the oldest go.
	maxNotes = 64
	// burst and every bound what is recorded one by one: an application in a loop must
	// not push everything else out of the record. What is beyond it is counted and told.
	burst = 64
	every = 2 * time.Second
	// summarize is how often what was counted is told.
	summarize = 10 * time.Second
	// maxWaiting bounds the records that a disk which does not answer holds up.
	maxWaiting = 64
)

// Recorder takes events into the journal; it returns when a grave one is durable.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Config of the desk.
type Config struct {
	Notes    string       // file with the persons' names; empty: they are not kept
	Kept     func() error // why the record is not durable now; nil: it is
	Recorder Recorder
	Alive    func() // called at least every ten seconds
	Log      *slog.Logger
}

// Answer is what the host application gets, in any case.
type Answer struct {
	ID       string `json:"id"`               // that of the event
	Recorded bool   `json:"recorded"`         // it is in the record
	Detail   string `json:"detail,omitempty"` // what is wrong with that, or with the request
}

// Note is an access as it stays on the device.
type Note struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	By     string    `json:"by"` // who reported it: event.ByRoot, event.ByService
	Role   string    `json:"role"`
	Why    string    `json:"why"`
	Person string    `json:"person,omitempty"`
}

// Desk takes accesses down. It is safe for concurrent use.
type Desk struct {
	c       Config
	waiting chan struct{}

	noting sync.Mutex // the file

	mu     sync.Mutex
	taken  int
	at     time.Time // when taken was right
	excess int       // accesses that were only counted
	first  time.Time
	last   Note
}

// New makes a desk; Run tells what was only counted.
func New(c Config) *Desk {
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Kept == nil {
		c.Kept = func() error { return nil }
	}
	return &Desk{c: c, waiting: make(chan struct{}, maxWaiting)}
}

// Report takes an access down, whatever the request says: what cannot be read is left
// out, and said so. by is the role of who reports it.
func (d *Desk) Report(ctx context.Context, by string, request []byte) Answer {
	var in struct{ Role, Why, Person string }
	detail := ""
	if err := json.Unmarshal(request, &in); err != nil {
		detail = `the request is not {"role":"…","why":"…"}; what could be read is recorded`
	}
	n := Note{ID: newID(), Time: time.Now().UTC(), By: by, Role: line(in.Role, maxRole), Why: line(in.Why, maxWhy), Person: line(in.Person, maxPerson)}
	if !d.admit(n) {
		return Answer{ID: n.ID, Recorded: true, Detail: join(detail, fmt.Sprintf("more than %d at once: it is counted, and recorded with others within %s", burst, summarize))}
	}
	select {
	case d.waiting <- struct{}{}:
	default:
		return Answer{ID: n.ID, Detail: join(detail, "the record does not answer")}
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-d.waiting }()
		done <- d.record(context.WithoutCancel(ctx), n)
	}()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case err := <-done:
		switch {
		case err != nil:
			return Answer{ID: n.ID, Detail: join(detail, err.Error())}
		case d.c.Kept() != nil:
			detail = join(detail, "it is in memory only: "+d.c.Kept().Error())
		}
		return Answer{ID: n.ID, Recorded: true, Detail: detail}
	case <-wait.C:
		return Answer{ID: n.ID, Detail: join(detail, "the record's disk does not answer; it is tried on")}
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// record records an access, and then keeps the name beside it.
func (d *Desk) record(ctx context.Context, n Note) error {
	err := d.c.Recorder.Record(ctx, of(n, nil))
	if err != nil {
		d.c.Log.Error("record event", "type", event.BreakGlass, "error", err)
		err = fmt.Errorf("it is not recorded: %w", err)
	}
	if kept := d.note(n); kept != nil {
		d.c.Log.Warn("keep the person's name", "error", kept)
	}
	return err
}

// of is the event of an access: its role and why without the person's name, should it
// stand there too.
func of(n Note, repeated *event.Repeated) event.Event {
	report := struct {
		ID   string `json:"id"`
		Role string `json:"role"`
		Why  string `json:"why"`
		By   string `json:"by"`
	}{n.ID, without(n.Role, n.Person), without(n.Why, n.Person), n.By}
	b, err := json.Marshal(report)
	if err != nil {
		panic("breakglass: encode report: " + err.Error())
	}
	return event.Event{Type: event.BreakGlass, Time: n.Time, Severity: finding.Critical, Report: b, Repeated: repeated}
}

// admit says whether an access is recorded by itself; else it is counted.
func (d *Desk) admit(n Note) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.taken == 0 {
		d.at = n.Time
	}
	if back := int(n.Time.Sub(d.at) / every); back > 0 {
		d.taken, d.at = max(0, d.taken-back), d.at.Add(time.Duration(back)*every)
	}
	if d.taken < burst {
		d.taken++
		return true
	}
	if d.excess == 0 {
		d.first = n.Time
	}
	d.excess++
	d.last = n
	return false
}

// Run tells what was only counted, until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	t := time.NewTicker(summarize)
	defer t.Stop()
	for {
		d.c.Alive()
		select {
		case <-ctx.Done():
			d.summary(context.WithoutCancel(ctx))
			return nil
		case <-t.C:
			d.summary(ctx)
		}
	}
}

func (d *Desk) summary(ctx context.Context) {
	d.mu.Lock()
	count, first, last := d.excess, d.first, d.last
	d.excess = 0
	d.mu.Unlock()
	if count == 0 {
		return
	}
	if err := d.c.Recorder.Record(ctx, of(last, &event.Repeated{Count: count, First: first, Last: last.Time})); err != nil {
		d.c.Log.Error("record event", "type", event.BreakGlass, "error", err)
		d.mu.Lock()
		if d.excess == 0 {
			d.last = last
		}
		d.excess, d.first = d.excess+count, first
		d.mu.Unlock()
	}
}

// Notes are the accesses that are kept on the device, with the persons' names, oldest
// first: for root at the bedside alone.
func (d *Desk) Notes() ([]Note, error) {
	d.noting.Lock()
	defer d.noting.Unlock()
	return d.notes()
}

func (d *Desk) notes() ([]Note, error) {
	if d.c.Notes == "" {
		return nil, errors.New("names are not kept on this device")
	}
	b, err := statefile.Read(d.c.Notes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody was let in
	}
	if err != nil {
		return nil, err
	}
	var ns []Note
	if err := json.Unmarshal(b, &ns); err != nil {
		return nil, fmt.Errorf("read the notes of emergency access: %w", err)
	}
	return ns, nil
}

// note keeps an access on the device. A file that cannot be read is begun anew.
func (d *Desk) note(n Note) error {
	d.noting.Lock()
	defer d.noting.Unlock()
	if d.c.Notes == "" {
		return nil
	}
	ns, _ := d.notes()
	if len(ns) >= maxNotes {
		ns = ns[len(ns)-maxNotes+1:]
	}
	b, err := json.Marshal(append(ns, n))
	if err != nil {
		return err
	}
	return statefile.Write(d.c.Notes, b)
}

// newID is one that nobody can guess and that tells nothing.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// line is a text as one line of bounded length.
func line(s string, limit int) string {
	s = event.Visible(strings.Join(strings.Fields(s[:min(len(s), 4*limit)]), " "))
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// without replaces the words of a name in a text, in capitals or not. Words of less
// than three letters are no names.
func without(text, name string) string {
	letter := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	for word := range strings.FieldsFuncSeq(name, letter) {
		if len([]rune(word)) < 3 {
			continue
		}
		for _, found := range strings.FieldsFunc(text, letter) {
			if strings.EqualFold(found, word) {
				text = strings.ReplaceAll(text, found, "(person)")
			}
		}
	}
	return text
}
