package finding

// Codes about what is plugged in while the device runs.
const (
	USBStorageInserted   Code = "usb.storage-inserted"
	USBUnexpectedClass   Code = "usb.unexpected-class"
	USBPresentUnexpected Code = "usb.present-unexpected"
	NetInterfaceAdded    Code = "network.interface-added"
	SerialAdapterAdded   Code = "serial.adapter-added"
	StorageVerityError   Code = "storage.verity-error"
	HotplugNotWatched    Code = "hotplug.not-watched"
	HotplugEventsLost    Code = "hotplug.events-lost"
)

var hotplugCodes = []Definition{
	{USBStorageInserted, High, Incident, "a USB storage device was plugged in",
		"A USB device of the class mass storage was plugged in, or was there when the daemon started, and the release does not allow it now. Ward reads nothing from it and cannot keep the system from using it. The detail names vendor, product and port.",
		"Take the device out, unless a service task needs it and service mode is on. Ask who plugged it in; look whether a program ran or a file changed afterwards (wardctl events).", []string{"IEC 62443-4-2 CR 3.2", "IEC 62443-4-2 EDR 2.13", "FDA App. 1 B", "FDA App. 1 F"}},
	{USBUnexpectedClass, Medium, Incident, "a USB device was plugged in that the release does not allow",
		"A USB device was plugged in, or was there when the daemon started, of a class that the release does not allow now: a keyboard can type commands, an adapter can open a network. The detail names class, vendor, product and port.",
		"Take the device out; for a service task that needs it, switch service mode on first (wardctl service-mode on). If it belongs to the device, tell the manufacturer: the release must allow it.", []string{"IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 EDR 2.13", "FDA App. 1 B", "FDA App. 1 F"}},
	{USBPresentUnexpected, Medium, Condition, "a USB device is plugged in that the release does not allow now",
		"As long as this holds, a USB device is plugged in of a class that the release does not allow, or allows in service mode alone, which is off.",
		"Take the device out, or switch service mode on while it is needed.", []string{"IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 EDR 2.13", "FDA App. 1 B"}},
	{NetInterfaceAdded, Medium, Incident, "a network interface was added",
		"A network interface appeared while the device was running, longer after the start than its own take: a USB or mobile network adapter, a tunnel, or a bridge of software. It can open a way around the hospital's network.",
		"Take the adapter out if there is one. If software of the device makes it, tell the manufacturer.", []string{"IEC 62443-4-2 CR 5.1", "IEC 62443-4-2 CR 7.7", "FDA App. 1 B", "FDA App. 1 F"}},
	{SerialAdapterAdded, Medium, Incident, "a serial adapter was plugged in",
		"A USB adapter with a serial port was plugged in that the release does not allow now: it can give a console, or a way to another device.",
		"Take the adapter out; for a service task that needs it, switch service mode on first.", []string{"IEC 62443-4-2 EDR 2.13", "FDA App. 1 B"}},
	{StorageVerityError, Critical, Incident, "a block of the released system is damaged or altered",
		"The kernel read a block of a file system that dm-verity protects, and it was not what the release has: the storage is failing, or somebody wrote to it. The kernel refused the block; a program or file that lies in it cannot be used. The detail names the device and the block.",
		"Reinstall the released image; if it comes back, replace the storage and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 EDR 3.12", "FDA App. 1 D", "FDA App. 1 F"}},
	{HotplugNotWatched, Medium, Condition, "what is plugged in is not seen",
		"The kernel's messages about devices cannot be heard, or USB devices cannot be listed: what is plugged in, and errors of dm-verity, go unnoticed.",
		"Restart the daemon; if it stays, report it to the manufacturer: its service unit may forbid it the socket (AF_NETLINK).", []string{"IEC 62443-4-2 CR 6.2", "FDA App. 1 F"}},
	{HotplugEventsLost, Medium, Incident, "messages about devices were lost",
		"The kernel had more to say about devices than the daemon took, as when something is plugged in and out very often or damaged. What is plugged in was looked at anew; what came and went in between was not seen.",
		"Look for a loose or failing USB device.", []string{"IEC 62443-4-2 CR 2.8", "IEC 62443-4-2 CR 7.1", "FDA App. 1 F"}},
}
