package posture

import "io/fs"

var kexecFlags = [...]flag{
	{"sys/kernel/kexec_loaded", "image-loaded", ""},
	{"sys/kernel/kexec_crash_loaded", "crash-image-loaded", ""},
	{"proc/sys/kernel/kexec_load_disabled", "load-disabled", "load-possible"},
}

// kexec says whether another kernel waits to be started without the firmware:
// "image-loaded", "crash-image-loaded", and "load-disabled" or "load-possible"
// (kexec_load(2); Documentation/ABI/testing/sysfs-kernel-kexec). A kernel may have
// one of the first two files alone; without the third it has no kexec.
func kexec(root fs.FS) (words []string, err error) {
	for _, f := range kexecFlags {
		w, err := f.word(root)
		if err != nil && (f.off != "" || !absent(err)) {
			return nil, err
		}
		words = append(words, w)
	}
	return words, nil
}
