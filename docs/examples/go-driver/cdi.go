package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	cdi "tags.cncf.io/container-device-interface/specs-go"
)

const (
	cdiKind    = driverName + "/device"
	cdiVersion = "0.6.0" // the first one with annotations
	// Annotations of a CDI device, by which the files are also the record of what is prepared.
	deviceKey = driverName + "/device"
	adminKey  = driverName + "/admin-access"
)

// grant is one device of a claim.
type grant struct {
	device, address, node string
	admin                 bool
}

// writeSpec writes the CDI file of a claim, whole or not at all.
func writeSpec(folder string, claim types.UID, granted []grant) error {
	spec := cdi.Spec{Version: cdiVersion, Kind: cdiKind}
	written := map[string]bool{}
	for _, grant := range granted {
		if written[grant.device] { // by another request, with admin access
			continue
		}
		written[grant.device] = true
		variable := "GO_ACCEL_" + strings.NewReplacer(":", "_", ".", "_").Replace(grant.address)
		device := cdi.Device{
			Name:           cdiName(claim, grant.device),
			Annotations:    map[string]string{deviceKey: grant.device},
			ContainerEdits: cdi.ContainerEdits{Env: []string{variable + "=" + grant.address}},
		}
		if grant.admin {
			device.Annotations[adminKey] = "true"
		}
		if grant.node != "" {
			device.ContainerEdits.DeviceNodes = []*cdi.DeviceNode{{Path: grant.node}}
		}
		spec.Devices = append(spec.Devices, device)
	}
	content, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	path := specPath(folder, claim)
	partial := path + ".partial"
	if err := os.WriteFile(partial, content, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

// removeSpec removes the CDI file of a claim, if there is one.
func removeSpec(folder string, claim types.UID) error {
	if err := os.Remove(specPath(folder, claim)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// usersOf returns the claim that has each device in use, without admin access.
func usersOf(folder string) (map[string]types.UID, error) {
	users := map[string]types.UID{}
	paths, err := filepath.Glob(specPath(folder, "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var spec cdi.Spec
		if err := json.Unmarshal(content, &spec); err != nil {
			return nil, errors.Join(errors.New(path), err)
		}
		claim := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), driverName+"-"), ".json")
		for _, device := range spec.Devices {
			if device.Annotations[adminKey] == "" {
				users[device.Annotations[deviceKey]] = types.UID(claim)
			}
		}
	}
	return users, nil
}

func specPath(folder string, claim types.UID) string {
	return filepath.Join(folder, driverName+"-"+string(claim)+".json")
}

// cdiName is unique to the claim, because container runtimes cache CDI files.
func cdiName(claim types.UID, device string) string {
	return string(claim) + "-" + device
}
