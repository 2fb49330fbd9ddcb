package standin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// DefaultRegistries has mirrors of registries, unless --private-registry names another file.
const DefaultRegistries = "/etc/rancher/k3s/registries.yaml"

// registries is the file with mirrors by registry, "*" for all others; without credentials, TLS, and rewrites, which
// the stand-in does not have.
type registries struct {
	Mirrors map[string]struct {
		Endpoint []string `json:"endpoint"`
	} `json:"mirrors"`
}

func (o *options) registriesFolder() string { return filepath.Join(o.containerdFolder(), "certs.d") }

// writeRegistries replaces containerd's folder of registries (containerd, docs/hosts.md) by the mirrors of the user's
// file. A registry is asked itself after its mirrors.
func writeRegistries(o *options) error {
	if err := os.RemoveAll(o.registriesFolder()); err != nil {
		return err
	}
	content, err := os.ReadFile(o.registries)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var found registries
	if err := yaml.UnmarshalStrict(content, &found); err != nil {
		return fmt.Errorf("%s: the stand-in has only mirrors with endpoints: %w", o.registries, err)
	}
	for registry, mirror := range found.Mirrors {
		var hosts strings.Builder
		for _, endpoint := range mirror.Endpoint {
			if parsed, err := url.Parse(endpoint); err != nil || parsed.Host == "" {
				return fmt.Errorf("%s: expected http://HOST:PORT as an endpoint of %s, found %q", o.registries, registry, endpoint)
			}
			fmt.Fprintf(&hosts, "[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", endpoint)
		}
		folder := registry
		if registry == "*" {
			folder = "_default"
		}
		path := filepath.Join(o.registriesFolder(), folder, "hosts.toml")
		if err := writeFile(path, []byte(hosts.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}
