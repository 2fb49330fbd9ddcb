package standin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	apiPort  = 6443
	joinPort = 9345
	loopback = "127.0.0.1"
)

// authorities of a cluster. Each is in its own file below server/tls, where a user may put their own ones.
type authorities struct{ client, server, front, etcd *authority }

func ensureAuthorities(o *options) (authorities, error) {
	var all authorities
	var err error
	for _, item := range []struct {
		to   **authority
		path string
	}{
		{&all.client, o.tls("client-ca")},
		{&all.server, o.tls("server-ca")},
		{&all.front, o.tls("request-header-ca")},
		{&all.etcd, o.tls("etcd", "server-ca")},
	} {
		if *item.to, err = ensureAuthority(item.path, "stand-in "+filepath.Base(item.path)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// writeServerFiles creates what is missing below server/ and issues all certificates again.
func writeServerFiles(o *options) (authorities, error) {
	all, err := ensureAuthorities(o)
	if err != nil {
		return all, err
	}
	_, services, err := net.ParseCIDR(o.serviceCIDR)
	if err != nil {
		return all, fmt.Errorf("--service-cidr: %w", err)
	}
	first := services.IP.To4()
	if first == nil {
		return all, fmt.Errorf("--service-cidr: expected IPv4 addresses, found %s", o.serviceCIDR)
	}
	first[3]++
	own := []string{"localhost", loopback, o.nodeName, o.nodeIP}
	names := append([]string{first.String(), "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + o.domain}, own...)
	for _, item := range []struct {
		by   *authority
		path string
		subject
	}{
		{all.client, o.tls("client-admin"), subject{user: "system:admin", groups: []string{"system:masters"}}},
		{all.client, o.tls("client-kube-apiserver"), subject{user: "system:apiserver", groups: []string{"system:masters"}}},
		{all.client, o.tls("client-controller"), subject{user: "system:kube-controller-manager"}},
		{all.client, o.tls("client-scheduler"), subject{user: "system:kube-scheduler"}},
		{all.front, o.tls("client-auth-proxy"), subject{user: "system:auth-proxy"}},
		{all.server, o.tls("serving-kube-apiserver"), subject{user: "kube-apiserver", serves: append(names, o.names...)}},
		{all.server, o.tls("serving-components"), subject{user: "components", serves: own}},
		{all.etcd, o.tls("etcd", "server-client"), subject{user: "etcd", serves: own}},
		{all.etcd, o.tls("etcd", "client"), subject{user: "etcd-client"}},
	} {
		if err := item.by.issue(item.path, item.subject); err != nil {
			return all, err
		}
	}
	if err := ensureServiceKey(o.tls("service.key")); err != nil {
		return all, err
	}
	for _, name := range []string{"controller", "scheduler"} {
		config := kubeconfig(loopback, o.tls("server-ca.crt"), o.tls("client-"+name))
		if err := writeFile(o.under("server", "cred", name+".kubeconfig"), config, 0o600); err != nil {
			return all, err
		}
	}
	if err := writeTokens(o); err != nil {
		return all, err
	}
	return all, writeAdminKubeconfig(o)
}

func ensureServiceKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := newKeyPEM()
	if err != nil {
		return err
	}
	return writeFile(path, key, 0o600)
}

// writeTokens writes the secret by which nodes join. Without --token it is that of the last start, or a new one.
func writeTokens(o *options) error {
	path := o.under("server", "token")
	if o.token == "" {
		if old, err := os.ReadFile(path); err == nil {
			o.token = strings.TrimSpace(string(old))
		} else {
			o.token = rand.Text()
		}
	}
	o.token = secretOf(o.token)
	hash, err := hashOf(o.tls("server-ca.crt"))
	if err != nil {
		return err
	}
	if err := writeFile(path, []byte(fullToken(hash, o.token)+"\n"), 0o600); err != nil {
		return err
	}
	link := o.under("server", "node-token")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(path, link)
}

// fullToken has the hash of the authority's certificate, by which an agent knows its server.
func fullToken(hash, secret string) string { return "K10" + hash + "::server:" + secret }

// secretOf is the part after the user name in a full token, or all of a short one.
func secretOf(token string) string {
	if _, rest, full := strings.Cut(token, "::"); full && strings.HasPrefix(token, "K10") {
		_, secret, _ := strings.Cut(rest, ":")
		return secret
	}
	return token
}

// expectedHash is the authority's hash in a full token, empty for a short one.
func expectedHash(token string) string {
	if hash, _, full := strings.Cut(token, "::"); full {
		return strings.TrimPrefix(hash, "K10")
	}
	return ""
}

func hashOf(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return hash(content), nil
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func writeAdminKubeconfig(o *options) error {
	mode, err := strconv.ParseUint(o.kubeconfigMode, 8, 9)
	if err != nil {
		return fmt.Errorf("--write-kubeconfig-mode: %w", err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(kubeconfig(loopback, o.tls("server-ca.crt"), o.tls("client-admin")), &config); err != nil {
		return err
	}
	// Without references to files, so that it can be copied to another machine.
	embedded, err := embedFiles(config)
	if err != nil {
		return err
	}
	return writeFile(o.kubeconfig, embedded, fs.FileMode(mode))
}
