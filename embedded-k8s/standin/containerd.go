package standin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"
)

const (
	containerdState  = "/run/k3s/containerd"
	containerdSocket = containerdState + "/containerd.sock"
	imageNamespace   = "k8s.io"
	containerdWait   = 120 * time.Second
	pollPause        = 200 * time.Millisecond
)

// containerdBase is the configuration that a user's template includes by {{ template "base" . }}.
const containerdBase = `version = 3
root = "{{ .Root }}"
state = "{{ .State }}"

[grpc]
address = "{{ .Socket }}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{{ .Registries }}"
{{ if .Pause }}
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{{ .Pause }}"
{{ end }}
[plugins."io.containerd.cri.v1.runtime"]
# Statistics are expensive without hardware virtualisation.
stats_collect_period = "1m"

[plugins."io.containerd.cri.v1.runtime".cni]
use_internal_loopback = true

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "{{ .DefaultRuntime }}"
{{ range $name, $path := .Runtimes }}
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{{ $name }}]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{{ $name }}.options]
BinaryName = "{{ $path }}"
SystemdCgroup = {{ $.SystemdCgroup }}
{{ end }}`

type containerdSettings struct {
	Root, State, Socket, Pause, DefaultRuntime string
	Registries                                 string
	Runtimes                                   map[string]string
	SystemdCgroup                              bool
}

// systemdCgroup tells whether a systemd service runs us, which then delegates cgroups to us by its own manager.
func systemdCgroup() bool { return os.Getenv("INVOCATION_ID") != "" }

func (o *options) containerdFolder() string { return o.agent("etc", "containerd") }

// findRuntimes looks for OCI runtimes in $PATH.
func findRuntimes() map[string]string {
	found := map[string]string{}
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			found[name] = path
		}
	}
	return found
}

// containerdConfig is the content of config.toml: the user's template config-v3.toml.tmpl if there is one, or the base.
func containerdConfig(o *options, runtimes map[string]string) ([]byte, error) {
	if _, found := runtimes[o.defaultRuntime]; !found {
		return nil, fmt.Errorf("--default-runtime=%s: not in $PATH, found %v", o.defaultRuntime, runtimes)
	}
	text := `{{ template "base" . }}`
	path := filepath.Join(o.containerdFolder(), "config-v3.toml.tmpl")
	if content, err := os.ReadFile(path); err == nil {
		text = string(content)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	base, err := template.New("base").Parse(containerdBase)
	if err != nil {
		return nil, err
	}
	parsed, err := base.New(path).Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, containerdSettings{
		Root:           o.agent("containerd"),
		State:          containerdState,
		Socket:         containerdSocket,
		Pause:          o.pauseImage,
		DefaultRuntime: o.defaultRuntime,
		Registries:     o.registriesFolder(),
		Runtimes:       runtimes,
		SystemdCgroup:  systemdCgroup(),
	})
	return out.Bytes(), err
}

// startContainerd starts containerd, waits until it serves the kubelet, and imports the archives in agent/images.
func startContainerd(ctx context.Context, o *options, children *children) error {
	config, err := containerdConfig(o, findRuntimes())
	if err != nil {
		return err
	}
	if err := writeRegistries(o); err != nil {
		return err
	}
	path := filepath.Join(o.containerdFolder(), "config.toml")
	if err := writeFile(path, config, 0o600); err != nil {
		return err
	}
	logPath := o.agent("containerd", "containerd.log")
	if err := os.MkdirAll(filepath.Dir(logPath), 0o711); err != nil {
		return err
	}
	output, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	program, err := exec.LookPath("containerd")
	if err != nil {
		return err
	}
	if err := children.start("containerd", program, []string{"--config", path}, output); err != nil {
		return err
	}
	if err := children.wait(ctx, "containerd", containerdWait, func(ctx context.Context) error {
		_, err := runtimeStatus(ctx, containerdSocket)
		return err
	}); err != nil {
		return err
	}
	return importImages(ctx, o)
}

func importImages(ctx context.Context, o *options) error {
	archives, err := filepath.Glob(o.agent("images", "*.tar"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		command := exec.CommandContext(ctx, "ctr", "--address", containerdSocket, "--namespace", imageNamespace,
			"images", "import", archive)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("import of %s: %w: %s", archive, err, bytes.TrimSpace(output))
		}
		log.Printf("imported %s", archive)
	}
	return nil
}
