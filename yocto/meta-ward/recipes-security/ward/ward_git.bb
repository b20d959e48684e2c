SUMMARY = "Security daemon of a medical device"
DESCRIPTION = "Proves each boot with the TPM, watches that the software stays what was released, and reports to the fleet. It never touches therapy."
SECTION = "security"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://src/${GO_IMPORT}/LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

GO_IMPORT = "ward"
GO_INSTALL = "${GO_IMPORT}/cmd/wardd ${GO_IMPORT}/cmd/wardctl ${GO_IMPORT}/cmd/wardunlock"

inherit go-mod systemd useradd features_check ward-sanity

REQUIRED_DISTRO_FEATURES = "systemd ward"

# The repository that this layer lies in. For a release pin WARD_SRCREV, and
# let WARD_GIT name the repository's address without its protocol.
WARD_GIT ?= "${@os.path.abspath(os.path.join(d.getVar('WARD_LAYERDIR'), '..', '..'))}"
WARD_GIT_PROTOCOL ?= "file"
WARD_BRANCH ?= "main"
WARD_SRCREV ?= "${AUTOREV}"

PV = "0.1+git"
SRCREV = "${WARD_SRCREV}"
SRC_URI = "\
    git://${WARD_GIT};protocol=${WARD_GIT_PROTOCOL};branch=${WARD_BRANCH};destsuffix=${BP}/src/${GO_IMPORT} \
    file://wardd.service \
    file://ward-tmpfiles.conf \
    file://90-ward-tpm.rules \
    file://dev-tpmrm0.device.conf \
    "

# With a bitbake that can fetch Go modules they are downloads like any other,
# checked by digest; before that the go command fetches them, checked by go.sum.
WARD_HAS_GOMOD = "${@'1' if os.path.exists(os.path.join(os.path.dirname(bb.__file__), 'fetch2', 'gomod.py')) else '0'}"
require ${@'ward-modules.inc' if d.getVar('WARD_HAS_GOMOD') == '1' else ''}
do_compile[network] = "${@'0' if d.getVar('WARD_HAS_GOMOD') == '1' else '1'}"
export GOTOOLCHAIN = "local"

# A static program without cgo, the same bytes wherever it is built.
export CGO_ENABLED = "0"
GO_LINKSHARED = ""
GO_LDFLAGS = '-ldflags="-funcalign=4 -buildid= -X ward/internal/daemon.version=${PV}"'
GOBUILDFLAGS:remove = "-buildmode=pie"
# HTTP/2 is left out, and what carries the work and is not the work is compiled
# small, as in the Makefile.
GOBUILDFLAGS:append = " -tags nethttpomithttp2 \
    -gcflags=all=-l \
"

do_install() {
    install -D -m 0755 ${B}/${GO_BUILD_BINDIR}/wardd ${D}${sbindir}/wardd
    install -D -m 0755 ${B}/${GO_BUILD_BINDIR}/wardctl ${D}${bindir}/wardctl
    install -D -m 0755 ${B}/${GO_BUILD_BINDIR}/wardunlock ${D}${sbindir}/wardunlock
    install -D -m 0644 ${WARD_FILES}/wardd.service ${D}${systemd_system_unitdir}/wardd.service
    install -D -m 0644 ${WARD_FILES}/dev-tpmrm0.device.conf ${D}${systemd_system_unitdir}/dev-tpmrm0.device.d/10-ward.conf
    install -D -m 0644 ${WARD_FILES}/ward-tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/ward.conf
    install -D -m 0644 ${WARD_FILES}/90-ward-tpm.rules ${D}${nonarch_base_libdir}/udev/rules.d/90-ward-tpm.rules
    install -D -m 0644 ${S}/src/${GO_IMPORT}/docs/man/wardd.8 ${D}${mandir}/man8/wardd.8
    install -D -m 0644 ${S}/src/${GO_IMPORT}/docs/man/wardunlock.8 ${D}${mandir}/man8/wardunlock.8
    for page in ${S}/src/${GO_IMPORT}/docs/man/wardctl*.1; do
        install -D -m 0644 $page ${D}${mandir}/man1/$(basename $page)
    done
}

# Before UNPACKDIR was known, files lay in WORKDIR.
WARD_FILES = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"

PACKAGES =+ "wardctl wardunlock"
SUMMARY:wardctl = "Shows what the security daemon knows, and reads its logs and records off-line"

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d ${nonarch_base_libdir}/udev"
FILES:wardctl = "${bindir}/wardctl"
SUMMARY:wardunlock = "Unseals the keys of encrypted partitions in the early boot"
FILES:wardunlock = "${sbindir}/wardunlock"
RDEPENDS:${PN} = "ward-config"
RRECOMMENDS:${PN} = "wardctl"

SYSTEMD_SERVICE:${PN} = "wardd.service"

# The numbers are those of the reference device.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 900 ward; --system --gid 902 wardsvc; --system --gid 903 wardsign"
USERADD_PARAM:${PN} = "--system --uid 900 --gid ward --groups wardsvc --home-dir /var/lib/ward --no-create-home --shell /sbin/nologin ward"
