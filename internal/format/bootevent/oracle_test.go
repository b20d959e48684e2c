package bootevent_test

import (
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
)

// refused are logs that the other tool does not read.
var refused = map[string]string{
	"short_no_action": "it wants a header",
	"option_rom":      "version 5.4 crashes behind its last event",
}

// yamlLog is what tpm2_eventlog prints; its other fields are for other tests.
type yamlLog struct {
	Events []struct {
		Event yaml.Node `yaml:"Event"`
		Type  string    `yaml:"EventType"`
	} `yaml:"events"`
}

// yamlEvent holds the fields of variables, images and blobs.
type yamlEvent struct {
	Vendor   string  `yaml:"VariableName"`
	Name     string  `yaml:"UnicodeName"`
	Data     *string `yaml:"VariableData"`
	Size     uint64  `yaml:"ImageLengthInMemory"`
	Location uint64  `yaml:"ImageLocationInMemory"`
	LinkTime uint64  `yaml:"ImageLinkTimeAddress"`
	Path     string  `yaml:"DevicePath"`
	Base     uint64  `yaml:"BlobBase"`
	Length   uint64  `yaml:"BlobLength"`
}

// Over the machines' logs and the virtual device's, the other tool reads the
// same variables, images and firmware volumes.
func TestOtherToolDecodesTheSame(t *testing.T) {
	tool, err := exec.LookPath("tpm2_eventlog")
	if err != nil {
		t.Skip("no tpm2_eventlog: install tpm2-tools")
	}
	files, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	machines, _ := filepath.Glob(filepath.Join(corpus, "*.bin"))
	for _, file := range append(files, machines...) {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		t.Run(name, func(t *testing.T) {
			if why, ok := refused[name]; ok {
				t.Skip("tpm2_eventlog refuses this log: " + why)
			}
			out, err := exec.Command(tool, file).Output()
			if err != nil {
				t.Fatalf("tpm2_eventlog: %v", err)
			}
			text := string(out)
			if !strings.Contains(text, "- EventNum:") { // of a SHA-1 log it prints a mapping where a list is meant
				text = strings.ReplaceAll(text, "\n  PCRIndex:", "\n- PCRIndex:")
			}
			var log yamlLog
			if err := yaml.Unmarshal([]byte(text), &log); err != nil {
				t.Fatal(err)
			}
			events := readLog(t, file)
			if len(events) != len(log.Events) {
				t.Fatalf("%d events, tpm2_eventlog has %d", len(events), len(log.Events))
			}
			compared := 0
			for i, e := range events {
				if log.Events[i].Event.Kind != yaml.MappingNode {
					continue
				}
				var want yamlEvent
				if err := log.Events[i].Event.Decode(&want); err != nil {
					t.Fatalf("event %d: %v", i, err)
				}
				if compareDecoded(t, e, want) {
					compared++
				}
			}
			if compared == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}

// compareDecoded tells whether the event is of a kind that the tool decodes.
func compareDecoded(t *testing.T, e eventlog.Event, want yamlEvent) bool {
	t.Helper()
	switch v := bootevent.Decode(e).Value.(type) {
	case bootevent.Variable:
		data := ""
		if want.Data != nil {
			data = *want.Data
		}
		if v.Vendor.String() != want.Vendor || v.Name != want.Name || data != "" && data != hex.EncodeToString(v.Data) {
			t.Errorf("event %d: %s of %s with %d bytes, tpm2_eventlog says %+v", e.Index, v.Name, v.Vendor, len(v.Data), want)
		}
	case bootevent.Image: // what old shim and GRUB write behind the path, the tool takes for a part of it
		if v.Location != want.Location || v.Size != want.Size || v.LinkTime != want.LinkTime || !strings.HasPrefix(want.Path, hex.EncodeToString(v.Path)) {
			t.Errorf("event %d: %+v, tpm2_eventlog says %+v", e.Index, v, want)
		}
	case bootevent.Firmware:
		if v.Base != want.Base || v.Length != want.Length {
			t.Errorf("event %d: %+v, tpm2_eventlog says %+v", e.Index, v, want)
		}
	default:
		return false
	}
	return true
}
