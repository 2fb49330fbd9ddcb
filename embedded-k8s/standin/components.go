package standin

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// arguments are the flags of an upstream program, with those that the user gave in NAME=VALUE form instead of ours.
func arguments(defaults map[string]string, user []string) []string {
	values := maps.Clone(defaults)
	for _, argument := range user {
		name, value, found := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
		if !found {
			value = "true"
		}
		values[name] = value
	}
	var result []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		result = append(result, fmt.Sprintf("--%s=%s", name, values[name]))
	}
	return result
}

func etcdArguments(o *options) []string {
	own, client := o.tls("etcd", "server-client"), "https://127.0.0.1:2379"
	peer := "https://127.0.0.1:2380"
	return arguments(map[string]string{
		"name":                        o.nodeName,
		"data-dir":                    o.under("server", "db", "etcd"),
		"listen-client-urls":          client,
		"advertise-client-urls":       client,
		"listen-peer-urls":            peer,
		"initial-advertise-peer-urls": peer,
		"initial-cluster":             o.nodeName + "=" + peer,
		"cert-file":                   own + ".crt",
		"key-file":                    own + ".key",
		"trusted-ca-file":             o.tls("etcd", "server-ca.crt"),
		"client-cert-auth":            "true",
		"peer-cert-file":              own + ".crt",
		"peer-key-file":               own + ".key",
		"peer-trusted-ca-file":        o.tls("etcd", "server-ca.crt"),
		"peer-client-cert-auth":       "true",
		"log-level":                   "error",
	}, o.etcdArgs)
}

func apiserverArguments(o *options) []string {
	return arguments(map[string]string{
		"advertise-address":                  o.nodeIP,
		"bind-address":                       "0.0.0.0",
		"secure-port":                        fmt.Sprint(apiPort),
		"tls-cert-file":                      o.tls("serving-kube-apiserver.crt"),
		"tls-private-key-file":               o.tls("serving-kube-apiserver.key"),
		"client-ca-file":                     o.tls("client-ca.crt"),
		"anonymous-auth":                     "false",
		"authorization-mode":                 "Node,RBAC",
		"enable-admission-plugins":           "NodeRestriction",
		"allow-privileged":                   "true",
		"etcd-servers":                       "https://127.0.0.1:2379",
		"etcd-cafile":                        o.tls("etcd", "server-ca.crt"),
		"etcd-certfile":                      o.tls("etcd", "client.crt"),
		"etcd-keyfile":                       o.tls("etcd", "client.key"),
		"kubelet-certificate-authority":      o.tls("server-ca.crt"),
		"kubelet-client-certificate":         o.tls("client-kube-apiserver.crt"),
		"kubelet-client-key":                 o.tls("client-kube-apiserver.key"),
		"kubelet-preferred-address-types":    "InternalIP",
		"proxy-client-cert-file":             o.tls("client-auth-proxy.crt"),
		"proxy-client-key-file":              o.tls("client-auth-proxy.key"),
		"requestheader-client-ca-file":       o.tls("request-header-ca.crt"),
		"requestheader-allowed-names":        "system:auth-proxy",
		"requestheader-username-headers":     "X-Remote-User",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"service-account-issuer":             "https://kubernetes.default.svc." + o.domain,
		"service-account-key-file":           o.tls("service.key"),
		"service-account-signing-key-file":   o.tls("service.key"),
		"service-cluster-ip-range":           o.serviceCIDR,
		"profiling":                          "false",
	}, o.apiserverArgs)
}

// secure are the flags of a component that serves on loopback only.
func (o *options) secure(name string, port int) map[string]string {
	config := o.under("server", "cred", name+".kubeconfig")
	return map[string]string{
		"bind-address":                 loopback,
		"secure-port":                  fmt.Sprint(port),
		"tls-cert-file":                o.tls("serving-components.crt"),
		"tls-private-key-file":         o.tls("serving-components.key"),
		"client-ca-file":               o.tls("client-ca.crt"),
		"requestheader-client-ca-file": o.tls("request-header-ca.crt"),
		"authentication-kubeconfig":    config,
		"authorization-kubeconfig":     config,
		"kubeconfig":                   config,
		"leader-elect":                 "false",
		"profiling":                    "false",
	}
}

func controllerArguments(o *options) []string {
	values := o.secure("controller", 10257)
	maps.Copy(values, map[string]string{
		"use-service-account-credentials":  "true",
		"root-ca-file":                     o.tls("server-ca.crt"),
		"service-account-private-key-file": o.tls("service.key"),
		"allocate-node-cidrs":              "true",
		"cluster-cidr":                     o.clusterCIDR,
		"service-cluster-ip-range":         o.serviceCIDR,
		"flex-volume-plugin-dir":           o.under("server", "volume-plugins"),
	})
	return arguments(values, o.controllerArgs)
}

func schedulerArguments(o *options) []string {
	return arguments(o.secure("scheduler", 10259), o.schedulerArgs)
}

func (o *options) kubeletFolder() string { return o.agent("etc", "kubelet.conf.d") }

// writeKubeletConfig writes the first drop-in of the kubelet's configuration; later names of a user win.
func writeKubeletConfig(o *options, answer joinAnswer) error {
	driver := "cgroupfs"
	if systemdCgroup() {
		driver = "systemd"
	}
	values := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": o.agent("client-ca.crt")},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"tlsCertFile":              o.agent("serving-kubelet.crt"),
		"tlsPrivateKeyFile":        o.agent("serving-kubelet.key"),
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             driver,
		"clusterDNS":               []string{answer.ClusterDNS},
		"clusterDomain":            answer.Domain,
		"failSwapOn":               false,
		"serializeImagePulls":      false,
		"evictionHard":             map[string]any{"imagefs.available": "5%", "nodefs.available": "5%"},
	}
	if o.resolvConf != "" {
		values["resolvConf"] = o.resolvConf
	}
	content, err := yaml.Marshal(values)
	if err != nil {
		return err
	}
	return writeFile(o.kubeletFolder()+"/00-k3s-defaults.conf", content, 0o600)
}

func kubeletArguments(o *options) []string {
	values := map[string]string{
		"config-dir":        o.kubeletFolder(),
		"kubeconfig":        o.agent("kubelet.kubeconfig"),
		"hostname-override": o.nodeName,
		"node-ip":           o.nodeIP,
	}
	if len(o.labels) > 0 {
		values["node-labels"] = strings.Join(o.labels, ",")
	}
	if len(o.taints) > 0 {
		values["register-with-taints"] = strings.Join(o.taints, ",")
	}
	return arguments(values, o.kubeletArgs)
}

func proxyArguments(o *options, answer joinAnswer) []string {
	return arguments(map[string]string{
		"kubeconfig":                        o.agent("kubeproxy.kubeconfig"),
		"hostname-override":                 o.nodeName,
		"cluster-cidr":                      answer.Cluster,
		"proxy-mode":                        "iptables",
		"healthz-bind-address":              loopback,
		"conntrack-max-per-core":            "0",
		"conntrack-tcp-timeout-established": "0s",
		"conntrack-tcp-timeout-close-wait":  "0s",
	}, o.proxyArgs)
}
