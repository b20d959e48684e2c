# Fails a kernel build whose configuration would leave Ward without evidence.
# linux-yocto gets it through the bbappend of this layer; a kernel recipe of
# your own says: inherit ward-kernel

# Each must be built in: IMA looks for the TPM before modules can be loaded.
WARD_KERNEL_BUILT_IN ?= "\
    CONFIG_SECURITYFS \
    CONFIG_IMA \
    CONFIG_TCG_TPM \
    CONFIG_BLK_DEV_DM \
    CONFIG_DM_VERITY \
    CONFIG_SECCOMP_FILTER \
    CONFIG_FANOTIFY \
    "

# One of these is the TPM's interface on the board.
WARD_KERNEL_TPM ?= "CONFIG_TCG_CRB CONFIG_TCG_TIS CONFIG_TCG_TIS_SPI CONFIG_TCG_TIS_I2C CONFIG_TCG_FTPM_TEE"

python do_ward_kernel_check() {
    import os
    path = os.path.join(d.getVar('B'), '.config')
    with open(path) as f:
        built_in = {line.split('=')[0] for line in f if line.strip().endswith('=y')}
    missing = [o for o in d.getVar('WARD_KERNEL_BUILT_IN').split() if o not in built_in]
    tpm = d.getVar('WARD_KERNEL_TPM').split()
    if not any(o in built_in for o in tpm):
        missing.append('one of ' + ', '.join(tpm))
    if missing:
        bb.fatal('The kernel is not configured for Ward. Set to y: %s (read from %s).' % ('; '.join(missing), path))
}
addtask ward_kernel_check after do_configure before do_compile
