package floors

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// rule is one law of the architecture. check reports what breaks it.
type rule struct {
	name   string
	reason string
	check  func(p *pkg, report func(ast.Node, string))
}

// Bounds of size. Tests are not counted.
const (
	maxMainLines    = 80
	maxFileLines    = 500
	maxPackageLines = 1500
)

// floorOf gives every folder its floor, by the longest prefix that fits. Within
// the folders of floors 1 to 4 each subfolder is a package with what lies
// beneath it (a typed client, fakes for tests).
var floorOf = []struct {
	folder string
	floor  int
	split  bool // each subfolder stands for itself
}{
	{"ward/internal/format", 1, true},
	{"ward/internal/trust", 2, true},
	{"ward/internal/device", 3, true},
	{"ward/internal/agent", 4, true},
	{"ward/internal/fleet", 4, true},
	{"ward/internal/lab", 5, false},
	{"ward/internal", 5, true},
	{"ward/cmd", 6, true},
	{"ward/board", 6, false},
}

// arrows are the only imports between packages of one floor.
var arrows = map[string][]string{
	"format/eventlog": {"format/pcr", "format/efi", "format/pe"},
	// what events say is apart from how the log is read: the reader decides, the words do not
	"format/bootevent": {"format/eventlog", "format/pcr", "format/efi", "format/pe"},
	"format/pcr":       {"format/sm3"},       // the one bank algorithm that Go's library does not have
	"format/est":       {"format/certsonly"}, // who speaks EST need not know what its bodies are made of
	"format/ima":       {"format/pcr"},
	"format/imasig":    {"format/ima", "format/pcr"},
	"format/userlog":   {"format/pcr"},
	"trust/event":      {"trust/finding"},
	// a manifest holds what it demands of Secure Boot and of the running device, and what the policy key signed for it
	"trust/release": {"trust/baseline", "trust/secureboot", "trust/policy", "trust/posture", "trust/watch"},
	"trust/posture": {"trust/finding"}, // what is not as the release expects is a finding
	// what a device says of its posture is part of its evidence
	"trust/evidence":   {"trust/posture"},
	"trust/enrolment":  {"trust/credential", "trust/policy", "trust/event"}, // the TPM proves itself by a credential, a service key by its policy; events name devices
	"trust/secureboot": {"trust/finding"},
	"trust/serverauth": {"trust/finding"}, // every refusal of a server is a finding with one cause
	"trust/baseline":   {"trust/finding"}, // what differs from the release is a finding
	// what build hosts learn and predict is apart from what devices read
	"trust/profile":   {"trust/release", "trust/secureboot", "trust/posture"},
	"trust/measured":  {"trust/baseline", "trust/finding"}, // one judge of the IMA list, for the appraisal and for who watches it grow
	"trust/appraisal": {"trust/*"},
	// what the fleet says of a device is what the appraisal decided, in its words
	"trust/verdict": {"trust/appraisal", "trust/finding"},
	// the register of devices is one for who enrols them and who judges their evidence
	"fleet/verifier":  {"fleet/register", "fleet/files"},
	"fleet/register":  {"fleet/files"}, // one way to write the backend's state
	"fleet/ingest":    {"fleet/files"},
	"fleet/registrar": {"fleet/register", "fleet/issue"},
	"daemon":          {"config"},
	"command":         {"cli"}, // wardd keeps the exit statuses of cli without the verbs' library
	// what a table of the device mapper says is read in one place and told as posture in another
	"device/posture": {"device/dm"},
	"lab":            {"*"},
	// the counters' names are those of the policies, the TPM's clock is the quotes'; a judgement is a finding
	"trust/checkpoint": {"trust/policy", "trust/quote", "trust/event", "trust/finding"},
	// a volume that did not open is a finding
	"trust/volume": {"trust/finding"},
	// one socket that hears the kernel and nobody else, for what it says of devices and of logins
	"device/uevent": {"device/netlink"},
	"device/audit":  {"device/netlink"},
}

var rules = []rule{
	{"floors", "who reads one package need know only the floors beneath it", checkFloors},
	{"fleet uses the link alone", "the backend runs on no device: of floor 3 only the MQTT link means the same at both ends", checkFleet},
	{"pure imports", "floors 1 and 2 run the same on device, laptop and fleet, and can be fuzzed: no IO, no logging", checkPureImports},
	{"pure calls", "the same bytes must give the same verdict: time is a parameter, order is not left to a scheduler", checkPureCalls},
	{"x509 roots and time", "without Roots the host's trust store decides, without CurrentTime a clock that nobody vouches for", checkX509},
	{"sole importer", "a library behind one package can be bounded, faked and replaced in one place", checkSoleImporters},
	{"no power to harm", "Ward reports: no code that ships may reboot, kill, block, mount, load modules or set the clock", checkHarm},
	{"no listener", "a listening network socket on a device is attack surface; the local API is a UNIX socket", checkListeners},
	{"tests only", "fakes and checks for tests must not reach a shipped program", checkTestPackages},
	{"names", "a package named for no idea collects everything", checkNames},
	{"no dot import", "it hides where a name comes from, from readers and from these rules", checkDotImports},
	{"main size", "a main is flags, signals and one call; what is longer belongs to a floor", checkMainSize},
	{"file size", "one idea a file", checkFileSize},
	{"package size", "what is larger hides a second idea", checkPackageSize},
	{"package comment", "one paragraph says what the package is and which specification it follows", checkComment},
}

// purelyForbidden are the imports that floors 1 and 2 may not have; what lies
// beneath such a path is forbidden too.
var purelyForbidden = []string{"os", "net", "syscall", "log", "golang.org/x/sys", "plugin", "unsafe"}

// clockCalls are the functions of package time that look at a clock.
var clockCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// soleImporters name, for a library, who may import it. A library ending in /...
// includes what lies beneath it.
var soleImporters = []struct {
	library   string
	importers []string
}{
	{"github.com/eclipse/paho.mqtt.golang", []string{"ward/internal/device/mqtt"}},
	// paho brings it; what a server may do in a websocket is bounded in one place
	{"github.com/gorilla/websocket", []string{"ward/internal/device/mqtt"}},
	{"github.com/google/go-tpm/tpm2/transport/...", []string{"ward/internal/device/tpm/..."}},
	{"github.com/google/go-tpm/legacy/...", nil},
	{"github.com/google/go-tpm-tools/...", nil},
	// tests of several packages need a real TPM or a real broker, which are programs
	{"os/exec", []string{"ward/internal/lab/...", "ward/cmd/wardlab", "ward/board/...", "ward/internal/device/tpm/swtpmtest", "ward/internal/device/mqtt/mqtttest"}},
	{"github.com/spf13/...", []string{"ward/cmd/...", "ward/internal/command", "ward/internal/manpage"}},
	{"C", nil},
	{"plugin", nil},
}

// harmful are functions and constants that could act on the device, by the
// last element of their package's path.
var harmful = map[string][]string{
	"unix": {
		"Reboot", "Kill", "Tgkill", "PidfdSendSignal", "KexecLoad", "KexecFileLoad", "InitModule", "FinitModule", "DeleteModule",
		"Mount", "Unmount", "MountSetattr", "MoveMount", "PivotRoot", "Chroot", "Settimeofday", "ClockSettime", "ClockAdjtime", "Adjtimex",
		"Swapon", "Swapoff", "PtraceAttach", "PtraceSeize",
		"FAN_OPEN_PERM", "FAN_ACCESS_PERM", "FAN_OPEN_EXEC_PERM", "FAN_CLASS_CONTENT", "FAN_CLASS_PRE_CONTENT", "FAN_DENY",
	},
	"syscall": {
		"Reboot", "Kill", "Mount", "Unmount", "PivotRoot", "Chroot", "Settimeofday", "Adjtimex", "PtraceAttach",
		"Exec", "ForkExec", "StartProcess",
	},
	"os": {"FindProcess", "StartProcess"},
}

// mayHarm are the folders that never ship: the lab and the programs that run
// only inside the virtual device.
var mayHarm = []string{"ward/internal/lab/...", "ward/cmd/wardlab", "ward/board/..."}

// mayListen are the backend, the lab and the brokers of tests.
var mayListen = []string{"ward/internal/fleet/...", "ward/internal/device/mqtt/mqtttest", "ward/internal/lab/...", "ward/cmd/wardlab", "ward/cmd/wardfleet", "ward/board/..."}

// mayBind are the packages that bind a socket nobody can connect or send to from a
// network: netlink multicast takes what the kernel says, and needs Bind to name the
// group.
var mayBind = []string{"ward/internal/device/netlink"}

// listeners are the functions that open a socket for others to connect to.
var listeners = map[string][]string{
	"net":  {"Listen", "ListenTCP", "ListenUDP", "ListenIP", "ListenPacket", "ListenMulticastUDP", "ListenConfig", "FileListener", "FilePacketConn"},
	"http": {"ListenAndServe", "ListenAndServeTLS"},
	"tls":  {"Listen", "NewListener"},
	"unix": {"Bind", "Listen"},
}

var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared", "lib"}

func checkFloors(p *pkg, report func(ast.Node, string)) {
	if p.floor == 0 {
		report(nil, "has no floor: put it on one, or give its folder a floor in rules_test.go")
		return
	}
	for _, imp := range p.imports() {
		if !isWard(imp.path) {
			continue
		}
		floor, unit := locate(imp.path)
		switch {
		case unit == p.unit || floor < p.floor && floor != 0:
		case floor == p.floor && allowed(p.unit, unit):
		default:
			report(imp.node, p.place()+" imports "+place(floor, unit))
		}
	}
}

func allowed(from, to string) bool {
	folder, _, _ := strings.Cut(to, "/")
	return slices.Contains(arrows[from], to) || slices.Contains(arrows[from], folder+"/*") || slices.Contains(arrows[from], "*")
}

func checkFleet(p *pkg, report func(ast.Node, string)) {
	if !strings.HasPrefix(p.unit, "fleet/") {
		return
	}
	for _, imp := range p.imports() {
		if strings.HasPrefix(imp.path, "ward/internal/device/") && imp.path != "ward/internal/device/mqtt" {
			report(imp.node, "imports "+imp.path)
		}
	}
}

func (p *pkg) pure() bool { return p.floor == 1 || p.floor == 2 }

func checkPureImports(p *pkg, report func(ast.Node, string)) {
	if !p.pure() {
		return
	}
	for _, imp := range p.imports() {
		for _, f := range purelyForbidden {
			if imp.path == f || strings.HasPrefix(imp.path, f+"/") {
				report(imp.node, "imports "+imp.path)
			}
		}
	}
}

func checkPureCalls(p *pkg, report func(ast.Node, string)) {
	if !p.pure() {
		return
	}
	for n := range p.nodes() {
		if g, ok := n.(*ast.GoStmt); ok {
			report(g, "starts a goroutine")
		}
		if name := p.selected(n, "time"); slices.Contains(clockCalls, name) {
			report(n, "uses time."+name)
		}
	}
}

func checkX509(p *pkg, report func(ast.Node, string)) {
	complete := make(map[ast.Node]bool)
	for n := range p.nodes() {
		if p.selected(n, "crypto/x509") == "SystemCertPool" {
			report(n, "uses the host's trust store")
		}
		if lit, ok := n.(*ast.CompositeLit); ok && p.selected(lit.Type, "crypto/x509") == "VerifyOptions" {
			complete[lit.Type] = hasFields(lit, "Roots", "CurrentTime")
		}
		if p.selected(n, "crypto/x509") == "VerifyOptions" && !complete[n] {
			report(n, "x509.VerifyOptions without Roots and CurrentTime in one literal")
		}
	}
}

func hasFields(lit *ast.CompositeLit, names ...string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok {
				return false
			}
			id, ok := kv.Key.(*ast.Ident)
			return ok && id.Name == name
		}) {
			return false
		}
	}
	return true
}

func checkSoleImporters(p *pkg, report func(ast.Node, string)) {
	for _, imp := range p.imports() {
		for _, s := range soleImporters {
			if matches(imp.path, s.library) && !matchesAny(p.path, s.importers) {
				report(imp.node, "imports "+imp.path+", which is for "+orNobody(s.importers))
			}
		}
	}
}

func orNobody(importers []string) string {
	if len(importers) == 0 {
		return "nobody"
	}
	return strings.Join(importers, ", ")
}

func checkHarm(p *pkg, report func(ast.Node, string)) {
	if matchesAny(p.path, mayHarm) {
		return
	}
	reportSelected(p, harmful, report)
}

func checkListeners(p *pkg, report func(ast.Node, string)) {
	if matchesAny(p.path, mayListen) {
		return
	}
	local := make(map[ast.Node]bool)
	for n := range p.nodes() {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
			if network, ok := call.Args[0].(*ast.BasicLit); ok && network.Value == `"unix"` {
				local[call.Fun] = true
			}
		}
	}
	reportSelected(p, listeners, func(n ast.Node, what string) {
		if !local[n] && (what != "uses unix.Bind" || !matchesAny(p.path, mayBind)) {
			report(n, what)
		}
	})
}

// reportSelected reports the uses of named functions and constants of packages.
func reportSelected(p *pkg, banned map[string][]string, report func(ast.Node, string)) {
	imports := p.imports()
	for n := range p.nodes() {
		for _, imp := range imports {
			last := path.Base(imp.path)
			if name := p.selected(n, imp.path); name != "" && slices.Contains(banned[last], name) && isSystem(imp.path) {
				report(n, "uses "+last+"."+name)
				break
			}
		}
	}
}

func isSystem(imp string) bool {
	return !strings.Contains(imp, ".") && !isWard(imp) || strings.HasPrefix(imp, "golang.org/x/")
}

func checkTestPackages(p *pkg, report func(ast.Node, string)) {
	for _, imp := range p.imports() {
		if strings.HasSuffix(imp.path, "test") && !strings.HasSuffix(p.path, "test") || imp.path == "testing" && !strings.HasSuffix(p.path, "test") {
			report(imp.node, "imports "+imp.path)
		}
	}
}

func checkNames(p *pkg, report func(ast.Node, string)) {
	if slices.Contains(emptyNames, path.Base(p.path)) {
		report(nil, "is named "+path.Base(p.path))
	}
}

func checkDotImports(p *pkg, report func(ast.Node, string)) {
	for n := range p.nodes() {
		if spec, ok := n.(*ast.ImportSpec); ok && spec.Name != nil && spec.Name.Name == "." {
			report(n, "imports "+spec.Path.Value+" with a dot")
		}
	}
}
