# Checks that stop or warn about a build that could not work on the device, each
# with what to do about it. A recipe that builds Ward inherits it. What the
# evidence needs of the kernel is checked by ward-kernel.

# Ward's go.mod asks for this version of Go.
WARD_GO_MINIMUM = "1.26"

ward_check_go() {
    have=$(${GO} version | sed -n 's/.* go\([0-9]*\.[0-9]*\).*/\1/p')
    lowest=$(printf '%s\n' "$have" "${WARD_GO_MINIMUM}" | sort -V | head -n 1)
    if [ "$lowest" != "${WARD_GO_MINIMUM}" ]; then
        bbfatal "Ward needs Go ${WARD_GO_MINIMUM} and this release has Go $have: add a layer with a newer Go (meta-lts-mixins has one for long-term releases)"
    fi
}
do_configure[prefuncs] += "ward_check_go"

python () {
    manager = d.getVar('VIRTUAL-RUNTIME_init_manager')
    if manager not in (None, '', 'systemd'):
        bb.warn('%s: wardd ships a systemd unit, and VIRTUAL-RUNTIME_init_manager is "%s": start wardd as user ward '
                'without capabilities, as the unit does.' % (d.getVar('PN'), manager))
}
