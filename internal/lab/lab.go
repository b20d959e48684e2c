// Package lab is the whole story on one machine: a virtual reference device that
// was built, released and manufactured (package works) is booted in QEMU (package
// vm) against a real broker and the real backend (package backend), and attacked.
// Nothing of it is shipped; every address it uses is on the loopback interface.
package lab

import (
	"ward/internal/lab/timeline"
	"ward/internal/lab/works"
)

// Lab is one working folder with its keys, images and devices.
type Lab struct{ *works.Works }

// Open opens the lab of the module at root.
func Open(root string, line *timeline.Timeline) (*Lab, error) {
	w, err := works.Open(root, line)
	return &Lab{w}, err
}
