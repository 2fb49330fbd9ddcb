package main

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/deviceattribute"
	"k8s.io/klog/v2"
)

const (
	vendor = "0x1de5"
	noRead = 0xffff // what a device that is gone or dead lets the bus read
)

// deviceTypes by the PCI device id.
var deviceTypes = map[string]string{"0x0001": "pf", "0x0002": "vf"}

// discover returns the devices on the PCI bus, in the order of their addresses. Names stay the same as long as a
// device stays in its slot.
func discover(sysfs string) ([]resourceapi.Device, error) {
	entries, err := os.ReadDir(filepath.Join(sysfs, "bus/pci/devices"))
	if err != nil {
		return nil, err
	}
	var devices []resourceapi.Device
	for _, entry := range entries {
		address := entry.Name()
		kind, known := deviceTypes[read(sysfs, address, "device")]
		if read(sysfs, address, "vendor") != vendor || !known {
			continue
		}
		attributes, err := attributesOf(sysfs, address)
		if err != nil {
			// Unplugged meanwhile, or a malformed sysfs: the other devices are still good.
			klog.ErrorS(err, "Cannot describe a device", "address", address)
			continue
		}
		attributes["type"] = resourceapi.DeviceAttribute{StringValue: &kind}
		devices = append(devices, resourceapi.Device{Name: nameOf(address), Attributes: attributes})
	}
	return devices, nil
}

// attributesOf has the standard attributes of the device at a PCI address: bus ID, PCIe root, NUMA node if it has one.
func attributesOf(sysfs, address string) (map[resourceapi.QualifiedName]resourceapi.DeviceAttribute, error) {
	bus, err := deviceattribute.GetPCIBusIDAttribute(address)
	if err != nil {
		return nil, err
	}
	root, err := deviceattribute.GetPCIeRootAttributeByPCIBusID(address, deviceattribute.WithFSFromRoot(sysfs))
	if err != nil {
		return nil, err
	}
	attributes := map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{bus.Name: bus.Value, root.Name: root.Value}
	node, err := deviceattribute.GetNUMANodeAttributeByPCIBusID(
		address, deviceattribute.ScalarAttribute, deviceattribute.WithFSFromRoot(sysfs))
	if err == nil {
		attributes[node.Name] = node.Value
	}
	return attributes, nil
}

// answers says whether the device at a PCI address answers on the bus: its config space holds its vendor.
func answers(sysfs, address string) bool {
	config, err := os.Open(filepath.Join(sysfs, "bus/pci/devices", address, "config"))
	if err != nil {
		return false
	}
	defer config.Close()
	var id [2]byte
	_, err = io.ReadFull(config, id[:])
	return err == nil && binary.LittleEndian.Uint16(id[:]) != noRead
}

// deviceNode returns the path of the node that the kernel module made for a device, or "" without the module.
func deviceNode(sysfs, address string) string {
	found, _ := filepath.Glob(filepath.Join(sysfs, "bus/pci/devices", address, "mock-accel/*"))
	if len(found) != 1 {
		return ""
	}
	return filepath.Join("/dev/mock-accel", filepath.Base(found[0]))
}

// nameOf turns a PCI address into a DNS label.
func nameOf(address string) string {
	return "pci-" + strings.NewReplacer(":", "-", ".", "-").Replace(address)
}

func read(sysfs, address, attribute string) string {
	content, _ := os.ReadFile(filepath.Join(sysfs, "bus/pci/devices", address, attribute))
	return strings.TrimSpace(string(content))
}
