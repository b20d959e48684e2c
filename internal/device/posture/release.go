package posture

import (
	"io/fs"

	"ward/internal/trust/posture"
)

// release says which kernel runs: its release and its build (uname(2)), as
// "release ..." and "build ...".
func release(root fs.FS) posture.Claim {
	number, err := state(root, "proc/sys/kernel/osrelease")
	if err != nil {
		return Failed(posture.KernelRelease, err)
	}
	build, err := state(root, "proc/sys/kernel/version")
	if err != nil {
		return Failed(posture.KernelRelease, err)
	}
	return Value(posture.KernelRelease, "release "+number, "build "+build)
}
