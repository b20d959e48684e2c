package posture

import "io/fs"

// release says which kernel runs: its release and its build (uname(2)), as
// "release ..." and "build ...".
func release(root fs.FS) ([]string, error) {
	number, err := state(root, "proc/sys/kernel/osrelease")
	if err != nil {
		return nil, needed(err)
	}
	build, err := state(root, "proc/sys/kernel/version")
	return []string{"release " + number, "build " + build}, needed(err)
}
