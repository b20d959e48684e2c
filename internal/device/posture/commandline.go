package posture

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"slices"
	"strings"
)

// maxCommandLine bounds /proc/cmdline: COMMAND_LINE_SIZE is at most 4,096, and a
// boot configuration (Documentation/admin-guide/bootconfig.rst) adds up to 32 KiB.
const maxCommandLine = 64 << 10

// maxKey and letters are what the name of a parameter is made of.
const (
	maxKey  = 64
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
)

// told are the parameters whose values are told as they are, as they decide about
// security and hold no secret. Those that end with a dot stand for all that begin
// so. Of others the value is a digest, of words without "=" the word: the claim is
// sent to the fleet, and somebody may have put a password there. (The digest hides
// what cannot be guessed; a short word can.)
var told = [...]string{
	"amd_iommu", "apparmor", "audit", "bpf_jit_harden", "console", "crashkernel", "debugfs", "dm-mod.", "dm_verity.",
	"earlycon", "earlyprintk", "efi", "ekgdboc", "enforcing", "evm", "gather_data_sampling", "hardened_usercopy", "ima_",
	"init", "init_on_alloc", "init_on_free", "initcall_blacklist", "intel_iommu", "iommu", "iommu.", "kasan", "kexec_load_disabled",
	"kgdboc", "kgdbwait", "kpti", "kvm.", "kvm-intel.", "l1tf", "loadpin.", "lockdown", "loglevel", "lsm", "lsm.debug",
	"mds", "memmap", "mitigations", "mmio_stale_data", "module.sig_enforce", "module_blacklist", "nokaslr", "nomodule",
	"nopti", "nosmap", "nosmep", "nosmt", "nospectre_v1", "nospectre_v2", "oops", "page_alloc.", "page_poison", "panic", "panic_on_oops",
	"panic_on_warn", "proc_mem.force_override", "pti", "quiet", "random.trust_cpu", "random.trust_bootloader", "randomize_kstack_offset",
	"rd.break", "rd.shell", "rd.emergency", "rdinit", "reboot", "retbleed", "ro", "root", "rootflags", "rootfstype", "roothash", "rw",
	"security", "selinux", "single", "slab_nomerge", "slub_debug", "spec_rstack_overflow", "spec_store_bypass_disable",
	"spectre_bhi", "spectre_v2", "spectre_v2_user", "srbds", "swiotlb", "sysctl.kernel.", "systemd.debug_shell", "systemd.mask",
	"systemd.unit", "systemd.verity", "systemd.verity_root_options", "systemd.wants", "tsx", "tsx_async_abort",
	"usbcore.", "usrhash", "vsyscall", "yama.",
}

// commandLine says the words of the kernel's command line
// (Documentation/admin-guide/kernel-parameters.rst). Their order is not kept: the
// register that the boot loader measures it into has it.
func commandLine(root fs.FS) ([]string, error) {
	b, err := ReadFile(root, "proc/cmdline", maxCommandLine)
	all := words(string(b))
	for i, w := range all {
		all[i] = discreet(w)
	}
	return all, needed(err)
}

// words cuts the line at spaces that are not within double quotes, as the kernel
// does (lib/cmdline.c, next_arg).
func words(line string) []string {
	var out []string
	quoted, from := false, 0
	for i := 0; i <= len(line); i++ {
		switch {
		case i < len(line) && line[i] == '"':
			quoted = !quoted
		case i == len(line) || !quoted && (line[i] == ' ' || line[i] >= '\t' && line[i] <= '\r' || line[i] == 0):
			if i > from {
				out = append(out, line[from:i])
			}
			from = i + 1
		}
	}
	return out
}

// discreet is a parameter as it may be told.
func discreet(parameter string) string {
	key, value, has := strings.Cut(parameter, "=")
	plain := strings.ReplaceAll(strings.Trim(key, `"`), "-", "_") // to the kernel they are one
	if slices.ContainsFunc(told[:], func(t string) bool {
		t = strings.ReplaceAll(t, "-", "_")
		return plain == t || (strings.HasSuffix(t, ".") || strings.HasSuffix(t, "_")) && strings.HasPrefix(plain, t)
	}) {
		return parameter
	}
	if !has || len(key) > maxKey || strings.Trim(plain, letters) != "" {
		return digest(parameter)
	}
	return key + "=" + digest(value)
}

// digest stands for a text that is not told: equal texts have equal ones.
func digest(text string) string {
	sum := sha256.Sum256([]byte("ward command line\n" + text))
	return "~" + hex.EncodeToString(sum[:6])
}
