package access

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"ward/internal/device/audit"
	"ward/internal/device/utmp"
	"ward/internal/trust/event"
)

// record is the journal, a line for each event.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) Record(_ context.Context, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.TrimPrefix(e.Type, "ward.") + " " + string(e.Report)
	if f := e.Finding; f != nil {
		text = fmt.Sprintf("%s %s: %s", strings.TrimPrefix(e.Type, "ward.finding."), f.Code, f.Detail)
	}
	r.lines = append(r.lines, text)
	return nil
}

// take gives what was recorded since it was last asked.
func (r *record) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.lines, "\n")
	r.lines = nil
	return out
}

// kernel is an audit that says what a test has it say.
type kernel struct {
	say chan audit.Record
	err chan error
}

func newKernel() *kernel {
	return &kernel{say: make(chan audit.Record), err: make(chan error)}
}

func (k *kernel) Receive(ctx context.Context, heard func()) (audit.Record, error) {
	for {
		select {
		case <-ctx.Done():
			return audit.Record{}, ctx.Err()
		case err := <-k.err:
			return audit.Record{}, err
		case r := <-k.say:
			heard()
			if r.Type != 0 {
				return r, nil
			}
		}
	}
}

func hide(name string) string { return fmt.Sprintf("~%d", len(name)) }

// files are those of a device; a test changes their content.
type device struct {
	record
	mu    sync.Mutex
	files fstest.MapFS
	state string
}

func (d *device) Open(name string) (fs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files.Open(name)
}

func (d *device) write(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = &fstest.MapFile{Data: append([]byte(nil), content...)}
}

const passwd = "root:x:0:0::/root:/bin/sh\npump:x:901:901::/:/bin/false\nannap:x:1000:1000:Anna Petersen:/home/annap:/bin/sh\nbroken\n:x:5:\nx:y:z\ntoor:x:0:0::/:/bin/sh\n"

func newDevice(t *testing.T) *device {
	return &device{state: filepath.Join(t.TempDir(), "logins"), files: fstest.MapFS{"etc/passwd": {Data: []byte(passwd)}}}
}

func (d *device) run(t *testing.T, k Audit, missing error) (w *Watch, stop func()) {
	w = New(Config{Audit: k, Missing: missing, Root: d, Boot: "b", State: d.state, Hide: hide, Recorder: d})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = w.Run(ctx); close(done) }()
	synctest.Wait()
	return w, func() { cancel(); <-done }
}

// What the audit says of logins and rights is told, and names nobody.
//
// Verifies: SR-101
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDevice(t), newKernel()
		w, stop := d.run(t, k, nil)
		defer stop()
		if s := w.Status(); s.Source != "none" || !strings.Contains(s.Detail, "audit=1") {
			t.Errorf("before it speaks: %+v", s)
		}
		if got := d.take(); !strings.HasPrefix(got, "raised access.no-source: the kernel's audit says nothing") {
			t.Errorf("before it speaks: %s", got)
		}
		k.say <- audit.Record{} // of a type that does not matter
		time.Sleep(poll)
		synctest.Wait()
		if got := d.take(); w.Status() != (Status{Source: "audit"}) || got != "cleared access.no-source: logins are seen by audit" {
			t.Errorf("when it has spoken: %+v, %s", w.Status(), got)
		}
		type r = audit.Record
		for i, row := range []struct {
			r    r
			want string
		}{
			{r{Type: audit.UserLogin, Success: true, Session: 3, AUID: 0, UntrustedAccount: "uid 0", UntrustedTerminal: "/dev/ttyS0", UntrustedProgram: "/bin/login"},
				`access.session {"what":"login","source":"audit","terminal":"serial","account":"root"}` + "\nincident access.root-login: at a terminal of class serial"},
			{r{Type: audit.UserLogin, Success: true, Session: 4, AUID: 1000, UntrustedAccount: "uid 1000", UntrustedTerminal: "ssh", UntrustedProgram: "/usr/sbin/sshd", Remote: true},
				`access.session {"what":"login","source":"audit","terminal":"ssh","account":"~5"}`},
			{r{Type: audit.UserLogin, Success: true, Session: 5, UntrustedAccount: "pump", UntrustedTerminal: "tty1"},
				`access.session {"what":"login","source":"audit","terminal":"console","account":"pump"}`},
			{r{Type: audit.UserStart, Success: true, Session: 4, AUID: 1000, UntrustedAccount: "root", UntrustedTerminal: "/dev/pts/0", UntrustedProgram: "/bin/su"},
				`access.privilege {"what":"su","source":"audit","terminal":"local","account":"root","by":"~5","success":true}`},
			{r{Type: audit.UserEnd, Success: true, Session: 4, UntrustedAccount: "root", UntrustedProgram: "/bin/su"}, ""},
			{r{Type: audit.UserCmd, Success: true, Session: 4, AUID: 1000, UntrustedProgram: "/usr/bin/sudo"},
				`access.privilege {"what":"sudo","source":"audit","terminal":"local","by":"~5","success":true}`},
			{r{Type: audit.UserStart, Success: true, Session: 4, UntrustedProgram: "/usr/bin/sudo"}, ""},
			{r{Type: audit.UserStart, Success: true, Session: 9, UntrustedProgram: "/usr/sbin/crond"}, ""},
			{r{Type: audit.UserEnd, Success: true, Session: 4, UntrustedAccount: "annap", UntrustedProgram: "/usr/sbin/sshd", Remote: true},
				`access.session {"what":"logout","source":"audit","terminal":"ssh","account":"~5"}`},
			{r{Type: audit.UserEnd, Success: true, Session: 4, UntrustedProgram: "/usr/sbin/sshd"}, ""},
			{r{Type: audit.AddUser, Success: true, AUID: audit.None, UntrustedAccount: "backdoor", UntrustedTerminal: "pts/1"},
				`access.privilege {"what":"account-added","source":"audit","terminal":"local","account":"~8","success":true}`},
			{r{Type: audit.AddUser, Success: false, UntrustedAccount: "backdoor"}, ""},
			{r{Type: audit.UserAuth, PID: 7, UntrustedAccount: "Anna Petersen", UntrustedTerminal: "tty1"},
				`access.session {"what":"failed","source":"audit","terminal":"console","account":"~13"}`},
			{r{Type: audit.UserLogin, PID: 7, UntrustedAccount: "Anna Petersen", UntrustedTerminal: "tty1"}, ""}, // the same failure again
			{r{Type: audit.AnomPromiscuous}, "incident access.anomaly: a network interface listens to all traffic"},
			{r{Type: audit.AnomPromiscuous, Ended: true}, ""},
			{r{Type: audit.AnomAbend}, ""},
			{r{Type: 2110}, "incident access.anomaly: of type 2110"},
		} {
			k.say <- row.r
			synctest.Wait()
			if got := d.take(); got != row.want {
				t.Errorf("row %d: %s\nwant %s", i, got, row.want)
			}
		}
		k.err <- fmt.Errorf("hear: %w", audit.ErrLost)
		k.err <- fmt.Errorf("parse: %w", audit.ErrForm)
		synctest.Wait()
		if got := d.take(); got != "incident access.records-lost: the kernel's audit had more to say than was taken" {
			t.Errorf("when records are lost: %s", got)
		}
		k.err <- errors.New("socket gone")
		time.Sleep(poll)
		synctest.Wait()
		if got := d.take(); w.Status().Source != "none" || got != "raised access.no-source: socket gone" {
			t.Errorf("when it has ended: %+v, %s", w.Status(), got)
		}
	})
}

// Failures are a finding when they are many in a short time.
//
// Verifies: SR-101
func TestRepeatedFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDevice(t), newKernel()
		_, stop := d.run(t, k, nil)
		defer stop()
		fail := func(pause time.Duration, pid uint32) int {
			k.say <- audit.Record{Type: audit.UserAuth, PID: pid, Time: time.Now(), UntrustedTerminal: "ssh"}
			synctest.Wait()
			time.Sleep(pause)
			return strings.Count(d.take(), "incident access.login-failed-repeatedly: 5 within 4m0s, the last at a terminal of class ssh")
		}
		for i, row := range []struct {
			pause time.Duration
			want  int
		}{
			{11 * time.Minute, 0}, {time.Minute, 0}, {time.Minute, 0}, {time.Minute, 0}, {time.Minute, 0}, {time.Minute, 1}, {time.Minute, 0},
		} {
			if got := fail(row.pause, uint32(i)); got != row.want {
				t.Errorf("failure %d: %d findings, want %d", i, got, row.want)
			}
		}
	})
}

// entry is a record of struct utmp.
func entry(kind utmp.Type, pid int32, line, user, host string, seconds int64) []byte {
	b := make([]byte, utmp.Size())
	ne := binary.NativeEndian
	ne.PutUint16(b, uint16(kind))
	ne.PutUint32(b[4:], uint32(pid))
	copy(b[8:40], line)
	copy(b[44:76], user)
	copy(b[76:332], host)
	if utmp.Size() == 400 {
		ne.PutUint64(b[344:], uint64(seconds))
	} else {
		ne.PutUint32(b[340:], uint32(seconds))
	}
	return b
}

// Without the audit the login programs' files tell, from this boot's begin on and once.
//
// Verifies: SR-101
func TestFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip()
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		old := append(entry(utmp.Login, 1, "tty1", "root", "", 5), entry(utmp.Boot, 0, "~", "reboot", "6.1", 6)...)
		content := append(old, entry(utmp.Login, 2, "ttyS0", "root", "", 7)...)
		d.write(wtmpFile, content)
		w, stop := d.run(t, nil, errors.New("CAP_AUDIT_READ is missing"))
		if s := w.Status(); s.Source != "utmp" || s.Detail != "CAP_AUDIT_READ is missing" {
			t.Errorf("status %+v", s)
		}
		want := `access.session {"what":"login","source":"utmp","terminal":"serial","account":"root"}` + "\nincident access.root-login: at a terminal of class serial"
		if got := d.take(); got != want {
			t.Errorf("recorded %s\nwant %s", got, want)
		}
		content = append(content, entry(utmp.Login, 3, "pts/0", "annap", "10.1.2.3", 8)...)
		content = append(content, entry(utmp.Dead, 3, "pts/0", "", "", 9)...)
		content = append(content, entry(utmp.Dead, 3, "pts/0", "", "", 9)...) // again, and nobody was there
		d.write(wtmpFile, content)
		d.write(btmpFile, entry(utmp.Login, 4, "tty1", "Anna Petersen", "", 9))
		time.Sleep(poll)
		synctest.Wait()
		want = `access.session {"what":"login","source":"utmp","terminal":"ssh","account":"~5"}` + "\n" +
			`access.session {"what":"logout","source":"utmp","terminal":"ssh","account":"~5"}` + "\n" +
			`access.session {"what":"failed","source":"utmp","terminal":"console","account":"~13"}`
		if got := d.take(); got != want {
			t.Errorf("recorded %s\nwant %s", got, want)
		}
		stop()

		// Who left while no daemon ran is told by the next one, with what was known of him.
		d.write(wtmpFile, append(content, entry(utmp.Dead, 2, "ttyS0", "", "", 10)...))
		_, stop = d.run(t, nil, nil)
		if got := d.take(); got != `access.session {"what":"logout","source":"utmp","terminal":"serial","account":"root"}` {
			t.Errorf("behind a restart: %s", got)
		}
		stop()
	})
}

// A device that keeps utmp alone tells who is there and who is not any more; one
// without anything says so.
//
// Verifies: SR-101
func TestUtmpAloneAndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		w, stop := d.run(t, nil, errors.New("CONFIG_AUDIT"))
		defer stop()
		if got := d.take(); w.Status().Source != "none" || got != "raised access.no-source: CONFIG_AUDIT" {
			t.Errorf("with nothing: %+v, %s", w.Status(), got)
		}
		there := entry(utmp.Login, 2, "tty1", "annap", "", 7)
		for i, row := range []struct {
			content []byte
			want    string
		}{
			{there, `access.session {"what":"login","source":"utmp","terminal":"console","account":"~5"}` + "\ncleared access.no-source: logins are seen by utmp"},
			{there, ""},
			{entry(utmp.Login, 3, "tty1", "root", "", 9), `access.session {"what":"login","source":"utmp","terminal":"console","account":"root"}` + "\nincident access.root-login: at a terminal of class console"},
			{entry(utmp.Dead, 3, "tty1", "", "", 9), `access.session {"what":"logout","source":"utmp","terminal":"console","account":"root"}`},
		} {
			d.write(utmpFile, row.content)
			time.Sleep(poll)
			synctest.Wait()
			if got := d.take(); got != row.want {
				t.Errorf("look %d: %s\nwant %s", i, got, row.want)
			}
		}
	})
}

// A kernel that was started with its audit on counts before it says anything; then the
// files are not told as well.
//
// Verifies: SR-101
func TestOneSourceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		d.write("proc/cmdline", []byte("quiet audit=1 ro\n"))
		d.write(utmpFile, entry(utmp.Login, 2, "tty1", "root", "", 7))
		w, stop := d.run(t, newKernel(), nil)
		defer stop()
		if got := d.take(); w.Status() != (Status{Source: "audit"}) || got != "" {
			t.Errorf("%+v, recorded %s", w.Status(), got)
		}
	})
}

func TestTerminals(t *testing.T) {
	for name, want := range map[string]string{
		"tty1": console, "/dev/tty63": console, "console": console, "/dev/ttyS0": serial, "ttyUSB3": serial, "ttymxc1": serial, "hvc0": serial,
		"ssh": network, "pts/0": local, "cron": local, "": local, "tty": local, ":0": local, "Anna Petersen": local,
	} {
		if got := terminalOf(name, "/bin/login", false); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	if got := terminalOf("pts/0", "/usr/sbin/dropbear", false); got != network {
		t.Errorf("dropbear's is %s", got)
	}
}
