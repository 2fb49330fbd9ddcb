package standin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func serverOptions(t *testing.T, args ...string) *options {
	t.Helper()
	folder := t.TempDir()
	config := filepath.Join(folder, "config.yaml")
	content := "node-name: one\nnode-ip: 192.168.122.211\nflannel-backend: none\ndisable: [traefik, coredns]\n" +
		"kubelet-arg:\n- feature-gates=A=true,B=false\n- v=2\ncluster-init: true\ndata-dir: " + folder + "/data\n" +
		"write-kubeconfig: " + folder + "/k3s.yaml\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parse("server", append([]string{"--config=" + config}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestConfigFileIsReadBeforeTheCommandLine(t *testing.T) {
	o := serverOptions(t, "--node-name=two", "--disable=servicelb,traefik")
	if o.nodeName != "two" || o.nodeIP != "192.168.122.211" || !o.clusterInit {
		t.Errorf("found %+v", o)
	}
	if !slices.Equal(o.disable, []string{"traefik", "coredns", "servicelb", "traefik"}) {
		t.Errorf("disable: %q", o.disable)
	}
	if !slices.Equal(o.kubeletArgs, []string{"feature-gates=A=true,B=false", "v=2"}) {
		t.Errorf("kubelet-arg: %q", o.kubeletArgs)
	}
}

func TestRefusals(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for _, one := range []struct {
		command string
		args    []string
		reason  string
	}{
		{"server", []string{"--node-ip=10.0.0.1"}, "the stand-in has no flannel"},
		{"server", []string{"--flannel-backend=none"}, "--node-ip is missing"},
		{"server", []string{"--flannel-backend=none", "--node-ip=10.0.0.1", "--disable=dns"}, "expected some of coredns"},
		{"server", []string{"--config=" + missing}, "no such file"},
		{"server", []string{"--flannel-backend=none", "--node-ip=10.0.0.1", "more"}, "expected flags only"},
		{"agent", []string{"--node-ip=10.0.0.1", "--server=https://10.0.0.2:6443"}, "no token"},
		{"agent", []string{"--node-ip=10.0.0.1", "--token=t", "--server=http://10.0.0.2"}, "expected K3S_URL"},
		{"agent", []string{"--disable=coredns"}, "unknown flag"},
	} {
		_, err := parse(one.command, one.args)
		if err == nil || !strings.Contains(err.Error(), one.reason) {
			t.Errorf("%s %q: expected %q, found %v", one.command, one.args, one.reason, err)
		}
	}
}

func TestUserArgumentsReplaceOurs(t *testing.T) {
	found := arguments(map[string]string{"a": "1", "b": "2"}, []string{"b=3=4", "--c", "feature-gates=X=true,Y=false"})
	expected := []string{"--a=1", "--b=3=4", "--c=true", "--feature-gates=X=true,Y=false"}
	if !slices.Equal(found, expected) {
		t.Errorf("found %q", found)
	}
}

func TestGivenAuthoritiesAreUsedAndKept(t *testing.T) {
	o := serverOptions(t, "--token=secret")
	given, err := ensureAuthority(o.tls("client-ca"), "given")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeServerFiles(o); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(given.certificate)
	pair, err := tls.LoadX509KeyPair(o.tls("client-admin.crt"), o.tls("client-admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usages}); err != nil {
		t.Error(err)
	}
	service, _ := os.ReadFile(o.tls("service.key"))
	if _, err := writeServerFiles(o); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(o.tls("service.key")); !bytes.Equal(service, again) {
		t.Error("the key of service accounts changed with a restart")
	}
	info, err := os.Stat(o.kubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", o.kubeconfig, info, err)
	}
}

func TestAuthorityWithoutKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server-ca")
	if err := os.WriteFile(path+".crt", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureAuthority(path, "x"); err == nil || !strings.Contains(err.Error(), "expected both .crt and .key") {
		t.Errorf("found %v", err)
	}
}

func TestTokenSurvivesARestart(t *testing.T) {
	o := serverOptions(t)
	if _, err := writeServerFiles(o); err != nil {
		t.Fatal(err)
	}
	first := o.token
	o.token = ""
	if err := writeTokens(o); err != nil || o.token != first {
		t.Errorf("expected %q, found %q (%v)", first, o.token, err)
	}
	node, err := os.ReadFile(o.under("server", "node-token"))
	sum, _ := hashOf(o.tls("server-ca.crt"))
	if err != nil || strings.TrimSpace(string(node)) != fullToken(sum, first) {
		t.Errorf("node-token: %q, %v", node, err)
	}
}

func TestJoin(t *testing.T) {
	o := serverOptions(t, "--token=secret")
	all, err := writeServerFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(joinHandler(o, all))
	pair, err := tls.LoadX509KeyPair(o.tls("serving-kube-apiserver.crt"), o.tls("serving-kube-apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()
	sum, _ := hashOf(o.tls("server-ca.crt"))
	request := joinRequest{"two", "192.168.122.212"}
	for _, token := range []string{"secret", fullToken(sum, "secret")} {
		answer, err := join(context.Background(), server.URL, token, request)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(answer.Files["client-kubelet.crt"], answer.Files["client-kubelet.key"])
		if err != nil {
			t.Fatal(err)
		}
		if name := pair.Leaf.Subject; name.CommonName != "system:node:two" || !slices.Equal(name.Organization, []string{"system:nodes"}) {
			t.Errorf("found %v", name)
		}
		if answer.ClusterDNS != "10.43.0.10" || answer.Domain != "cluster.local" || answer.Cluster != "10.42.0.0/16" {
			t.Errorf("found %+v", answer)
		}
	}
	for token, reason := range map[string]string{
		"wrong":                     "the token is not that of this cluster",
		fullToken(sum, "wrong"):     "the token is not that of this cluster",
		fullToken("1234", "secret"): "the token expects an authority with hash 1234",
	} {
		if _, err := join(context.Background(), server.URL, token, request); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: expected %q, found %v", token, reason, err)
		}
	}
	if _, err := join(context.Background(), server.URL, "secret", joinRequest{"two", "nowhere"}); err == nil || !strings.Contains(err.Error(), "name and address") {
		t.Errorf("found %v", err)
	}
}

func TestNodeThatJoinedBeforeStartsWithoutServer(t *testing.T) {
	o := serverOptions(t, "--token=secret")
	all, err := writeServerFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := nodeAnswer(o, all, joinRequest{o.nodeName, o.nodeIP})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeNodeFiles(o, "127.0.0.1", answer); err != nil {
		t.Fatal(err)
	}
	found, err := joinUntil(context.Background(), o, "127.0.0.1")
	if err != nil || found.Domain != answer.Domain || len(found.Files) != len(answer.Files) {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestContainerdConfig(t *testing.T) {
	o := serverOptions(t, "--default-runtime=crun", "--pause-image=pause:1")
	runtimes := map[string]string{"crun": "/usr/bin/crun"}
	config, err := containerdConfig(o, runtimes)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`default_runtime_name = "crun"`, `BinaryName = "/usr/bin/crun"`, `sandbox = "pause:1"`,
		`root = "` + o.agent("containerd") + `"`, `address = "/run/k3s/containerd/containerd.sock"`} {
		if !strings.Contains(string(config), line) {
			t.Errorf("expected %s in\n%s", line, config)
		}
	}
	template := filepath.Join(o.containerdFolder(), "config-v3.toml.tmpl")
	if err := writeFile(template, []byte("{{ template \"base\" . }}\n[debug]\nlevel = \"debug\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err = containerdConfig(o, runtimes)
	if err != nil || !strings.HasSuffix(string(config), "level = \"debug\"\n") || !strings.HasPrefix(string(config), "version = 3") {
		t.Errorf("found %s, %v", config, err)
	}
	o.defaultRuntime = "kata"
	if _, err := containerdConfig(o, runtimes); err == nil || !strings.Contains(err.Error(), "--default-runtime=kata: not in $PATH") {
		t.Errorf("found %v", err)
	}
}

func TestInfoShowsTheDefaultRuntime(t *testing.T) {
	var out bytes.Buffer
	status := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{},
		Info:   map[string]string{"config": `{"containerd":{"defaultRuntimeName":"crun"}}`, "lastCNILoadStatus": "OK"},
	}
	if err := writeInfo(&out, status); err != nil {
		t.Fatal(err)
	}
	var found struct {
		Config struct {
			Containerd struct{ DefaultRuntimeName string }
		}
		LastCNILoadStatus string
	}
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	if found.Config.Containerd.DefaultRuntimeName != "crun" || found.LastCNILoadStatus != "OK" {
		t.Errorf("found %s", out.String())
	}
	if err := crictl([]string{"ps"}, &out); err == nil || !strings.Contains(err.Error(), "has only `crictl info`") {
		t.Errorf("found %v", err)
	}
}

func TestChildThatEndsIsReported(t *testing.T) {
	children := newChildren()
	if err := children.start("false", "/bin/false", nil, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if err := <-children.ended; !strings.Contains(err.Error(), "false ended: exit status 1") {
		t.Errorf("found %v", err)
	}
	if err := children.start("sleep", "/bin/sleep", []string{"60"}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	children.end()
	if err := <-children.ended; !strings.Contains(err.Error(), "sleep ended: signal: terminated") {
		t.Errorf("found %v", err)
	}
}
