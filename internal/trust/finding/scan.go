package finding

// Codes about the scans that compare all files with the release.
const (
	FilesDiffer     Code = "files.differ"
	ScanOverdue     Code = "scan.overdue"
	ScanInterrupted Code = "scan.interrupted"
)

var scanCodes = []Definition{
	{FilesDiffer, High, Condition, "files of the device are not as the release has them",
		"The last full scan that came to its end has found differences; the detail counts them. Each is an incident of its own with its path. It is cleared by a full scan that finds none.",
		"Look at the findings of the area file. When what they name is set right, run wardctl scan.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 3.3", "FDA App. 1 D"}},
	{ScanOverdue, Medium, Condition, "no full scan of the files has come to its end for too long",
		"For longer than the release allows, nobody has looked at all files: therapy leases have held scans off, they are too slow for this device, or there is no trusted file baseline. This is not a pass.",
		"Look at wardctl status for what holds the scan off. Run wardctl scan when no therapy runs; if it does not come to its end, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.3", "IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{ScanInterrupted, High, Condition, "a full scan of the files could not be made",
		"The scan broke off: the file baseline or the root of the files could not be read, or is not what the release names any more. What was not looked at is not judged. This is not a pass.",
		"Look at the detail; an I/O error is a sign of a failing disk. Power the device off and on; if it stays, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.3", "IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
}
