SUMMARY = "Configuration and trust anchors of the security daemon"
DESCRIPTION = "The integrator's part: replace wardd.toml and ima-policy and name the keys in a bbappend."
SECTION = "security"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://wardd.toml file://ima-policy"

# PEM files of the bbappend, named in its SRC_URI too: public keys of those who
# sign releases, roots of the broker's certificate, public keys of those who
# sign receipts, of those who sign challenges, and of the one that signs boot
# states (one key: docs/update.md).
WARD_RELEASE_KEYS ?= ""
WARD_FLEET_ROOTS ?= ""
WARD_RECEIPT_KEYS ?= ""
WARD_CHALLENGE_KEYS ?= ""
WARD_POLICY_KEY ?= ""

inherit allarch

# Before UNPACKDIR was known, files lay in WORKDIR.
WARD_FILES = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"

ward_install_anchors() {
    install -d ${D}${nonarch_libdir}/ward/trust/$1
    for key in $2; do
        if grep -q "PRIVATE KEY" ${WARD_FILES}/$key; then
            bbfatal "$key holds a private key: it must never be installed on a device"
        fi
        install -m 0644 ${WARD_FILES}/$key ${D}${nonarch_libdir}/ward/trust/$1/
    done
}

do_install() {
    install -D -m 0644 ${WARD_FILES}/wardd.toml ${D}${sysconfdir}/ward/wardd.toml
    install -D -m 0644 ${WARD_FILES}/ima-policy ${D}${sysconfdir}/ima/ima-policy
    ward_install_anchors release "${WARD_RELEASE_KEYS}"
    ward_install_anchors fleet "${WARD_FLEET_ROOTS}"
    ward_install_anchors receipt "${WARD_RECEIPT_KEYS}"
    ward_install_anchors challenge "${WARD_CHALLENGE_KEYS}"
    ward_install_anchors policy "${WARD_POLICY_KEY}"
    if grep -Eq '^bring_up *= *true' ${D}${sysconfdir}/ward/wardd.toml; then
        bbwarn "wardd.toml says bring_up = true: this image reports everything and judges nothing"
    elif [ -z "${WARD_RELEASE_KEYS}" ]; then
        bbfatal "WARD_RELEASE_KEYS is empty: without a release key no release can be judged"
    fi
}

FILES:${PN} += "${nonarch_libdir}/ward"
CONFFILES:${PN} = ""
