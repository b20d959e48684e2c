# Changes nothing unless the distribution asks for it.
require ${@bb.utils.contains('DISTRO_FEATURES', 'ward', 'ward-kernel.inc', '', d)}
