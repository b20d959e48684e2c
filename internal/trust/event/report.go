package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// mainKey is what a report says first.
const mainKey = "verdict"

// maxShown bounds a text in a line, in bytes: a digest is shown, a signature is not.
const maxShown = 64

// ReportLine is a report in one line for people: its plain values by name, the
// verdict first; lists and objects are left out. What is no report gives "".
func ReportLine(report json.RawMessage) string {
	var values map[string]any
	if len(report) == 0 || json.Unmarshal(report, &values) != nil {
		return ""
	}
	names := slices.Sorted(maps.Keys(values))
	if i := slices.Index(names, mainKey); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, mainKey)
	}
	var parts []string
	for _, name := range names {
		switch v := values[name].(type) {
		case string:
			if len(v) <= maxShown {
				parts = append(parts, fmt.Sprintf("%s %v", name, v))
			}
		case float64, bool:
			parts = append(parts, fmt.Sprintf("%s %v", name, v))
		}
	}
	return Visible(strings.Join(parts, ", "))
}

// RepeatedLine is the count for people: "41 times from 2026-11-24T01:01:23Z to
// 2026-11-24T01:02:03Z".
func RepeatedLine(r Repeated) string {
	times := "times"
	if r.Count == 1 {
		times = "time"
	}
	return fmt.Sprintf("%d %s from %s to %s", r.Count, times, moment(r.First).Format(time.RFC3339), moment(r.Last).Format(time.RFC3339))
}
