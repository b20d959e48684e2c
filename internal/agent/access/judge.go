package access

import (
	"context"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"time"

	"ward/internal/device/audit"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Kinds of acts.
const (
	login  = "login"
	logout = "logout"
	failed = "failed"
)

// act is somebody who comes, goes, or fails to come.
type act struct {
	what     string
	source   string // audit, utmp
	terminal string // a class
	account  string // as it may leave the device; empty: not known
	key      string // tells one session from another, within the boot
}

// Classes of terminals.
const (
	console = "console" // the device's own screen and keyboard
	serial  = "serial"
	network = "ssh"
	local   = "local" // another one within the device
)

// terminalOf is the class of a terminal: names of the kernel's devices, or what the
// program calls it. The name itself is not told.
func terminalOf(name, program string, remote bool) string {
	name = strings.TrimPrefix(name, "/dev/")
	number, tty := strings.CutPrefix(name, "tty")
	switch base := path.Base(program); {
	case remote, name == "ssh", base == "sshd", base == "sshd-session", base == "dropbear":
		return network
	case name == "console", tty && number != "" && strings.Trim(number, "0123456789") == "":
		return console
	case tty && number != "", strings.HasPrefix(name, "hvc"):
		return serial
	}
	return local
}

// rights are programs that give another account's rights, with what that is called.
var rights = map[string]string{"su": "su", "sudo": "sudo", "doas": "doas", "pkexec": "pkexec", "runuser": "su"}

// changes are the acts on accounts.
var changes = map[audit.Type]string{
	audit.AddUser: "account-added", audit.DelUser: "account-removed", audit.AddGroup: "group-added", audit.DelGroup: "group-removed",
	audit.UserMgmt: "account-changed", audit.GroupMgmt: "group-changed", audit.UserChauthtok: "password-changed",
}

// anomalies are told by name; the rest by number. A program that was ended by a signal
// is no matter of access.
var anomalies = map[audit.Type]string{
	audit.AnomPromiscuous: "a network interface listens to all traffic", audit.AnomLoginFailures: "too many failed logins",
	audit.AnomLoginTime: "a login at a forbidden time", audit.AnomLoginSessions: "too many sessions",
	audit.AnomLoginAccount: "a login to a forbidden account", audit.AnomLoginLocation: "a login from a forbidden place",
}

// judge tells what a record means.
func (w *Watch) judge(ctx context.Context, r audit.Record) {
	base := path.Base(r.UntrustedProgram)
	terminal := terminalOf(r.UntrustedTerminal, r.UntrustedProgram, r.Remote)
	a := act{source: "audit", terminal: terminal, account: w.name(r.UntrustedAccount), key: strconv.FormatUint(uint64(r.Session), 10)}
	switch how, gives := rights[base]; {
	case (r.Type == audit.UserLogin || r.Type == audit.UserAuth) && !r.Success:
		if r.PID != 0 && r.PID == w.lastPID && r.Time.Sub(w.lastTime).Abs() < samePID {
			return
		}
		w.lastPID, w.lastTime = r.PID, r.Time
		a.what = failed
		w.act(ctx, a)
	case r.Type == audit.UserLogin:
		if len(w.sessions) < 1024 {
			w.sessions[r.Session] = true
		}
		a.what = login
		w.act(ctx, a)
	case (r.Type == audit.UserEnd || r.Type == audit.UserLogout) && !gives && w.sessions[r.Session]:
		delete(w.sessions, r.Session)
		a.what = logout
		w.act(ctx, a)
	case r.Type == audit.UserStart && gives && r.Success && how != "sudo", r.Type == audit.UserCmd:
		if how == "" {
			how = "sudo"
		}
		w.privilege(ctx, r, how, terminal)
	case changes[r.Type] != "" && r.Success:
		w.privilege(ctx, r, changes[r.Type], terminal)
	case r.Type.Anomaly() && r.Type != audit.AnomAbend && !r.Ended:
		number := strconv.Itoa(int(r.Type))
		what := anomalies[r.Type]
		if what == "" {
			what = "of type " + number
		}
		w.finding(ctx, event.FindingIncident, subject, finding.AccessAnomaly, what, number)
	}
}

// act tells of a session, and what is wrong with it.
func (w *Watch) act(ctx context.Context, a act) {
	severity := finding.Info
	if a.what == failed {
		severity = finding.Low
	}
	w.record(ctx, event.Event{Type: event.AccessSession, Subject: a.terminal, Severity: severity, Report: report{What: a.what, Source: a.source, Terminal: a.terminal, Account: a.account}.encode()})
	switch {
	case a.what == login && a.account == root:
		w.finding(ctx, event.FindingIncident, a.terminal, finding.AccessRootLogin, "at a terminal of class "+a.terminal, a.key)
	case a.what == failed:
		w.countFailure(ctx, a.terminal)
	}
}

func (w *Watch) countFailure(ctx context.Context, terminal string) {
	now := time.Now()
	for len(w.failures) > 0 && now.Sub(w.failures[0]) > failureWindow {
		w.failures = w.failures[1:]
	}
	if w.failures = append(w.failures, now); len(w.failures) < maxFailures {
		return
	}
	took := now.Sub(w.failures[0]).Round(time.Second)
	w.failures = nil // the next ones count anew
	detail := strconv.Itoa(maxFailures) + " within " + took.String() + ", the last at a terminal of class " + terminal
	w.finding(ctx, event.FindingIncident, terminal, finding.AccessLoginFailed, detail, "")
}

// privilege tells that somebody took other rights or changed accounts. Which command
// was run is not known here.
func (w *Watch) privilege(ctx context.Context, r audit.Record, what, terminal string) {
	by := ""
	if r.AUID != audit.None {
		by = w.name("uid " + strconv.FormatUint(uint64(r.AUID), 10))
	}
	e := report{What: what, Source: "audit", Terminal: terminal, Account: w.name(r.UntrustedAccount), By: by, Success: &r.Success}
	w.record(ctx, event.Event{Type: event.AccessPrivilege, Subject: what, Severity: finding.Low, Report: e.encode()})
}

// report is that of a ward.access.session and of a ward.access.privilege event.
type report struct {
	What     string `json:"what"`
	Source   string `json:"source"`   // audit, utmp
	Terminal string `json:"terminal"` // a class
	Account  string `json:"account,omitempty"`
	By       string `json:"by,omitempty"`      // whose login it is
	Success  *bool  `json:"success,omitempty"` // of privileges
}

func (r report) encode() json.RawMessage {
	b, err := json.Marshal(r)
	if err != nil {
		panic("access: encode report: " + err.Error())
	}
	return b
}
