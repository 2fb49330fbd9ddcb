package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/dynamic-resource-allocation/deviceattribute"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/utils/ptr"
)

// driver implements kubeletplugin.DRAPlugin for the devices of one node.
type driver struct {
	node, sysfs, cdi string
	stop             func()

	mutex sync.Mutex
	// seen has the PCI address of each device that was ever there, by name.
	seen map[string]string
}

// scan finds the devices and remembers where they are.
func (d *driver) scan() ([]resourceapi.Device, error) {
	devices, err := discover(d.sysfs)
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.seen == nil {
		d.seen = map[string]string{}
	}
	for _, device := range devices {
		d.seen[device.Name] = *device.Attributes[deviceattribute.StandardDeviceAttributePCIBusID].StringValue
	}
	return devices, err
}

func (d *driver) addressOf(device string) string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.seen[device]
}

func (d *driver) PrepareResourceClaims(
	_ context.Context, claims []*resourceapi.ResourceClaim,
) (map[types.UID]kubeletplugin.PrepareResult, error) {
	results := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		devices, err := d.prepare(claim)
		results[claim.UID] = kubeletplugin.PrepareResult{Devices: devices, Err: err}
	}
	return results, nil
}

// prepare writes the claim's CDI file. Again, for a claim that is prepared already, it writes the same.
func (d *driver) prepare(claim *resourceapi.ResourceClaim) ([]kubeletplugin.Device, error) {
	users, err := usersOf(d.cdi)
	if err != nil {
		return nil, err
	}
	var prepared []kubeletplugin.Device
	var granted []grant
	for _, result := range claim.Status.Allocation.Devices.Results {
		if result.Driver != driverName {
			continue
		}
		address := d.addressOf(result.Device)
		if result.Pool != d.node || address == "" || !answers(d.sysfs, address) {
			return nil, fmt.Errorf("device %s of pool %s does not answer on node %s", result.Device, result.Pool, d.node)
		}
		admin := ptr.Deref(result.AdminAccess, false)
		if user := users[result.Device]; !admin && user != "" && user != claim.UID {
			return nil, fmt.Errorf("device %s is still in use by the claim with UID %s", result.Device, user)
		}
		granted = append(granted, grant{result.Device, address, deviceNode(d.sysfs, address), admin})
		prepared = append(prepared, kubeletplugin.Device{
			Requests:     []string{result.Request},
			PoolName:     result.Pool,
			DeviceName:   result.Device,
			CDIDeviceIDs: []string{cdiKind + "=" + cdiName(claim.UID, result.Device)},
		})
	}
	return prepared, writeSpec(d.cdi, claim.UID, granted)
}

func (d *driver) UnprepareResourceClaims(
	_ context.Context, claims []kubeletplugin.NamespacedObject,
) (map[types.UID]error, error) {
	results := map[types.UID]error{}
	for _, claim := range claims {
		results[claim.UID] = removeSpec(d.cdi, claim.UID)
	}
	return results, nil
}

func (d *driver) HandleError(ctx context.Context, err error, message string) {
	runtime.HandleErrorWithContext(ctx, err, message)
	if !errors.Is(err, kubeletplugin.ErrRecoverable) {
		d.stop()
	}
}

func (d *driver) WatchHealthStatus(ctx context.Context, reports chan<- kubeletplugin.DeviceHealthReport) error {
	for ticker := time.NewTicker(scanInterval); ; {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return nil
		case reports <- d.health():
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// health reports all devices that were ever there, so that pods learn of unplugged ones.
func (d *driver) health() kubeletplugin.DeviceHealthReport {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var report kubeletplugin.DeviceHealthReport
	for name, address := range d.seen {
		health := kubeletplugin.DeviceHealth{
			PoolName: d.node, DeviceName: name, Health: kubeletplugin.HealthStatusHealthy, LastUpdated: time.Now(),
		}
		if !answers(d.sysfs, address) {
			health.Health = kubeletplugin.HealthStatusUnhealthy
			health.Message = "nothing answers at PCI address " + address
		}
		report.Devices = append(report.Devices, health)
	}
	return report
}
