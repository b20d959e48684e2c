package uplink_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"ward/internal/agent/uplink"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	mebi = 1 << 20
	day  = 24 * time.Hour
	// slack is what the count may be over a bound: messages that go whatever it
	// is (the status), and the one that goes over it.
	slack = 64 << 10
)

func (m *memory) grave(t testing.TB) {
	t.Helper()
	f := finding.New(finding.IMAChangedFile, "something ran")
	if err := m.Record(t.Context(), event.Event{Type: event.FindingIncident, Subject: "test", Severity: f.Severity, Finding: &f}); err != nil {
		t.Fatal(err)
	}
}

func (n *net) lastAtFleet() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// At the budget records wait until a grave one is among them, and go up to it; at
// twice the budget all wait; the next day they go. The order is never left.
//
// Verifies: SR-066
func TestBudget(t *testing.T) {
	run(t, func(c *uplink.Config) { c.DailyBytes = mebi }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		m.add(t, 4000)
		time.Sleep(10 * time.Minute)
		held := n.lastAtFleet()
		if s := u.Status(); s.SentToday < mebi || s.SentToday > mebi+slack || s.DailyBytes != mebi || held == 0 || held == uint64(m.len()) {
			t.Fatalf("%d of %d records at the fleet, %+v", held, m.len(), s)
		}
		if got := m.findings(4001); fmt.Sprint(got) != "[raised link.budget-spent]" {
			t.Errorf("recorded %v", got)
		}
		m.add(t, 100)
		time.Sleep(time.Hour)
		if got := n.lastAtFleet(); got != held {
			t.Errorf("record %d went up over the budget, and none of them is grave", got)
		}

		m.grave(t)
		grave := uint64(m.len())
		m.add(t, 100)
		time.Sleep(time.Hour)
		if got := n.lastAtFleet(); got != grave {
			t.Errorf("records up to %d went up, want those up to the grave one, %d", got, grave)
		}

		for range 2000 {
			m.grave(t)
		}
		time.Sleep(time.Hour)
		stopped, s := n.lastAtFleet(), u.Status()
		if stopped <= grave || stopped == uint64(m.len()) || s.SentToday < 2*mebi || s.SentToday > 2*mebi+slack {
			t.Errorf("at twice the budget: record %d of %d, %d bytes", stopped, m.len(), s.SentToday)
		}
		births := len(n.statuses())
		m.grave(t)
		time.Sleep(time.Hour)
		if got := n.lastAtFleet(); got != stopped {
			t.Errorf("record %d went up at twice the budget", got)
		}
		if got := len(n.statuses()); got < births+11 {
			t.Errorf("%d statuses in an hour: the device falls silent", got-births)
		}

		time.Sleep(4 * day)
		if got := n.lastAtFleet(); got != uint64(m.len()) || m.Acknowledged() != got {
			t.Errorf("four days later %d of %d are at the fleet, %d confirmed", got, m.len(), m.Acknowledged())
		}
		raised, cleared := 0, 0
		for _, f := range m.findings(0) {
			switch f {
			case "raised link.budget-spent":
				raised++
			case "cleared link.budget-spent":
				cleared++
			}
		}
		if raised < 2 || raised > 4 || cleared != raised {
			t.Errorf("raised %d times, cleared %d times", raised, cleared)
		}
		for s, times := range n.seen {
			if times != 1 {
				t.Errorf("record %d went up %d times", s, times)
			}
		}
	})
}

// A fleet that confirms nothing makes the uplink send again: this, too, keeps to
// the budget, and a new connection changes nothing.
//
// Verifies: SR-066
func TestBudgetBoundsWhatIsSentAgain(t *testing.T) {
	run(t, func(c *uplink.Config) { c.DailyBytes = mebi }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		n.mu.Lock()
		n.noReceipt = true
		n.mu.Unlock()
		m.grave(t)
		m.add(t, 1000)
		for range 20 {
			time.Sleep(time.Hour)
			n.current().Close()
		}
		if s := u.Status(); s.SentToday < mebi || s.SentToday > 2*mebi+slack {
			t.Errorf("%d bytes in a day in vain", s.SentToday)
		}
		n.mu.Lock()
		again, other := n.seen[2], n.seen[900]
		n.noReceipt = false
		n.mu.Unlock()
		if again <= other {
			t.Errorf("the grave record went up %d times, one behind it %d times", again, other)
		}
		time.Sleep(2 * day)
		if m.Acknowledged() != uint64(m.len()) {
			t.Errorf("%d of %d confirmed", m.Acknowledged(), m.len())
		}
	})
}

// Evidence that nobody asked for stops at 80 % of the budget, every evidence at
// the budget.
//
// Verifies: SR-066
func TestBudgetAndEvidence(t *testing.T) {
	a := &tpm{size: 10_000}
	run(t, func(c *uplink.Config) { c.Attester, c.Challenges, c.DailyBytes = a, c.Receipts, mebi }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		time.Sleep(time.Minute)
		if asked, _ := a.count(); asked != 1 {
			t.Fatalf("%d documents after the birth", asked)
		}
		for u.Status().SentToday < mebi*85/100 {
			m.add(t, 10)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(7 * time.Hour)
		if asked, _ := a.count(); asked != 1 {
			t.Errorf("at 85 %% of the budget %d documents went up unasked", asked-1)
		}
		n.current().push(n.ask(1, n.key, nil))
		time.Sleep(time.Minute)
		if got := n.arrived(); got != fmt.Sprintf("%q", []string{"", short(1)}) {
			t.Errorf("a question at 85 %%: %s", got)
		}
		m.add(t, 1000)
		time.Sleep(time.Minute)
		n.current().push(n.ask(2, n.key, nil))
		time.Sleep(time.Minute)
		if asked, _ := a.count(); asked != 2 || u.Status().SentToday < mebi {
			t.Errorf("a question over the budget was answered: %d documents, %d bytes", asked, u.Status().SentToday)
		}
		time.Sleep(day)
		if asked, _ := a.count(); asked < 3 {
			t.Error("no evidence on the next day")
		}
	})
}

// An idle day: the status every five minutes, evidence every six hours, an event
// an hour as a checkpoint of the journal is, and what the connection itself takes.
//
// Verifies: SR-066
func TestIdleDay(t *testing.T) {
	const (
		allowed  = 512 << 10
		ping     = 2 + 22     // PINGREQ in a TLS record
		headers  = 20 + 32    // of IP and TCP, with its timestamps
		pings    = 86400 / 60 // the default keepalive
		document = 16 << 10   // evidence without what the fleet holds already
	)
	a := &tpm{size: document}
	run(t, func(c *uplink.Config) { c.Attester, c.Challenges = a, c.Receipts }, func(t *testing.T, u *uplink.Uplink, m *memory, n *net) {
		time.Sleep(day) // the first day has a boot
		asked, _ := a.count()
		before, statuses, events := u.Status().SentToday, len(n.statuses()), m.len()
		if before > allowed {
			t.Errorf("the first day took %d bytes", before)
		}
		golden, err := os.ReadFile("../../../docs/contract/event-journal-checkpoint.json")
		if err != nil {
			t.Fatal(err)
		}
		checkpoint, err := event.Parse(bytes.TrimSpace(golden))
		if err != nil {
			t.Fatal(err)
		}
		for range 23 {
			time.Sleep(time.Hour)
			if err := m.Record(t.Context(), event.Event{Type: checkpoint.Type, Subject: checkpoint.Subject, Severity: checkpoint.Severity, Report: checkpoint.Report}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour - time.Minute)
		messages, now := u.Status().SentToday, 0
		now, _ = a.count()
		packets := len(n.statuses()) - statuses + m.len() - events + now - asked
		total := int(messages) + pings*ping
		onWire := total + headers*2*(pings+packets) // each is answered, and the answer acknowledged
		t.Logf("an idle day: %d bytes in %d messages (%d statuses, %d events, %d documents of evidence), %d in %d pings: %d bytes, about %d with the headers of IP and TCP; allowed %d",
			messages, packets, len(n.statuses())-statuses, m.len()-events, now-asked, pings*ping, pings, total, onWire, allowed)
		if onWire > allowed {
			t.Errorf("an idle day takes %d bytes with all headers, want at most %d", onWire, allowed)
		}
		if !slices.Contains([]int{3, 4, 5}, now-asked) {
			t.Errorf("%d documents of evidence", now-asked)
		}
	})
}
