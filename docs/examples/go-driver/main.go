// Command go-driver is a DRA driver for PCI devices of vendor 1de5, on upstream's helper for kubelet plugins.
//
// It keeps no state but its CDI files, so that an old and a new instance can serve side by side during an update.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	"k8s.io/klog/v2"
)

const (
	driverName = "go-accel.example.com"
	// A kubelet takes a device for healthy up to 30 s after a report.
	scanInterval = 5 * time.Second
)

func main() {
	node := flag.String("node", os.Getenv("NODE_NAME"), "name of the node")
	pod := flag.String("pod-uid", os.Getenv("POD_UID"), "UID of the driver's pod, for rolling updates")
	sysfs := flag.String("sysfs", "/sys", "where sysfs is mounted")
	cdi := flag.String("cdi", "/var/run/cdi", "folder of the CDI files")
	kubelet := flag.String("kubelet", "/var/lib/kubelet", "folder of the kubelet's data")
	kubeconfig := flag.String("kubeconfig", "", "file for the API server, outside of a pod")
	ready := flag.String("ready", ":8081", "address that answers /readyz")
	klog.InitFlags(nil)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err == nil {
		d := &driver{node: *node, sysfs: *sysfs, cdi: *cdi, stop: stop}
		err = run(ctx, d, config, *ready,
			kubeletplugin.RollingUpdate(types.UID(*pod)),
			kubeletplugin.RegistrarDirectoryPath(filepath.Join(*kubelet, "plugins_registry")),
			kubeletplugin.PluginDataDirectoryPath(filepath.Join(*kubelet, "plugins", driverName)))
	}
	stop()
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-driver:", err)
		os.Exit(1)
	}
}

// run serves the kubelet and publishes devices until ctx ends.
func run(
	ctx context.Context, d *driver, config *rest.Config, ready string, options ...kubeletplugin.Option,
) error {
	if d.node == "" {
		return errors.New("expected the node's name in --node or NODE_NAME")
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// The kubelet may ask at once.
	devices, err := d.scan()
	if err != nil {
		return err
	}
	helper, err := kubeletplugin.Start(ctx, d, append(options,
		kubeletplugin.DriverName(driverName),
		kubeletplugin.KubeClient(client),
		kubeletplugin.NodeName(d.node))...)
	if err != nil {
		return err
	}
	defer helper.Stop()
	go serveReady(ctx, ready, helper)
	for ticker := time.NewTicker(scanInterval); ; {
		if err := helper.PublishResources(ctx, pool(d.node, devices)); err != nil {
			return err
		}
		for published := devices; equality.Semantic.DeepEqual(devices, published); {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			if devices, err = d.scan(); err != nil {
				return err
			}
		}
	}
}

// pool has all devices of the node, in slices of the API's largest size.
func pool(node string, devices []resourceapi.Device) resourceslice.DriverResources {
	pool := resourceslice.Pool{Slices: []resourceslice.Slice{}}
	for part := range slices.Chunk(devices, resourceapi.ResourceSliceMaxDevices) {
		pool.Slices = append(pool.Slices, resourceslice.Slice{Devices: part})
	}
	return resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{node: pool}}
}

// serveReady answers /readyz with 200 once the kubelet has registered the driver, until ctx ends.
func serveReady(ctx context.Context, address string, helper *kubeletplugin.Helper) {
	answer := func(response http.ResponseWriter, _ *http.Request) {
		if status := helper.RegistrationStatus(); status == nil || !status.PluginRegistered {
			http.Error(response, "the kubelet has not registered this driver", http.StatusServiceUnavailable)
		}
	}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		klog.ErrorS(err, "Nobody can ask whether the driver is ready", "address", address)
	}
}
