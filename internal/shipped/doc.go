// Package shipped holds checks of what ships on a device: the daemon's binary,
// built twice to the same bytes, static and within its size; and the Yocto
// layer's unit, configuration and list of modules.
package shipped
