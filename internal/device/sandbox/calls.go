package sandbox

// none stands for a call that a processor's table does not have.
const none = 1<<16 - 1

// call is a system call's number on amd64 and on arm64,
// arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
// The comment behind each is its name; a test reads it.
type call struct{ amd64, arm64 uint16 }

// denied are the calls that are refused whatever their arguments.
var denied = []call{
	// what reaches into another process
	{101, 117}, // ptrace
	{310, 270}, // process_vm_readv
	{311, 271}, // process_vm_writev
	{440, 440}, // process_madvise
	{448, 448}, // process_mrelease
	{312, 272}, // kcmp
	{256, 238}, // migrate_pages
	{279, 239}, // move_pages
	{438, 438}, // pidfd_getfd
	{424, 424}, // pidfd_send_signal
	{200, 130}, // tkill
	{129, 138}, // rt_sigqueueinfo
	{297, 240}, // rt_tgsigqueueinfo
	// what starts another program, or brings in code that is not the file's
	{59, 221},   // execve
	{322, 281},  // execveat
	{57, none},  // fork
	{58, none},  // vfork
	{435, 435},  // clone3
	{30, 196},   // shmat
	{134, none}, // uselib
	{154, none}, // modify_ldt
	{135, 92},   // personality
	// what stops or changes the kernel
	{169, 142},  // reboot
	{246, 104},  // kexec_load
	{320, 294},  // kexec_file_load
	{175, 105},  // init_module
	{313, 273},  // finit_module
	{176, 106},  // delete_module
	{321, 280},  // bpf
	{298, 241},  // perf_event_open
	{323, 282},  // userfaultfd
	{103, 116},  // syslog
	{172, none}, // iopl
	{173, none}, // ioperm
	// what changes the file system that others see
	{165, 40},  // mount
	{166, 39},  // umount2
	{155, 41},  // pivot_root
	{161, 51},  // chroot
	{428, 428}, // open_tree
	{429, 429}, // move_mount
	{430, 430}, // fsopen
	{431, 431}, // fsconfig
	{432, 432}, // fsmount
	{433, 433}, // fspick
	{442, 442}, // mount_setattr
	{308, 268}, // setns
	{272, 97},  // unshare
	{167, 224}, // swapon
	{168, 225}, // swapoff
	{163, 89},  // acct
	{179, 60},  // quotactl
	{443, 443}, // quotactl_fd
	// what changes the clock, the name, the keys, the terminals
	{164, 170}, // settimeofday
	{227, 112}, // clock_settime
	{159, 171}, // adjtimex
	{305, 266}, // clock_adjtime
	{170, 161}, // sethostname
	{171, 162}, // setdomainname
	{248, 217}, // add_key
	{249, 218}, // request_key
	{250, 219}, // keyctl
	{153, 58},  // vhangup
	// what would do calls past this filter
	{425, 425}, // io_uring_setup
	{426, 426}, // io_uring_enter
	{427, 427}, // io_uring_register
}

// test is what an argument's lower half is held against.
type test int

const (
	equals test = iota // one of the values
	has                // one of the bits
	hasNot             // none of the bits
)

// judged are the calls that are allowed when an argument says so. The kernel
// looks at the lower 32 bits of each of these arguments alone (pid_t, int), or
// the bits asked for lie in them.
var judged = []struct {
	call
	argument int
	test     test
	values   []uint32 // nil: this process's id
}{
	{call{62, 129}, 0, equals, nil},                    // kill
	{call{234, 131}, 0, equals, nil},                   // tgkill
	{call{56, 220}, 0, has, []uint32{0x10000}},         // clone: CLONE_THREAD
	{call{9, 222}, 2, hasNot, []uint32{4}},             // mmap: PROT_EXEC
	{call{10, 226}, 2, hasNot, []uint32{4}},            // mprotect: PROT_EXEC
	{call{329, 288}, 2, hasNot, []uint32{4}},           // pkey_mprotect: PROT_EXEC
	{call{41, 198}, 0, equals, []uint32{1, 2, 10, 16}}, // socket: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
	{call{53, 199}, 0, equals, []uint32{1}},            // socketpair: AF_UNIX
}
