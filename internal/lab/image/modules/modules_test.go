package modules

import (
	"strings"
	"testing"
)

func TestModuleOrderNamesWhatIsMissing(t *testing.T) {
	index := Index{dir: t.TempDir(), files: map[string]string{"known": "known.ko"}}
	_, err := index.Order([]string{"un-known"}, map[string]bool{})
	if err == nil || !strings.Contains(err.Error(), "un_known") {
		t.Errorf("got %v", err)
	}
	// What was loaded before is not loaded again.
	order, err := index.Order([]string{"known"}, map[string]bool{"known": true})
	if err != nil || len(order) != 0 {
		t.Errorf("got %v, %v", order, err)
	}
}
