package doctest

import (
	"fmt"
	"strings"
	"testing"

	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
)

// claimTexts say of every claim where it is read and what its values are. They are
// here, and not in the table, because no program needs them.
var claimTexts = map[string]struct{ read, values string }{
	posture.SecureBoot:      {"EFI variables `SecureBoot`, `SetupMode`, `AuditMode`, `DeployedMode` in `/sys/firmware/efi/efivars`", "`enabled` or `disabled`; `setup-mode`, `audit-mode`, `deployed-mode` where they are on, else `user-mode`. Absent without UEFI. The firmware says it unsigned; the event log, which the TPM quotes, says it too"},
	posture.Lockdown:        {"`/sys/kernel/security/lockdown`", "`none`, `integrity` or `confidentiality`"},
	posture.KernelRelease:   {"`/proc/sys/kernel/osrelease`, `version`", "`release 6.1.0-28-amd64`, `build #1 SMP ...`"},
	posture.CommandLine:     {"`/proc/cmdline`", "each parameter, as it is where its name is of the list in `internal/device/posture/commandline.go`; of others `name=~digest`, of words without `=` `~digest`: a password may stand there. A digest hides what cannot be guessed. The order is not kept"},
	posture.Modules:         {"`/proc/modules`", "names of loaded modules, in whatever state. Absent without modules"},
	posture.UnsignedModules: {"`/proc/modules`, taints of modules", "`name unsigned`, `name forced`"},
	posture.ModuleSignature: {"`/sys/module/module/parameters/sig_enforce`", "`enforced`, `not-enforced`, `unsupported` (the kernel takes modules and knows no signatures). Absent without modules. Lockdown enforces signatures, too, and does not show here"},
	posture.Taint:           {"`/proc/sys/kernel/tainted`", "the bits in words: " + taints() + "; `bit-N` for others"},
	posture.Kexec:           {"`/sys/kernel/kexec_loaded`, `kexec_crash_loaded`, `/proc/sys/kernel/kexec_load_disabled`", "`image-loaded`, `crash-image-loaded`; `load-disabled` or `load-possible`. Absent without kexec"},
	posture.LSM:             {"`/sys/kernel/security/lsm`", "names of the security modules. The order is not kept"},
	posture.IMA:             {"`/sys/kernel/security/ima`", "`measuring` (more than the first entry was measured) or `idle`; `policy-open` (root may load a policy) or `policy-closed`"},
	posture.EVM:             {"`/sys/kernel/security/evm`", "`hmac`, `signatures`, `metadata-writable`, `closed`; `off`"},
	posture.SELinux:         {"`/sys/fs/selinux`", "`enforcing` or `permissive`; `unknown-denied` or `unknown-allowed`"},
	posture.AppArmor:        {"`/sys/module/apparmor/parameters`, `/sys/kernel/security/apparmor/profiles`", "`enabled` or `disabled`; `mode enforce`; `profile NAME MODE` for each"},
	posture.Sysctl:          {"`/proc/sys`, the settings in `internal/device/posture/sysctl.go`", "`kernel.kptr_restrict=2`; `=unreadable` where the kernel shows the value to root alone (`fs.protected_*`, `net.core.bpf_jit_harden`), which equals no value of a release"},
	posture.KernelDebug:     {"`/proc/self/mounts`, `/sys/module/kgdboc`, `/proc/sys/debug`, `/proc/kcore`, `/dev/mem`, `/dev/port`", "`debugfs-mounted`, `tracefs-mounted`, `kgdb TTY`, `kprobes`, `kcore`, `mem`, `port`"},
	posture.CPU:             {"`/sys/devices/system/cpu/vulnerabilities`", "`meltdown: Mitigation: PTI`, one for each weakness that the kernel knows"},
	posture.TPMFirmware:     {"the TPM's properties", "`maker IFX`, `firmware 7.85.4555.0`"},
	posture.TPMWeakness:     {"the TPM's maker and firmware against published lists", "`ROCA CVE-2017-15361 in firmware 7.40` (Infineon; RSA keys alone, Ward's are on curves), `TPM-Fail CVE-2019-16863 in firmware 71.4` (STMicroelectronics). Not judged, because no list of TPM versions is published: CVE-2023-1017 and CVE-2023-1018 (the reference code), CVE-2019-11090 (TPM-Fail in Intel's firmware)"},
	posture.ClockSource:     {"`/sys/devices/system/clocksource/clocksource0`", "the counter that the kernel keeps time by: `tsc`. It changes when the kernel no longer trusts one"},

	posture.Mounts:         {"`/proc/1/mountinfo`", "`/tmp tmpfs nodev,noexec,nosuid`: place, type, and those of the options `nodev`, `noexec`, `nosuid`, `ro` that are set, `-` for none; `bind=/path` where a part of a file system is mounted"},
	posture.DMVerity:       {"the tables of the device mapper, before wardd gives up its privileges; afterwards `/sys/block`", "`ward-root sha256:HASH OPTIONS`; `ward-root ?` for one that came later"},
	posture.FSVerity:       {"`/proc/sys/fs/verity/require_signatures`, the last walk over all files", "`require-signatures 1`, `files 120`"},
	posture.Encrypted:      {"`/sys/block`", "`ward-data LUKS2` for each open volume"},
	posture.Setuid:         {"the last walk over all files", "`/usr/bin/su 4755 0:0`"},
	posture.WorldWritable:  {"the last walk over all files", "programs that everybody may write: `/usr/bin/x 0777 0:0`"},
	posture.Sockets:        {"`/proc/net` and `/proc/PID/fd`", "`tcp 0.0.0.0:22 /usr/sbin/sshd`, `?` for a program that cannot be looked into, `loopback` where it does not listen to the network"},
	posture.Logins:         {"`/etc/passwd`", "account, user number and shell: `root 0 /bin/sh`; a mark for the name of an account that no rule of the release names"},
	posture.EmptyPasswords: {"`/etc/shadow`, `/etc/passwd`", "accounts that need no password"},
	posture.AuthorisedKeys: {"the files of sshd and dropbear", "account and `SHA256:` of each key"},
	posture.Cron:           {"the folders of cron, anacron and at", "file and digest"},
	posture.Units:          {"systemd's folders outside the packages', `/etc/init.d`", "file and digest, or where a link leads"},
	posture.HardwareDebug:  {"the nvmem devices that the release's rule names", "`jtag-locked FILE MASK=BITS`, as the rule writes it"},
	posture.Consoles:       {"`/sys/class/tty/console/active`, `/proc/tty/drivers`, processes, `/sys/kernel/config/usb_gadget`", "`kernel ttyS0`, `ttyS0 /usr/sbin/agetty`, `debugger /usr/bin/gdbserver`, `gadget ffs.adb`"},
	posture.ClockSync:      {"`/run/systemd/timesync`, the process files of chronyd and ntpd in `/run`", "`timesyncd synchronised`, `timesyncd waiting`, `chronyd unknown`, `unknown`"},
	posture.DiskWear:       {"sysfs of eMMC and UFS", "`mmcblk0 life-a 10-20%`, `mmcblk0 reserve normal`, `nvme0n1 unknown`"},
	posture.BlockDevices:   {"`/sys/block`", "`mmcblk0boot0 read-only`, `nvme0n1 writable`"},
}

func taints() string {
	var b strings.Builder
	for i, w := range posture.TaintWords {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("`" + w + "`")
	}
	return b.String()
}

// Verifies: SR-019
func TestPostureCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Posture\n\n")
	b.WriteString("What wardd reads of its device's state beside its files. Made from `internal/trust/posture` and `internal/doctest` by `make docs`; do not edit.\n\n")
	fmt.Fprintf(&b, "Each row of the tables is a *claim*: a name with values, sorted, each once, at most %d of %d bytes; or that there is no such thing; or why it could not be read. Claims are collected when the boot was judged, after each `everySeconds` of the release (%d by default), when the kernel tells of a module or a disk, and when modules, mounts or the kernel's taint are seen to change, for which wardd looks every five seconds. On such hints the quick collectors alone are asked. A collector that does not come back within five seconds is told as unreadable and holds up nothing else.\n\n",
		posture.MaxValues, posture.MaxValue, int((*posture.Policy)(nil).Every().Seconds()))
	b.WriteString("The signed release judges a claim by a rule: `equal` (these values and no other), `within` (no other), `contains` (at least these), `recorded` (not judged). A thing that is not there differs, unless the rule says `optional`. What a judged claim could not read is `posture.unreadable`, never a pass; a rule about a claim that nothing reads is `posture.rule-unknown`. Where the release has no rule, the default of the table holds; a rule `recorded` switches it off. What differs is one condition for each claim, with the subject `posture/` and its name. Whatever changes between two looks is an event, `ward.posture.changed`, judged or not.\n\n")
	b.WriteString("Paths that the release does not name are hidden before a claim leaves the device.\n\n")
	b.WriteString("| claim | read from | values | finding | by default |\n|---|---|---|---|---|\n")
	codes := make(map[finding.Code]bool)
	var used []finding.Definition
	for _, d := range posture.Definitions() {
		text, ok := claimTexts[d.Name]
		if !ok {
			t.Errorf("%s has no text", d.Name)
		}
		code := codeLink(d.Code)
		if d.Missing != "" {
			code += "; what lacks: " + codeLink(d.Missing)
		}
		judged := "recorded"
		if d.Mode != "" {
			judged = fmt.Sprintf("%s: %s", d.Mode, orNothing(d.Expect))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, text.read, text.values, code, judged)
		for _, c := range []finding.Code{d.Code, d.Missing} {
			if def, ok := finding.Lookup(c); ok && !codes[c] {
				codes[c] = true
				used = append(used, def)
			}
		}
	}
	if len(claimTexts) != len(posture.Definitions()) {
		t.Errorf("%d texts, %d claims", len(claimTexts), len(posture.Definitions()))
	}
	b.WriteString("\n## From golden devices to rules\n\n")
	b.WriteString("`wardctl posture --direct --json`, as root, reads all claims but the TPM's on a device as it should be. `wardrelease posture` makes the rules of what one or several of them say: `equal` for what is the same on all, `within` for sets that vary, `recorded` for what is each device's own or could not be read; `--rule CLAIM=MODE` decides otherwise. It writes the `[posture]` table of a board profile or a file for `wardrelease build --posture`. The dm-verity root hash stands in the rules as `@root-hash@`, and `build` puts in that of its release. A rule about fuses is written by hand: `debug.hardware`, mode `equal`, values `NAME /sys/.../nvmem@OFFSET MASK=BITS`, mask and bits in hexadecimal.\n")
	b.WriteString("\n## What is not seen\n\nSockets of UNIX and vsock, packet sockets, the wear of NVMe disks (it takes a command of root's), whether chrony or ntpd have found a time server (they tell it through sockets), tables of device-mapper volumes that come after wardd's start, and listening sockets that come and go between two looks. The claims are what the running kernel says: who holds the kernel can make it lie.\n")
	b.WriteString("\n## What to do\n\n| finding | severity | remedy |\n|---|---|---|\n")
	for _, d := range used {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", codeLink(d.Code), d.Severity, d.Remedy)
	}
	Current(t, "../../docs/posture.md", b.String())
}

func codeLink(c finding.Code) string { return fmt.Sprintf("[`%s`](FINDINGS.md#%s)", c, anchor(c)) }

func orNothing(values []string) string {
	if len(values) == 0 {
		return "nothing"
	}
	return "`" + strings.Join(values, "`, `") + "`"
}
