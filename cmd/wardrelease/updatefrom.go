package main

import (
	"fmt"
	"strconv"
	"strings"

	"ward/internal/trust/release"
)

// parseFrom reads rules of --update-from; none gives nil.
func parseFrom(texts []string) (*release.Update, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	u := new(release.Update)
	for _, text := range texts {
		var f release.From
		for part := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(part, "=")
			var err error
			switch {
			case value == "":
				err = fmt.Errorf("%q: want version=V or index=N..M", part)
			case name == "version":
				f.Version = value
			case name == "index":
				f.AtLeast, f.AtMost, err = parseRange(value)
			default:
				err = fmt.Errorf("%q: want version=V or index=N..M", part)
			}
			if err != nil {
				return nil, fmt.Errorf("--update-from: %w", err)
			}
		}
		u.From = append(u.From, f)
	}
	return u, nil
}

// parseRange reads N, N.., ..M and N..M.
func parseRange(text string) (uint64, *uint64, error) {
	low, high, open := strings.Cut(text, "..")
	if !open {
		high = low
	}
	var from, to uint64
	var err error
	if low != "" {
		from, err = strconv.ParseUint(low, 10, 64)
	}
	if err == nil && high != "" {
		to, err = strconv.ParseUint(high, 10, 64)
	}
	if err != nil || low == "" && high == "" {
		return 0, nil, fmt.Errorf("%q: want rollback indexes N, N.., ..M or N..M", text)
	}
	if high == "" {
		return from, nil, nil
	}
	return from, &to, nil
}
