package finding

// catalogue joins the tables of the areas, one file each.
var catalogue = merge(bootCodes, evidenceCodes, runtimeCodes, linkCodes, identityCodes, recordCodes, daemonCodes, updateCodes, storageCodes, anchorCodes, sinkCodes, overloadCodes, postureCodes, hotplugCodes, accessCodes, fileCodes, inventoryCodes, scanCodes, watchCodes, selfCodes)
