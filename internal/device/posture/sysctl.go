package posture

import (
	"errors"
	"io/fs"
	"strings"
)

// unreadable stands for the value of a setting that this user may not read: the
// kernel shows some to root alone, whatever a process' capabilities are. It equals
// no value of a release.
const unreadable = "unreadable"

// settings are the security settings that are read, below /proc/sys
// (Documentation/admin-guide/sysctl).
var settings = [...]string{
	"dev/tty/ldisc_autoload", "dev/tty/legacy_tiocsti",
	"fs/binfmt_misc/status", "fs/protected_fifos", "fs/protected_hardlinks", "fs/protected_regular", "fs/protected_symlinks", "fs/suid_dumpable",
	"kernel/core_pattern", "kernel/core_uses_pid", "kernel/ctrl-alt-del", "kernel/dmesg_restrict", "kernel/ftrace_enabled", "kernel/hotplug",
	"kernel/io_uring_disabled", "kernel/kexec_load_disabled", "kernel/kptr_restrict", "kernel/modprobe", "kernel/modules_disabled",
	"kernel/panic_on_oops", "kernel/perf_event_paranoid", "kernel/randomize_va_space", "kernel/sysrq", "kernel/unprivileged_bpf_disabled",
	"kernel/unprivileged_userns_clone", "kernel/yama/ptrace_scope",
	"net/core/bpf_jit_enable", "net/core/bpf_jit_harden",
	"net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/all/accept_source_route", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/all/log_martians",
	"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/send_redirects", "net/ipv4/icmp_echo_ignore_broadcasts", "net/ipv4/ip_forward", "net/ipv4/tcp_syncookies",
	"net/ipv6/conf/all/accept_ra", "net/ipv6/conf/all/accept_redirects", "net/ipv6/conf/all/accept_source_route", "net/ipv6/conf/all/forwarding",
	"user/max_user_namespaces", "vm/mmap_min_addr", "vm/unprivileged_userfaultfd",
}

// sysctls says "name=value" of every setting that this kernel has.
func sysctls(root fs.FS) (all []string, err error) {
	for _, s := range settings {
		text, err := word(root, "proc/sys/"+s)
		switch {
		case errors.Is(err, fs.ErrPermission):
			text = unreadable
		case absent(err):
			continue
		case err != nil:
			return nil, err
		}
		all = append(all, strings.ReplaceAll(s, "/", ".")+"="+strings.Join(strings.Fields(text), " "))
	}
	if len(all) == 0 {
		err = fs.ErrNotExist
	}
	return all, err
}
