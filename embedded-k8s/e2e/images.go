package main

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	e2enode "k8s.io/kubernetes/test/e2e/framework/node"
	e2epod "k8s.io/kubernetes/test/e2e/framework/pod"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	"k8s.io/kubernetes/test/utils/image"
	"sigs.k8s.io/yaml"
)

// usedImages returns the names, with tag, of the images that the tests of DRA
// ask for, by what they are: what pods run, what forwards the kubelet's calls,
// and what is the example of a device plugin.
func usedImages() (map[string]string, error) {
	plugin, err := devicePluginImage()
	if err != nil {
		return nil, err
	}
	forwarder, err := forwarderImage()
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"busybox":              e2epod.GetDefaultTestImage(),
		"hostpathplugin":       forwarder,
		"sample-device-plugin": plugin,
	}, nil
}

// forwarderImage picks among the known versions as test/e2e/dra/utils does: the
// last one in the order of text.
func forwarderImage() (string, error) {
	newest := ""
	for _, known := range image.GetOriginalImageConfigs() {
		name := known.GetE2EImage()
		if strings.Contains(name, "/hostpathplugin:") && name > newest {
			newest = name
		}
	}
	if newest == "" {
		return "", fmt.Errorf("expected an image hostpathplugin among those of test/utils/image, found none")
	}
	return image.ReplaceRegistryInImageURL(newest)
}

// devicePluginImage is named by the manifest of the example only.
func devicePluginImage() (string, error) {
	content, err := testfiles.Read(e2enode.SampleDevicePluginDSYAML)
	if err != nil {
		return "", err
	}
	var daemons appsv1.DaemonSet
	if err := yaml.Unmarshal(content, &daemons); err != nil {
		return "", fmt.Errorf("%s: %w", e2enode.SampleDevicePluginDSYAML, err)
	}
	containers := daemons.Spec.Template.Spec.Containers
	if len(containers) != 1 {
		return "", fmt.Errorf("%s: expected one container, found %d", e2enode.SampleDevicePluginDSYAML, len(containers))
	}
	return image.ReplaceRegistryInImageURL(containers[0].Image)
}
