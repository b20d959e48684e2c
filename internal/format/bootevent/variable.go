package bootevent

import (
	"encoding/binary"
	"fmt"
	"strings"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
)

// Variable is a measured EFI variable. Its digest is of all of it, but of boot
// entries most firmware hashes the value alone, so that the name is a label.
type Variable struct {
	efi.Variable
	Authority bool // the value is the one key that let an image start
}

// shimSurplus is how many bytes shim before 15.3 logs behind an authority: it
// measures all but the last of them, which are zero.
const shimSurplus = 6

func variable(e eventlog.Event) Decoded {
	data := e.Data
	v, rest, err := efi.CutVariable(data)
	switch {
	case err == nil && len(rest) == 0:
	case err == nil && e.Type == eventlog.EVEFIVariableAuth && len(rest) == shimSurplus && isZero(rest[:shimSurplus-1]):
		data = data[:len(data)-1]
	default:
		return byHash(e, plain(e.Type, e.Data))
	}
	d := Decoded{Value: Variable{v, authority(e.Type, v)}}
	if e.Type == eventlog.EVEFIVariableBoot {
		d.Measured = measured(e, data, v.Data)
	} else {
		d.Measured = measured(e, data)
	}
	return d
}

// authority tells the variables of which one key is measured without its list.
func authority(kind eventlog.EventType, v efi.Variable) bool {
	return (kind == eventlog.EVEFIVariableAuth || kind == eventlog.EVEFISPDMAuthority) && len(v.Data) > 0 &&
		(v.Vendor == efi.ImageSecurity || kind == eventlog.EVEFISPDMAuthority || signatureVariables[v.Name] || v.Name == "Shim" || v.Name == "vendor_db")
}

// signatureVariables hold signature lists.
var signatureVariables = map[string]bool{
	"PK": true, "KEK": true, "db": true, "dbx": true, "dbt": true, "dbr": true, "devdb": true,
	"MokList": true, "MokListX": true, "MokListRT": true, "MokListXRT": true,
}

// switchVariables hold one byte, 1 for what is said first. MokSBState is the wrong
// way round: it is set to switch shim's checks off.
var switchVariables = map[string][2]string{
	"SecureBoot": {" enabled", " disabled"}, "AuditMode": {" enabled", " disabled"},
	"DeployedMode": {" enabled", " disabled"}, "SetupMode": {" enabled", " disabled"},
	"MokListTrusted": {" enabled", " disabled"},
	"MokSBState":     {": shim verifies nothing", ": shim verifies images"},
	"MokIgnoreDB":    {": shim ignores db", ": shim uses db"},
}

// Switch is the value of a variable that holds one truth value; ok is false for
// others.
func (v Variable) Switch() (on, ok bool) {
	_, known := switchVariables[v.Name]
	return known && len(v.Data) == 1 && v.Data[0] == 1, known && len(v.Data) == 1 && v.Data[0] <= 1
}

// Kind is "variable" or "authority".
func (v Variable) Kind() string {
	if v.Authority {
		return "authority"
	}
	return "variable"
}

// title is the name, with the vendor where it is not the specification's.
func (v Variable) title() string {
	if v.Vendor == efi.GlobalVariable || v.Vendor == efi.ImageSecurity {
		return v.Name
	}
	return v.Name + " of " + v.Vendor.Name()
}

func (v Variable) statement() string {
	on, isSwitch := v.Switch()
	switch {
	case len(v.Data) == 0:
		return v.title() + " is empty"
	case v.Authority:
		if k, ok := v.AuthorityKey(); ok {
			return "authority " + v.title() + ": " + k.String()
		}
		return "authority " + v.title() + ": " + content(v.Data)
	case signatureVariables[v.Name]:
		return v.title() + ": " + v.summary()
	case isSwitch && on:
		return v.title() + switchVariables[v.Name][0]
	case isSwitch:
		return v.title() + switchVariables[v.Name][1]
	case isOrder(v.Name):
		return v.title() + ": " + strings.Join(order(v.Data), ", ")
	case isLoadOption(v.Name):
		if o, err := efi.ParseLoadOption(v.Data); err == nil {
			return fmt.Sprintf("%s: %s, %s", v.title(), o.Description, o.Path)
		}
	}
	return v.title() + ": " + content(v.Data)
}

// summary counts keys.
func (v Variable) summary() string {
	lists, err := efi.ParseSignatureLists(v.Data)
	if err != nil {
		return content(v.Data)
	}
	certificates, hashes := 0, 0
	for _, l := range lists {
		if l.Type == efi.CertX509 {
			certificates += len(l.Signatures)
		} else {
			hashes += len(l.Signatures)
		}
	}
	return fmt.Sprintf("certificates %d, hashes %d", certificates, hashes)
}

func (v Variable) fields(m Measured) []Field {
	fields := []Field{m.label("name", v.Name), m.label("vendor", v.Vendor.String()), m.label("vendorName", v.Vendor.Name())}
	add := func(name string, value any) { fields = append(fields, m.field(name, value)) }
	on, isSwitch := v.Switch()
	add("size", len(v.Data))
	switch {
	case len(v.Data) == 0:
	case v.Authority:
		if k, ok := v.AuthorityKey(); ok {
			add("key", k)
		}
	case signatureVariables[v.Name]:
		if keys, err := v.Keys(); err == nil {
			add("keys", keys)
		}
	case isSwitch:
		add("value", on)
	case isOrder(v.Name):
		add("order", order(v.Data))
	case isLoadOption(v.Name):
		if o, err := efi.ParseLoadOption(v.Data); err == nil {
			add("active", o.Active)
			add("description", o.Description)
			add("path", o.Path.String())
			add("file", o.Path.File())
			add("optionalSize", len(o.Optional))
		}
	case isText(v.Data) || isUTF16(v.Data):
		add("text", content(v.Data))
	}
	return fields
}

func isOrder(name string) bool { return name == "BootOrder" || name == "DriverOrder" }

// isLoadOption tells names such as Boot0001.
func isLoadOption(name string) bool {
	number, ok := strings.CutPrefix(name, "Boot")
	if !ok {
		number, ok = strings.CutPrefix(name, "Driver")
	}
	return ok && len(number) == 4 && strings.Trim(number, "0123456789ABCDEFabcdef") == ""
}

func order(b []byte) []string {
	numbers := make([]string, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		numbers = append(numbers, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
	}
	return numbers
}
