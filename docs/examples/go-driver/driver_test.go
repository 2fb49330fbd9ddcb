package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/utils/ptr"
)

const (
	first  = "0000:11:00.0"
	second = "0000:21:00.0"
)

// write makes a file and its folders below root.
func write(t *testing.T, content string, parts ...string) {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// plug adds a device to a sysfs, as the kernel shows it.
func plug(t *testing.T, sysfs, root, address, vendor, device, numa string) {
	t.Helper()
	folder := filepath.Join(sysfs, "devices", root, address)
	write(t, vendor+"\n", folder, "vendor")
	write(t, device+"\n", folder, "device")
	write(t, numa+"\n", folder, "numa_node")
	write(t, "\xe5\x1d\x01\x00", folder, "config")
	link := filepath.Join(sysfs, "bus/pci/devices", address)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("../../../devices", root, address), link); err != nil {
		t.Fatal(err)
	}
}

func newDriver(t *testing.T) *driver {
	t.Helper()
	d := &driver{node: "node1", sysfs: t.TempDir(), cdi: t.TempDir(), stop: func() { t.Error("stopped") }}
	plug(t, d.sysfs, "pci0000:10", first, "0x1de5", "0x0001", "0")
	plug(t, d.sysfs, "pci0000:20", second, "0x1de5", "0x0002", "-1")
	plug(t, d.sysfs, "pci0000:00", "0000:00:01.0", "0x8086", "0x0001", "0")
	plug(t, d.sysfs, "pci0000:00", "0000:00:02.0", "0x1de5", "0x0009", "0")
	if _, err := d.scan(); err != nil {
		t.Fatal(err)
	}
	return d
}

func claim(uid types.UID, results ...resourceapi.DeviceRequestAllocationResult) *resourceapi.ResourceClaim {
	claim := &resourceapi.ResourceClaim{}
	claim.UID = uid
	claim.Status.Allocation = &resourceapi.AllocationResult{
		Devices: resourceapi.DeviceAllocationResult{Results: results},
	}
	return claim
}

func result(request, address string) resourceapi.DeviceRequestAllocationResult {
	return resourceapi.DeviceRequestAllocationResult{
		Request: request, Driver: driverName, Pool: "node1", Device: nameOf(address),
	}
}

func prepare(t *testing.T, d *driver, claims ...*resourceapi.ResourceClaim) map[types.UID]kubeletplugin.PrepareResult {
	t.Helper()
	results, err := d.PrepareResourceClaims(context.Background(), claims)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func shouldFail(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("expected an error with %q, found %v", text, err)
	}
}

func files(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestDevicesAreDescribed(t *testing.T) {
	devices, err := discover(newDriver(t).sysfs)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, device := range devices {
		for name, value := range device.Attributes {
			text := fmt.Sprint(ptr.Deref(value.IntValue, -1))
			if value.StringValue != nil {
				text = *value.StringValue
			}
			found[device.Name+" "+string(name)] = text
		}
	}
	expected := map[string]string{
		"pci-0000-11-00-0 type":                            "pf",
		"pci-0000-11-00-0 resource.kubernetes.io/pciBusID": first,
		"pci-0000-11-00-0 resource.kubernetes.io/pcieRoot": "pci0000:10",
		"pci-0000-11-00-0 resource.kubernetes.io/numaNode": "0",
		// Without affinity, a device has no NUMA node, and device 0x0009 is none of ours.
		"pci-0000-21-00-0 type":                            "vf",
		"pci-0000-21-00-0 resource.kubernetes.io/pciBusID": second,
		"pci-0000-21-00-0 resource.kubernetes.io/pcieRoot": "pci0000:20",
	}
	if !reflect.DeepEqual(found, expected) {
		t.Errorf("expected %v, found %v", expected, found)
	}
}

func TestPoolKeepsTheLimitOfASlice(t *testing.T) {
	for count, slices := range map[int]int{0: 0, 1: 1, 128: 1, 129: 2} {
		found := pool("node1", make([]resourceapi.Device, count)).Pools["node1"].Slices
		if len(found) != slices {
			t.Errorf("%d devices: expected %d slices, found %d", count, slices, len(found))
		}
	}
}

func TestPreparedClaimHasACDIFile(t *testing.T) {
	d := newDriver(t)
	write(t, "", d.sysfs, "devices/pci0000:10", first, "mock-accel/mock0/uuid")
	other := resourceapi.DeviceRequestAllocationResult{Request: "gpu", Driver: "gpu.example.com", Pool: "x", Device: "y"}
	results := prepare(t, d, claim("a", result("one", first), other))
	expected := []kubeletplugin.Device{{
		Requests:     []string{"one"},
		PoolName:     "node1",
		DeviceName:   "pci-0000-11-00-0",
		CDIDeviceIDs: []string{"go-accel.example.com/device=a-pci-0000-11-00-0"},
	}}
	if results["a"].Err != nil || !reflect.DeepEqual(results["a"].Devices, expected) {
		t.Errorf("expected %v, found %v", expected, results["a"])
	}
	content, err := os.ReadFile(filepath.Join(d.cdi, "go-accel.example.com-a.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"kind": "go-accel.example.com/device"`,
		`"name": "a-pci-0000-11-00-0"`,
		`"GO_ACCEL_0000_11_00_0=0000:11:00.0"`,
		`"path": "/dev/mock-accel/mock0"`,
	} {
		if !strings.Contains(string(content), part) {
			t.Errorf("expected %s, found %s", part, content)
		}
	}
}

func TestPrepareAgainChangesNothing(t *testing.T) {
	d := newDriver(t)
	once := prepare(t, d, claim("a", result("one", first)))
	before, _ := os.ReadFile(specPath(d.cdi, "a"))
	again := prepare(t, d, claim("a", result("one", first)))
	after, _ := os.ReadFile(specPath(d.cdi, "a"))
	if !reflect.DeepEqual(once, again) || string(before) != string(after) || len(before) == 0 {
		t.Errorf("expected the same twice, found %v, %v, %s, %s", once, again, before, after)
	}
}

func TestDeviceInUseIsRefusedAndTheOtherClaimIsNot(t *testing.T) {
	d := newDriver(t)
	prepare(t, d, claim("a", result("one", first)))
	results := prepare(t, d, claim("b", result("one", first)), claim("c", result("one", second)))
	shouldFail(t, results["b"].Err, "still in use by the claim with UID a")
	if results["c"].Err != nil {
		t.Error(results["c"].Err)
	}
	if _, err := d.UnprepareResourceClaims(context.Background(), []kubeletplugin.NamespacedObject{{UID: "a"}}); err != nil {
		t.Fatal(err)
	}
	if results = prepare(t, d, claim("b", result("one", first))); results["b"].Err != nil {
		t.Error(results["b"].Err)
	}
}

func TestAdminAccessSharesADeviceInUse(t *testing.T) {
	d := newDriver(t)
	looks := result("one", first)
	looks.AdminAccess = ptr.To(true)
	again := looks
	again.Request = "two"
	prepare(t, d, claim("a", result("one", first)))
	if results := prepare(t, d, claim("admin", looks, again)); results["admin"].Err != nil {
		t.Error(results["admin"].Err)
	}
	content, _ := os.ReadFile(specPath(d.cdi, "admin"))
	if found := strings.Count(string(content), "GO_ACCEL_"); found != 1 {
		t.Errorf("expected the device once, found it %d times in %s", found, content)
	}
	// The admin's file takes the device from no one.
	prepare(t, d, claim("a", result("one", first)))
	users, err := usersOf(d.cdi)
	if expected := map[string]types.UID{nameOf(first): "a"}; err != nil || !reflect.DeepEqual(users, expected) {
		t.Errorf("expected %v, found %v, %v", expected, users, err)
	}
}

func TestWhatIsNotHereIsRefused(t *testing.T) {
	d := newDriver(t)
	elsewhere := result("one", first)
	elsewhere.Pool = "node2"
	for uid, wrong := range map[types.UID]resourceapi.DeviceRequestAllocationResult{
		"unknown": result("one", "0000:99:00.0"), "elsewhere": elsewhere,
	} {
		shouldFail(t, prepare(t, d, claim(uid, wrong))[uid].Err, "does not answer on node node1")
	}
	if found := files(t, d.cdi); found != nil {
		t.Errorf("expected no file, found %v", found)
	}
}

func TestUnprepareAgainSucceeds(t *testing.T) {
	d := newDriver(t)
	prepare(t, d, claim("a", result("one", first)))
	for range 2 {
		results, err := d.UnprepareResourceClaims(
			context.Background(), []kubeletplugin.NamespacedObject{{UID: "a"}, {UID: "never-prepared"}})
		if expected := map[types.UID]error{"a": nil, "never-prepared": nil}; err != nil ||
			!reflect.DeepEqual(results, expected) {
			t.Errorf("expected %v, found %v, %v", expected, results, err)
		}
	}
	if found := files(t, d.cdi); found != nil {
		t.Errorf("expected no file, found %v", found)
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	d := newDriver(t)
	write(t, "{", specPath(d.cdi, "damaged"))
	shouldFail(t, prepare(t, d, claim("a", result("one", first)))["a"].Err, "go-accel.example.com-damaged.json")
}

func TestDeadAndUnpluggedDevicesAreUnhealthy(t *testing.T) {
	d := newDriver(t)
	health := func() map[string]string {
		found := map[string]string{}
		for _, device := range d.health().Devices {
			found[device.DeviceName] = string(device.Health) + device.Message
		}
		return found
	}
	all := map[string]string{nameOf(first): "Healthy", nameOf(second): "Healthy"}
	if found := health(); !reflect.DeepEqual(found, all) {
		t.Errorf("expected %v, found %v", all, found)
	}
	write(t, "\xff\xff\xff\xff", d.sysfs, "devices/pci0000:10", first, "config")
	if err := os.Remove(filepath.Join(d.sysfs, "bus/pci/devices", second)); err != nil {
		t.Fatal(err)
	}
	if devices, err := d.scan(); err != nil || len(devices) != 1 {
		t.Errorf("expected one device, found %v, %v", devices, err)
	}
	for name, found := range health() {
		if !strings.HasPrefix(found, "Unhealthynothing answers at PCI address 0000:") {
			t.Errorf("%s: expected it to be unhealthy, found %s", name, found)
		}
	}
	shouldFail(t, prepare(t, d, claim("a", result("one", first)))["a"].Err, "does not answer")
}

func TestHealthIsReportedUntilTheKubeletGoes(t *testing.T) {
	d := newDriver(t)
	ctx, cancel := context.WithCancel(context.Background())
	reports, ended := make(chan kubeletplugin.DeviceHealthReport), make(chan error, 1)
	go func() { ended <- d.WatchHealthStatus(ctx, reports) }()
	if report := <-reports; len(report.Devices) != 2 {
		t.Errorf("expected two devices, found %v", report)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Second):
		t.Error("still watching a second after the kubelet went")
	}
}

func TestFatalErrorEndsTheDriver(t *testing.T) {
	stopped := 0
	d := &driver{stop: func() { stopped++ }}
	d.HandleError(context.Background(), fmt.Errorf("busy: %w", kubeletplugin.ErrRecoverable), "publish")
	d.HandleError(context.Background(), fmt.Errorf("no socket"), "serve")
	if stopped != 1 {
		t.Errorf("expected one stop, by the fatal error, found %d", stopped)
	}
}
