package secureboot_test

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/secureboot"
)

// Vendor and list GUIDs as they are stored.
const (
	global        = "61dfe48bca93d211aa0d00e098032b8c"
	imageSecurity = "cbb219d73a3d9645a3bcdad00e67656f"
	shim          = "50ab5d6046e00043abb63dd810dd8b23"
	sha256List    = "2616c4c14c509240aca941f936934328"
	owner         = "bd9afa775903324dbd6028f4e78f784b"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// event is an event of PCR 7 whose digests are of its data, or of something
// else.
type event struct {
	kind eventlog.EventType
	data []byte
	of   []byte // nil: the data
	pcr  uint32 // 7 unless inRegister says otherwise
}

func logOf(events ...event) []byte {
	le := binary.LittleEndian
	banks := []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 105, 2)
	spec = le.AppendUint32(spec, uint32(len(banks)))
	for _, a := range banks {
		spec = le.AppendUint16(le.AppendUint16(spec, uint16(a)), uint16(a.Size()))
	}
	spec = append(spec, 0)
	b := le.AppendUint32(le.AppendUint32(nil, 0), uint32(eventlog.EVNoAction))
	b = append(le.AppendUint32(append(b, make([]byte, 20)...), uint32(len(spec))), spec...)
	for _, e := range events {
		of := e.data
		if e.of != nil {
			of = e.of
		}
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, e.pcr), uint32(e.kind)), uint32(len(banks)))
		for _, a := range banks {
			b = append(le.AppendUint16(b, uint16(a)), a.Sum(of)...)
		}
		b = append(le.AppendUint32(b, uint32(len(e.data))), e.data...)
	}
	return b
}

func variable(vendor, name string, data []byte) []byte {
	units := utf16.Encode([]rune(name))
	b := binary.LittleEndian.AppendUint64(unhex(vendor), uint64(len(units)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, data...)
}

func config(vendor, name string, data []byte) event {
	return event{eventlog.EVEFIVariableConfig, variable(vendor, name, data), nil, 7}
}

func authority(vendor, name string, data []byte) event {
	return event{eventlog.EVEFIVariableAuth, variable(vendor, name, data), nil, 7}
}

// hashes is a signature list of SHA-256 hashes, each of one repeated byte.
func hashes(bytes ...byte) []byte {
	b := unhex(sha256List)
	for _, v := range []int{28 + 48*len(bytes), 0, 48} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	for _, c := range bytes {
		b = append(append(b, unhex(owner)...), repeat(c)...)
	}
	return b
}

func repeat(c byte) pcr.Digest { return pcr.Digest(strings.Repeat(string([]byte{c}), 32)) }

func separator() event { return event{eventlog.EVSeparator, []byte{0, 0, 0, 0}, nil, 7} }

const (
	atSecureBoot = iota
	atPK
	atKEK
	atDB
	atDBX
	atSeparator
	atAuthority
)

// good is a boot of a shim with Secure Boot on.
func good() []event {
	return []event{
		atSecureBoot: config(global, "SecureBoot", []byte{1}),
		atPK:         config(global, "PK", hashes('p')),
		atKEK:        config(global, "KEK", hashes('k')),
		atDB:         config(imageSecurity, "db", hashes('d', 'e')),
		atDBX:        config(imageSecurity, "dbx", hashes('x', 'y', 'z')),
		atSeparator:  separator(),
		atAuthority:  authority(imageSecurity, "db", append(unhex(owner), repeat('d')...)),
		7:            authority(shim, "SbatLevel", []byte("sbat,1,2022052400\ngrub,2\n")),
	}
}

// strict demands what good is.
var strict = secureboot.Policy{
	Required: true, PK: []pcr.Digest{repeat('p')}, KEK: []pcr.Digest{repeat('k')}, DB: []pcr.Digest{repeat('d'), repeat('e')},
	MinimumDBX: []pcr.Digest{repeat('x'), repeat('y')}, MinimumSBAT: "2022052400",
}

func with(at int, e event) []event {
	events := good()
	events[at] = e
	return events
}

func without(at int) []event { return slices.Delete(good(), at, at+1) }

func insert(at int, more ...event) []event { return slices.Insert(good(), at, more...) }

func renamed(at int, kind eventlog.EventType) []event {
	events := good()
	events[at].kind = kind
	return events
}

func TestGoodBoot(t *testing.T) {
	s := secureboot.Derive(mustParse(t, logOf(good()...)), pcr.SHA256)
	if fs := secureboot.Judge(s, strict); len(fs) > 0 {
		t.Errorf("found %+v", fs)
	}
	if !s.Enabled.On || s.SetupMode.On || !s.SetupMode.Measured || len(s.DBX.Keys) != 3 || len(s.Authorities) != 1 || s.Shim.SBAT.Date != "2022052400" {
		t.Errorf("state %+v", s)
	}
	if got := secureboot.PolicyOf(s); !got.Required || len(got.MinimumDBX) != 3 || got.MinimumSBAT != "2022052400" || len(got.DB) != 2 {
		t.Errorf("learned %+v", got)
	}
}

// Honest firmware may add these; nothing changes.
func TestHonestOddities(t *testing.T) {
	driver := authority(imageSecurity, "db", append(unhex(owner), repeat('e')...))
	for name, events := range map[string][]event{
		"vendor variable":                   insert(atPK, config(owner, "SecureBoot", []byte{0})),
		"action":                            insert(atSeparator, event{eventlog.EVEFIAction, []byte("DMA Protection Disabled"), nil, 7}),
		"driver's authority":                insert(atSeparator, driver),
		"timestamps":                        insert(atSeparator, config(imageSecurity, "dbt", nil)),
		"audit mode off":                    insert(atSeparator, config(global, "AuditMode", []byte{0})),
		"unknown variable behind":           append(good(), authority(owner, "Setup", []byte{1})),
		"unexplained event behind":          append(good(), event{eventlog.EVEFIVariableAuth, []byte("?"), []byte("else"), 7}),
		"other PCRs":                        append([]event{{eventlog.EVEFIVariableConfig, variable(global, "SecureBoot", []byte{0}), nil, 1}}, good()...),
		"another bank differs":              good(),
		"SecureBoot without a register":     append([]event{{eventlog.EVNoAction, variable(global, "SecureBoot", []byte{0}), nil, 7}}, good()...),
		"separator of ones":                 with(atSeparator, event{eventlog.EVSeparator, []byte{0xff, 0xff, 0xff, 0xff}, nil, 7}),
		"an event of the name of separator": insert(atAuthority, event{eventlog.EVSeparator, []byte("text"), nil, 7}),
		"a variable by another type":        renamed(atSecureBoot, eventlog.EVPostCode),
		"keys called authority":             renamed(atDB, eventlog.EVEFIVariableAuth),
		"the separator by another type":     renamed(atSeparator, eventlog.EVEFIAction),
		"an authority called configuration": renamed(atAuthority, eventlog.EVEFIVariableConfig),
	} {
		t.Run(name, func(t *testing.T) {
			s := secureboot.Derive(mustParse(t, logOf(events...)), pcr.SHA256)
			if fs := secureboot.Judge(s, strict); len(fs) > 0 {
				t.Errorf("found %+v", fs)
			}
		})
	}
}

// Pitfall 2 of attestation, for Secure Boot: what an attacker can do to a log
// whose PCR 7 he can extend, but only behind the firmware. None of it passes.
//
// Verifies: SR-003, SR-007
func TestAttacks(t *testing.T) {
	off := config(global, "SecureBoot", []byte{0})
	on := config(global, "SecureBoot", []byte{1})
	hidden := off // its data say something else than was measured
	hidden.data, hidden.of = on.data, off.data
	empty := off
	empty.data, empty.of = nil, off.data
	offBoot := func(more ...event) []event { return append(with(atSecureBoot, off), more...) }
	for name, c := range map[string]struct {
		events []event
		want   finding.Code
	}{
		"off":                              {offBoot(), finding.SecureBootOff},
		"off, no variable":                 {with(atSecureBoot, config(global, "SecureBoot", nil)), finding.SecureBootOff},
		"off, then on behind":              {offBoot(on), finding.SecureBootUnknown},
		"off, another boot behind":         {offBoot(good()...), finding.SecureBootUnknown},
		"off, called an action":            {append(renamedOff(eventlog.EVAction), on), finding.SecureBootUnknown},
		"off, called a separator":          {append(renamedOff(eventlog.EVSeparator), on), finding.SecureBootUnknown},
		"off, with other data":             {with(atSecureBoot, hidden), finding.SecureBootUnknown},
		"off, without data":                {with(atSecureBoot, empty), finding.SecureBootUnknown},
		"off, separator called action":     {append(slices.Concat(with(atSecureBoot, off)[:atSeparator], []event{{eventlog.EVAction, []byte{0, 0, 0, 0}, nil, 7}}), good()...), finding.SecureBootUnknown},
		"deleted":                          {without(atSecureBoot), finding.SecureBootUnknown},
		"all deleted":                      {nil, finding.SecureBootUnknown},
		"in another PCR":                   {append(without(atSecureBoot), event{on.kind, on.data, nil, 6}), finding.SecureBootUnknown},
		"twice":                            {insert(atPK, on), finding.SecureBootUnknown},
		"twice, otherwise":                 {insert(atPK, off), finding.SecureBootUnknown},
		"three times":                      {insert(atPK, on, on), finding.SecureBootUnknown},
		"another GUID":                     {with(atSecureBoot, config(owner, "SecureBoot", []byte{1})), finding.SecureBootUnknown},
		"db of another GUID":               {with(atDB, config(global, "db", hashes('d'))), finding.SecureBootUnknown},
		"another name":                     {with(atSecureBoot, config(global, "SecureBoot\x00?", []byte{1})), finding.SecureBootUnknown},
		"value of 2":                       {with(atSecureBoot, config(global, "SecureBoot", []byte{2})), finding.SecureBootUnknown},
		"value of two bytes":               {with(atSecureBoot, config(global, "SecureBoot", []byte{1, 0})), finding.SecureBootUnknown},
		"no separator":                     {without(atSeparator), finding.SecureBootUnknown},
		"two separators":                   {append(good(), separator()), finding.SecureBootUnknown},
		"error separator":                  {with(atSeparator, event{eventlog.EVSeparator, []byte{1, 0, 0, 0}, nil, 7}), finding.SecureBootUnknown},
		"false separator":                  {with(atSeparator, event{eventlog.EVSeparator, []byte{0, 0, 0, 0}, []byte("x"), 7}), finding.SecureBootUnknown},
		"measured behind the separator":    {slices.Concat([]event{separator()}, without(atSeparator)), finding.SecureBootUnknown},
		"unexplained before the separator": {insert(atPK, event{eventlog.EVEFIAction, []byte("x"), []byte("y"), 7}), finding.SecureBootUnknown},
		"setup mode":                       {with(atPK, config(global, "PK", nil)), finding.SecureBootMode},
		"setup mode by its variable":       {insert(atPK, config(global, "SetupMode", []byte{1})), finding.SecureBootMode},
		"setup mode denied":                {slices.Insert(with(atPK, config(global, "PK", nil)), 1, config(global, "SetupMode", []byte{0})), finding.SecureBootMode},
		"audit mode":                       {insert(atPK, config(global, "AuditMode", []byte{1})), finding.SecureBootMode},
		"debugger":                         {insert(0, event{eventlog.EVEFIAction, []byte("UEFI Debug Mode"), nil, 7}), finding.SecureBootMode},
		"shim verifies nothing":            {append(good(), authority(shim, "MokSBState", []byte{1})), finding.SecureBootMode},
		"shim's state twice":               {append(good(), authority(shim, "MokSBState", []byte{1}), authority(shim, "MokSBState", []byte{0})), finding.SecureBootUnknown},
		"another PK":                       {with(atPK, config(global, "PK", hashes('q'))), finding.SecureBootKeys},
		"one key more in KEK":              {with(atKEK, config(global, "KEK", hashes('k', 'l'))), finding.SecureBootKeys},
		"one key more in db":               {with(atDB, config(imageSecurity, "db", hashes('d', 'e', 'f'))), finding.SecureBootKeys},
		"db again behind":                  {append(good(), config(imageSecurity, "db", hashes('d'))), finding.SecureBootUnknown},
		"db of no lists":                   {with(atDB, config(imageSecurity, "db", []byte("no lists"))), finding.SecureBootUnknown},
		"db deleted":                       {without(atDB), finding.SecureBootUnknown},
		"dbx deleted":                      {without(atDBX), finding.SecureBootUnknown},
		"dbx empty":                        {with(atDBX, config(imageSecurity, "dbx", nil)), finding.SecureBootDBX},
		"dbx too old":                      {with(atDBX, config(imageSecurity, "dbx", hashes('x'))), finding.SecureBootDBX},
		"SBAT level missing":               {without(7), finding.SecureBootUnknown},
		"SBAT level too old":               {with(7, authority(shim, "SbatLevel", []byte("sbat,1,2021030218\n"))), finding.SecureBootDBX},
		"SBAT level of no date":            {with(7, authority(shim, "SbatLevel", []byte("sbat,1,later\n"))), finding.SecureBootUnknown},
		"SBAT level before the separator":  {slices.Insert(without(7), atSeparator, authority(shim, "SbatLevel", []byte("sbat,1,2022052400\n"))), finding.SecureBootUnknown},
		"SBAT level of another vendor":     {with(7, authority(owner, "SbatLevel", []byte("sbat,1,2022052400\n"))), finding.SecureBootUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := secureboot.Derive(mustParse(t, logOf(c.events...)), pcr.SHA256)
			fs := secureboot.Judge(s, strict)
			if !slices.ContainsFunc(fs, func(f finding.Finding) bool { return f.Code == c.want }) {
				t.Errorf("found %+v, want %s; state %+v", fs, c.want, s)
			}
			for _, f := range fs {
				if f.PCR == nil || *f.PCR != 7 || f.Detail == "" || f.Severity < finding.High {
					t.Errorf("finding %+v", f)
				}
			}
		})
	}
}

func renamedOff(kind eventlog.EventType) []event {
	return with(atSecureBoot, event{kind, variable(global, "SecureBoot", []byte{0}), nil, 7})
}

// A digest of another bank lends no trust: only the bank that was asked for
// counts, whatever the others hold.
func TestBanksStandAlone(t *testing.T) {
	log := mustParse(t, logOf(good()...))
	for i := range log.Events {
		if ds := log.Events[i].Digests; len(ds) == 2 {
			ds[0].Digest = pcr.SHA1.Sum([]byte("else")) // the SHA-1 bank
		}
	}
	if fs := secureboot.Judge(secureboot.Derive(log, pcr.SHA256), strict); len(fs) > 0 {
		t.Errorf("sha256: %+v", fs)
	}
	if s := secureboot.Derive(log, pcr.SHA1); s.Enabled.Measured {
		t.Errorf("sha1: %+v", s)
	}
}

// A log that was cut shows what stands before the cut: nothing, if that is
// before the separator.
//
// Verifies: SR-007
func TestCutLogs(t *testing.T) {
	whole := logOf(good()...)
	separatorEnds := len(logOf(good()[:atSeparator+1]...))
	for n := range whole {
		log, err := eventlog.Parse(whole[:n])
		if err != nil {
			continue
		}
		s := secureboot.Derive(log, pcr.SHA256)
		if known := n >= separatorEnds; s.Enabled.Measured != known {
			t.Fatalf("cut at %d: %+v", n, s)
		}
		if fs := secureboot.Judge(s, strict); len(fs) == 0 && n < len(whole) {
			t.Fatalf("cut at %d: no finding", n)
		}
	}
}

// Findings about many keys are bounded, and count what they do not list.
func TestManyKeys(t *testing.T) {
	var list []byte
	for i := range 100 {
		list = append(list, byte(i))
	}
	s := secureboot.Derive(mustParse(t, logOf(with(atDB, config(imageSecurity, "db", hashes(list...)))...)), pcr.SHA256)
	fs := secureboot.Judge(s, secureboot.Policy{DB: []pcr.Digest{repeat(0)}})
	if len(fs) != 8 || !strings.Contains(fs[7].Detail, "91 more") {
		t.Errorf("%d findings: %+v", len(fs), fs)
	}
}

// What makes a part unknown leaves no value of it behind, for a caller that does
// not look at the problems.
//
// Verifies: SR-007
func TestUnknownPartsHoldNothing(t *testing.T) {
	on := config(global, "SecureBoot", []byte{1})
	for name, events := range map[string][]event{
		"measured behind":  append(good(), on),
		"two separators":   append(good(), separator()),
		"measured twice":   insert(atPK, on),
		"error separator":  with(atSeparator, event{eventlog.EVSeparator, []byte{1, 0, 0, 0}, nil, 7}),
		"unexplained":      insert(atPK, event{eventlog.EVEFIAction, []byte("x"), []byte("y"), 7}),
		"separators alone": {separator(), separator()},
	} {
		s := secureboot.Derive(mustParse(t, logOf(events...)), pcr.SHA256)
		if s.Enabled != (secureboot.Switch{}) || len(s.Problems) == 0 {
			t.Errorf("%s: %+v, problems %+v", name, s.Enabled, s.Problems)
		}
	}
	s := secureboot.Derive(mustParse(t, logOf(append(good(), config(imageSecurity, "db", hashes('d')))...)), pcr.SHA256)
	if s.DB.Measured || len(s.DB.Keys) > 0 || !s.Enabled.On {
		t.Errorf("db again behind: %+v", s.DB)
	}
	s = secureboot.Derive(mustParse(t, logOf(insert(atDBX, config(imageSecurity, "db", hashes('d')))...)), pcr.SHA256)
	if s.DB.Measured || len(s.DB.Keys) > 0 {
		t.Errorf("db twice: %+v", s.DB)
	}
	s = secureboot.Derive(mustParse(t, logOf(append(good(), authority(shim, "SbatLevel", []byte("sbat,1,2030010100\n")))...)), pcr.SHA256)
	if s.Shim.SBAT != (secureboot.SBAT{}) {
		t.Errorf("SBAT level twice: %+v", s.Shim.SBAT)
	}
}
