package system

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// BlockDevices tells of each disk whether the kernel refuses writes to it:
// "mmcblk0boot0 read-only", "nvme0n1 writable". Memory disks and loops without a file
// are left out.
func BlockDevices() posture.Collector {
	return collector(claim.BlockDevices, func(root fs.FS) ([]string, error) {
		list, err := bounded.Entries(root, "sys/block", maxDisks)
		if err != nil {
			return nil, gone(err)
		}
		var values []string
		for _, d := range list {
			folder := "sys/block/" + d.Name()
			if size, err := bounded.Text(root, folder+"/size"); err == nil && size == "0" || strings.HasPrefix(d.Name(), "ram") || strings.HasPrefix(d.Name(), "zram") {
				continue
			}
			switch ro, err := bounded.Text(root, folder+"/ro"); {
			case bounded.Absent(err): // it went away meanwhile
			case err != nil:
				return nil, err
			case ro == "1":
				values = append(values, bounded.Word(d.Name())+" read-only")
			case ro == "0":
				values = append(values, bounded.Word(d.Name())+" writable")
			default:
				return nil, fmt.Errorf("read /%s/ro: neither 0 nor 1", folder)
			}
		}
		return values, nil
	})
}

// Wear tells how much of its life flash memory has used, in the steps of its standard:
// eMMC (JESD84-B51, DEVICE_LIFE_TIME_EST_TYP_A and _B, PRE_EOL_INFO) and UFS
// (JESD220, health descriptor): "mmcblk0 life-a 10-20%", "mmcblk0 reserve normal". What
// NVMe tells needs a command that only root may give: "nvme0n1 unknown".
func Wear() posture.Collector {
	return collector(claim.DiskWear, func(root fs.FS) ([]string, error) {
		list, err := bounded.Entries(root, "sys/block", maxDisks)
		if err != nil && !bounded.Absent(err) {
			return nil, err
		}
		var values []string
		for _, d := range list {
			var more []string
			switch name := d.Name(); {
			case strings.HasPrefix(name, "mmcblk") && !strings.Contains(name, "boot") && !strings.Contains(name, "rpmb"):
				more, err = emmc(root, name)
			case strings.HasPrefix(name, "nvme"):
				more, err = []string{bounded.Word(name) + " unknown"}, nil
			default:
				continue
			}
			if err != nil && !bounded.Absent(err) {
				return nil, err
			}
			values = append(values, more...)
		}
		for _, bus := range []string{"sys/bus/platform/devices", "sys/bus/pci/devices"} {
			hosts, err := bounded.Entries(root, bus, maxDisks)
			if err != nil && !bounded.Absent(err) {
				return nil, err
			}
			for _, h := range hosts {
				more, err := ufs(root, bus+"/"+h.Name()+"/health_descriptor", h.Name())
				if err != nil && !bounded.Absent(err) {
					return nil, err
				}
				values = append(values, more...)
			}
		}
		if len(values) == 0 {
			return nil, errAbsent
		}
		return values, nil
	})
}

// emmc reads what the kernel read from the card's registers at start (two numbers and
// one, Documentation/ABI: sysfs of mmc).
func emmc(root fs.FS, name string) ([]string, error) {
	used, err := bounded.Text(root, "sys/block/"+name+"/device/life_time")
	if err != nil {
		return nil, err // an SD card has none
	}
	f := strings.Fields(used)
	if len(f) != 2 {
		return nil, fmt.Errorf("parse life time of %s: %d numbers, want 2", bounded.Word(name), len(f))
	}
	values := []string{bounded.Word(name) + " life-a " + life(f[0]), bounded.Word(name) + " life-b " + life(f[1])}
	spare, err := bounded.Text(root, "sys/block/"+name+"/device/pre_eol_info")
	if err != nil {
		return values, err
	}
	return append(values, bounded.Word(name)+" reserve "+reserve(spare)), nil
}

// ufs reads the health descriptor of a host's device
// (Documentation/ABI/testing/sysfs-driver-ufs).
func ufs(root fs.FS, folder, name string) ([]string, error) {
	var values []string
	for _, f := range []struct {
		file, what string
		say        func(string) string
	}{{"eol_info", "reserve", reserve}, {"life_time_estimation_a", "life-a", life}, {"life_time_estimation_b", "life-b", life}} {
		v, err := bounded.Text(root, folder+"/"+f.file)
		if err != nil {
			return values, err
		}
		values = append(values, bounded.Word(name)+" "+f.what+" "+f.say(v))
	}
	return values, nil
}

// life is a step of ten percent.
func life(s string) string {
	n, err := strconv.ParseUint(s, 0, 8)
	switch {
	case err != nil || n == 0 || n > 0x0b:
		return "unknown"
	case n == 0x0b:
		return "exceeded"
	}
	return fmt.Sprintf("%d-%d%%", 10*(n-1), 10*n)
}

// reserve is the state of the spare blocks.
func reserve(s string) string {
	n, err := strconv.ParseUint(s, 0, 8)
	if steps := [...]string{"unknown", "normal", "warning", "urgent"}; err == nil && n < uint64(len(steps)) {
		return steps[n]
	}
	return "unknown"
}
