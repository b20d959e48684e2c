package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/integrity/scan"
	"ward/internal/device/bootclock"
	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/event"
	"ward/internal/trust/watch"
)

// The tree that is scanned: as many bytes in a file as an image of Debian has.
const (
	scanFiles = 10_000
	scanBytes = 775 << 20
)

// scanRole, in the environment, makes TestScanProcess one of the processes that are
// measured: "role folder". Each stands for itself, so that the kernel counts its time
// and its memory.
const scanRole = "WARD_BENCH_SCAN"

// scans measures the comparison of all files with a release, beside the hashing that
// it cannot avoid and two programs that do the like.
func scans(t *testing.T, b *table) {
	dir := t.TempDir()
	makeTree(t, dir)
	type role struct{ name, what string }
	roles := []role{{"hash", "bare hashing, Go"}, {"scan", "Ward"}}
	times := make(map[string][]time.Duration)
	var resident, idle float64
	for range 5 {
		for _, r := range roles {
			text, cpu := process(t, r.name, dir)
			times[r.name] = append(times[r.name], cpu)
			if r.name == "scan" {
				if _, err := fmt.Sscan(text, &idle, &resident); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
		}
	}
	floor := taken(times["hash"])
	ward := taken(times["scan"])
	b.budgeted(fmt.Sprintf("full scan of %d files, %d MiB: processor's time", scanFiles, scanBytes>>20),
		fmt.Sprintf("%s, bare hashing %s: %.2f", short(median(ward)), short(median(floor)), ward.over(floor)), ward.over(floor), 1.6, "1.60")
	over := (resident - idle) / 1024
	b.budgeted("resident memory of a full scan over idle", fmt.Sprintf("%.1f MiB over %.1f MiB", over, idle/1024), over, 8, "8 MiB")
	noted := func(what string, cpu time.Duration, err error) {
		if err != nil {
			b.noted("the same by "+what, "not measured: "+err.Error())
			return
		}
		b.noted("the same by "+what, fmt.Sprintf("%s: %.1f of the bare hashing", short(cpu), float64(cpu)/float64(median(floor))))
	}
	cpu, err := openssl(dir)
	noted("openssl dgst, content alone", cpu, err)
	cpu, err = aide(dir)
	noted("aide --check", cpu, err)
	cpu, err = samhain(dir)
	noted("samhain -t check", cpu, err)
	share(t, b, dir)
	jitters(t, b, dir)
}

// makeTree makes dir/tree and its baseline in dir/baseline.
func makeTree(t *testing.T, dir string) {
	r := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 2*scanBytes/scanFiles)
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	for i := range scanFiles {
		writeFile(t, filepath.Join(dir, "tree", fmt.Sprintf("folder%03d/file%05d", i/100, i)), content[:r.IntN(len(content))])
	}
	out, err := os.Create(filepath.Join(dir, "baseline"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := baseline.NewWriter(out)
	if err != nil {
		t.Fatal(err)
	}
	walk, err := fstree.Open(filepath.Join(dir, "tree"), fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer walk.Close()
	for {
		n, err := walk.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n.Type == baseline.File {
			_, err = walk.SHA256(1 << 30)
		}
		var e baseline.Entry
		if err == nil {
			e, err = n.Entry()
		}
		if err == nil {
			err = w.Write(e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func scanCommand(role, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestScanProcess$", "-test.v")
	cmd.Env = append(os.Environ(), scanRole+"="+role+" "+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// process runs one role to its end, and gives what it said and its processor's time.
func process(t *testing.T, role, dir string) (string, time.Duration) {
	t.Helper()
	text, err := scanCommand(role, dir).CombinedOutput()
	_, said, found := strings.Cut(string(text), "says: ")
	if err != nil || !found {
		t.Fatalf("%s: %v: %s", role, err, text)
	}
	said, _, _ = strings.Cut(said, "\n")
	words := strings.SplitN(said, " ", 2)
	cpu, err := time.ParseDuration(words[0])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(words[1:], ""), cpu
}

// used is this process's processor time, user and system.
func used() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is a line of proc_pid_status(5), in KiB.
func memory(name string) int {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), name+":")
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n
}

// TestScanProcess is one of the measured processes.
func TestScanProcess(t *testing.T) {
	role, dir, ok := strings.Cut(os.Getenv(scanRole), " ")
	if !ok {
		t.Skip("it is started by make bench")
	}
	switch role {
	case "hash":
		before := used()
		hashTree(t, dir)
		fmt.Printf("says: %s\n", used()-before)
	case "scan":
		files := openIndex(t, dir)
		runtime.GC()
		idle, before := memory("VmRSS"), used()
		scanOnce(t, files, dir)
		fmt.Printf("says: %s %d %d\n", used()-before, idle, memory("VmHWM"))
	case "free": // the budget switched off, in the common classes
		for files := openIndex(t, dir); ; {
			scanOnce(t, files, dir)
		}
	case "paced":
		paced(t, dir)
	case "loop":
		fmt.Printf("says: %s %d\n", used(), controlLoop().Nanoseconds())
	}
}

func openIndex(t *testing.T, dir string) *baseline.Index {
	f, err := os.Open(filepath.Join(dir, "baseline"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := baseline.Digest(f)
	if err != nil {
		t.Fatal(err)
	}
	x, err := baseline.LoadIndex(f, info.Size(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func scanOnce(t *testing.T, files *baseline.Index, dir string) {
	want, err := files.Entries()
	if err != nil {
		t.Fatal(err)
	}
	p := scan.Pass{Root: filepath.Join(dir, "tree"), Want: want, Tell: func(d diff.Difference, _ bool) { t.Fatalf("%+v", d) }}
	if err := p.Run(); err != nil || p.Counts.ByHash != scanFiles {
		t.Fatalf("%+v, %v", p.Counts, err)
	}
}

// hashTree reads and hashes every file and does nothing else.
func hashTree(t *testing.T, dir string) {
	h, buf, sum := sha256.New(), make([]byte, 128<<10), make([]byte, 0, 32)
	err := filepath.WalkDir(filepath.Join(dir, "tree"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h.Reset()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, buf); err != nil {
			return err
		}
		sum = h.Sum(sum[:0])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type discard struct{}

func (discard) Record(context.Context, event.Event) error { return nil }

// paced is the role as the daemon runs it, with the default policy, scan after scan.
func paced(t *testing.T, dir string) {
	files := openIndex(t, dir)
	s := scan.New(scan.Config{
		Root: filepath.Join(dir, "tree"), Files: func() *baseline.Index { return files }, Policy: watch.Default,
		Boot: "bench", Now: bootclock.Now, Recorder: discard{},
	})
	s.Ask(false)
	go func() {
		for {
			time.Sleep(time.Second)
			if s.Status().State == scan.Waiting {
				s.Ask(false)
			}
		}
	}()
	_ = s.Run(t.Context())
}

// share measures what a scan takes of the processor while it keeps to its budget.
func share(t *testing.T, b *table, dir string) {
	cmd := scanCommand("paced", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the start, and the reading of the baseline
	before, begun := usedBy(cmd.Process.Pid), time.Now()
	time.Sleep(8 * time.Second)
	cpu, took := usedBy(cmd.Process.Pid)-before, time.Since(begun)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	percent := 100 * cpu.Seconds() / took.Seconds()
	limit := watch.Default().Scan
	b.budgeted(fmt.Sprintf("share of one processor of a scan within %d %% and %d KiB/s", limit.CPUPercent, limit.ReadKiBPerSecond),
		fmt.Sprintf("%.1f %%", percent), percent, float64(limit.CPUPercent), fmt.Sprintf("%d %%", limit.CPUPercent))
}

// usedBy is another process's time (proc_pid_stat(5), fields 14 and 15, in clock ticks
// of a hundredth of a second).
func usedBy(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// jitters holds the lateness of a control loop beside a scan against that without
// one. The loop is the pump's of the reference device.
func jitters(t *testing.T, b *table, dir string) {
	const pairs = 20
	var with, without [2][]float64
	for range pairs {
		for i, role := range []string{"paced", "free"} {
			without[i] = append(without[i], late(t, dir))
			cmd := scanCommand(role, dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
			with[i] = append(with[i], late(t, dir))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	var ratio [2]float64
	for i := range ratio {
		var all []float64
		for j := range with[i] {
			all = append(all, with[i][j]/without[i][j])
		}
		ratio[i] = median(all)
	}
	text := func(i int) string {
		return fmt.Sprintf("%.0f µs, without %.0f µs: %.2f", median(with[i]), median(without[i]), ratio[i])
	}
	b.budgeted("lateness of a control loop beside a scan, p99", text(0), ratio[0], 1.25, "1.25")
	says := ": worse, as it must be"
	if ratio[1] <= ratio[0] {
		says = ": it does not show on this host"
	}
	b.noted("the same beside a scan without budget and idle class", text(1)+says)
}

func late(t *testing.T, dir string) float64 {
	said, _ := process(t, "loop", dir)
	ns, err := strconv.ParseFloat(strings.TrimSpace(said), 64)
	if err != nil {
		t.Fatal(err)
	}
	return ns / 1e3
}

// controlLoop wakes up every 10 ms for two seconds, as the pump does, and gives the
// 99th percentile of its lateness.
func controlLoop() time.Duration {
	const period, wakes = 10 * time.Millisecond, 200
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 10}
	_ = unix.SchedSetAttr(0, &attr, 0) // where nobody may, in the common class, with and without a scan
	now := func() time.Duration {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		return time.Duration(ts.Nano())
	}
	var all []time.Duration
	for next := now() + period; len(all) < wakes; next += period {
		ts := unix.NsecToTimespec(int64(next))
		for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
		}
		all = append(all, now()-next)
	}
	slices.Sort(all)
	return all[(wakes*99+99)/100-1]
}

// openssl hashes the same files with SHA-256.
func openssl(dir string) (time.Duration, error) {
	cmd := exec.Command("sh", "-c", "find tree -type f -print0 | xargs -0 openssl dgst -sha256 >/dev/null")
	cmd.Dir = dir
	return timeOf(cmd, 0)
}

// timeOf is the processor's time of a program and its children. Any status up to
// most is a good one.
func timeOf(cmd *exec.Cmd, most int) (time.Duration, error) {
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() <= most) {
		return 0, fmt.Errorf("%w: %.200s", err, text)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// aide checks the tree against a database of its own.
func aide(dir string) (time.Duration, error) {
	config := filepath.Join(dir, "aide.conf")
	text := fmt.Sprintf("database_in=file:%[1]s/aide.db\ndatabase_out=file:%[1]s/aide.new\nreport_url=file:%[1]s/aide.log\n%[1]s/tree p+u+g+s+ftype+sha256\n", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return 0, err
	}
	if _, err := timeOf(exec.Command("aide", "--config="+config, "--init"), 0); err != nil {
		return 0, err
	}
	if err := os.Rename(filepath.Join(dir, "aide.new"), filepath.Join(dir, "aide.db")); err != nil {
		return 0, err
	}
	return timeOf(exec.Command("aide", "--config="+config, "--check"), 0)
}

// samhain checks the tree against a database of its own. Its configuration has a
// fixed place, which is covered in a mount namespace.
func samhain(dir string) (time.Duration, error) {
	config := filepath.Join(dir, "samhainrc")
	text := fmt.Sprintf(`[ReadOnly]
dir=99%[1]s/tree
[Log]
MailSeverity=none
PrintSeverity=none
LogSeverity=crit
SyslogSeverity=none
ExportSeverity=none
[Misc]
Daemon=no
ChecksumTest=check
SetDatabasePath=%[1]s/samhain.db
SetLogfilePath=%[1]s/samhain.log
SetLockfilePath=%[1]s/samhain.lock
DigestAlgo=SHA256
[EOF]
`, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return 0, err
	}
	run := func(what string) (time.Duration, error) {
		return timeOf(exec.Command("unshare", "-m", "sh", "-c", "mount --bind \"$1\" /etc/samhain/samhainrc && exec samhain -t \"$2\" --foreground", "sh", config, what), 0)
	}
	if _, err := run("init"); err != nil {
		return 0, err
	}
	if _, err := os.Stat(filepath.Join(dir, "samhain.db")); err != nil {
		return 0, err
	}
	return run("check")
}
