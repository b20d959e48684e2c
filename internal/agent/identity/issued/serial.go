package issued

import (
	"strings"

	"ward/internal/device/anchors"
)

// maxSerial bounds the file of the serial number (SMBIOS strings have 64
// characters as a rule).
const maxSerial = 4 << 10

// Serial compares the hardware's serial number with the one that manufacture
// fixed, and says in words how. other is the number of the hardware where it
// differs; a number that cannot be read differs from nothing.
func Serial(file, want string) (state, other string) {
	if file == "" {
		return "not checked: no file is configured", ""
	}
	b, err := anchors.Read(file, maxSerial)
	found := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "not checked: " + strings.Join(strings.Fields(err.Error()), " "), ""
	case found == "":
		return "not checked: " + file + " is empty", ""
	case found == want:
		return "matches", ""
	}
	return "differs", found
}
