package standin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func withRegistries(t *testing.T, content string) *options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return serverOptions(t, "--private-registry="+path)
}

func TestMirrorsBecomeHostsOfContainerd(t *testing.T) {
	o := withRegistries(t, "mirrors:\n  \"*\":\n    endpoint: [\"http://192.168.122.1:5000\"]\n  registry.example:\n    endpoint: [\"http://10.0.0.1\"]\n")
	stale := filepath.Join(o.registriesFolder(), "stale.example", "hosts.toml")
	if err := writeFile(stale, []byte("server = \"http://10.0.0.2\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeRegistries(o); err != nil {
		t.Fatal(err)
	}
	for folder, host := range map[string]string{"_default": "http://192.168.122.1:5000", "registry.example": "http://10.0.0.1"} {
		content, err := os.ReadFile(filepath.Join(o.registriesFolder(), folder, "hosts.toml"))
		expected := "[host.\"" + host + "\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
		if err != nil || string(content) != expected {
			t.Errorf("%s: expected %q, found %q, %v", folder, expected, content, err)
		}
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s of an earlier start: %v", stale, err)
	}
	config, err := containerdConfig(o, map[string]string{"runc": "/usr/bin/runc"})
	if err != nil || !strings.Contains(string(config), `config_path = "`+o.registriesFolder()+`"`) {
		t.Errorf("found %s, %v", config, err)
	}
}

func TestWithoutRegistriesNoneIsConfigured(t *testing.T) {
	o := serverOptions(t, "--private-registry="+filepath.Join(t.TempDir(), "missing.yaml"))
	if err := writeRegistries(o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.registriesFolder()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", o.registriesFolder(), err)
	}
}

func TestUnknownSettingsOfRegistriesAreRefused(t *testing.T) {
	for content, reason := range map[string]string{
		"configs:\n  registry.example:\n    auth: {username: u}\n":      "has only mirrors with endpoints",
		"mirrors:\n  registry.example:\n    endpoint: [\"10.0.0.1\"]\n": `as an endpoint of registry.example, found "10.0.0.1"`,
	} {
		if err := writeRegistries(withRegistries(t, content)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("expected %q, found %v", reason, err)
		}
	}
}
