// Package standin is a stand-in for k3s: it takes the same subcommands and flags, uses the same paths and joins nodes
// by a token, but runs the upstream programs of the same binary as child processes. It tests how the lab handles a
// cluster whose control plane is on a node. It contains no code of k3s and lacks what the lab does not use: flannel,
// network policies, packaged components, a datastore other than etcd, more than one server.
package standin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

const (
	// DefaultConfig is read before the command line, unless --config names another file.
	DefaultConfig = "/etc/rancher/k3s/config.yaml"
	// DefaultKubeconfig is the administrator's kubeconfig on the server.
	DefaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	defaultDataDir    = "/var/lib/rancher/k3s"
)

// packaged are the components that --disable may name. The stand-in has none of them.
var packaged = []string{"coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik"}

// options are the flags of `server` and `agent`, as far as the stand-in has them.
type options struct {
	server                                             bool
	config, dataDir, token, url                        string
	nodeName, nodeIP, defaultRuntime, pauseImage       string
	resolvConf, flannelBackend, registries             string
	clusterCIDR, serviceCIDR, clusterDNS, domain       string
	kubeconfig, kubeconfigMode                         string
	disable, names, labels, taints                     []string
	apiserverArgs, controllerArgs, schedulerArgs       []string
	etcdArgs, kubeletArgs, proxyArgs                   []string
	clusterInit, noNetworkPolicy, noCloud, noHelm, dbg bool
}

func (o *options) flags(name string) *pflag.FlagSet {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	host, _ := os.Hostname()
	set.StringVarP(&o.config, "config", "c", DefaultConfig, "YAML file with flags as keys")
	set.StringVarP(&o.dataDir, "data-dir", "d", defaultDataDir, "folder for all state")
	set.StringVarP(&o.token, "token", "t", os.Getenv("K3S_TOKEN"), "secret by which nodes join [K3S_TOKEN]")
	set.StringVar(&o.nodeName, "node-name", cmpOr(os.Getenv("K3S_NODE_NAME"), host), "name of this node [K3S_NODE_NAME]")
	set.StringVarP(&o.nodeIP, "node-ip", "i", "", "address of this node")
	set.StringVar(&o.defaultRuntime, "default-runtime", "runc", "containerd's default OCI runtime")
	set.StringVar(&o.pauseImage, "pause-image", "", "image of pod sandboxes")
	set.StringVar(&o.registries, "private-registry", DefaultRegistries, "YAML file with mirrors of registries")
	set.StringVar(&o.resolvConf, "resolv-conf", os.Getenv("K3S_RESOLV_CONF"), "kubelet's resolv.conf [K3S_RESOLV_CONF]")
	set.StringArrayVar(&o.labels, "node-label", nil, "label of the node")
	set.StringArrayVar(&o.taints, "node-taint", nil, "taint of the node")
	set.StringArrayVar(&o.kubeletArgs, "kubelet-arg", nil, "flag for the kubelet")
	set.StringArrayVar(&o.proxyArgs, "kube-proxy-arg", nil, "flag for kube-proxy")
	set.BoolVar(&o.dbg, "debug", false, "log more")
	if !o.server {
		set.StringVarP(&o.url, "server", "s", os.Getenv("K3S_URL"), "https URL of the server [K3S_URL]")
		return set
	}
	set.StringSliceVar(&o.disable, "disable", nil, "packaged components that are not deployed")
	set.StringVar(&o.flannelBackend, "flannel-backend", "vxlan", "only none: the stand-in has no flannel")
	set.StringVar(&o.clusterCIDR, "cluster-cidr", "10.42.0.0/16", "addresses of pods")
	set.StringVar(&o.serviceCIDR, "service-cidr", "10.43.0.0/16", "addresses of services")
	set.StringVar(&o.clusterDNS, "cluster-dns", "10.43.0.10", "address of the DNS service")
	set.StringVar(&o.domain, "cluster-domain", "cluster.local", "DNS domain")
	set.StringVarP(&o.kubeconfig, "write-kubeconfig", "o", DefaultKubeconfig, "where to write the administrator's kubeconfig")
	set.StringVar(&o.kubeconfigMode, "write-kubeconfig-mode", "0600", "its mode")
	set.StringSliceVar(&o.names, "tls-san", nil, "more names and addresses of the API server's certificate")
	set.StringArrayVar(&o.apiserverArgs, "kube-apiserver-arg", nil, "flag for kube-apiserver")
	set.StringArrayVar(&o.controllerArgs, "kube-controller-manager-arg", nil, "flag for kube-controller-manager")
	set.StringArrayVar(&o.schedulerArgs, "kube-scheduler-arg", nil, "flag for kube-scheduler")
	set.StringArrayVar(&o.etcdArgs, "etcd-arg", nil, "flag for etcd")
	set.BoolVar(&o.clusterInit, "cluster-init", false, "use etcd: the stand-in always does")
	set.BoolVar(&o.noNetworkPolicy, "disable-network-policy", false, "accepted: the stand-in has no network policies")
	set.BoolVar(&o.noCloud, "disable-cloud-controller", false, "accepted: the stand-in has no cloud controller")
	set.BoolVar(&o.noHelm, "disable-helm-controller", false, "accepted: the stand-in has no Helm controller")
	return set
}

func cmpOr(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// parse reads the configuration file, then args, whose values win.
func parse(name string, args []string) (*options, error) {
	first := &options{server: name == "server"}
	set := first.flags(name)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	fromFile, err := configArgs(first.config, set.Changed("config"))
	if err != nil {
		return nil, err
	}
	o := &options{server: name == "server"}
	set = o.flags(name)
	if err := set.Parse(append(fromFile, args...)); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("%s: expected flags only, found %q", name, set.Args())
	}
	return o, o.check(name)
}

func (o *options) check(name string) error {
	switch {
	case o.nodeIP == "":
		return fmt.Errorf("%s: --node-ip is missing: the stand-in does not guess the node's address", name)
	case o.server && o.flannelBackend != "none":
		return fmt.Errorf("--flannel-backend=%s: the stand-in has no flannel; use none and a CNI of your own", o.flannelBackend)
	case !o.server && o.token == "":
		return errors.New("agent: no token; set K3S_TOKEN or --token, from the server's file node-token")
	case !o.server && !strings.HasPrefix(o.url, "https://"):
		return fmt.Errorf("agent: expected K3S_URL or --server as https://HOST:PORT, found %q", o.url)
	}
	for _, component := range o.disable {
		if !slices.Contains(packaged, component) {
			return fmt.Errorf("--disable=%s: expected some of %s", component, strings.Join(packaged, ", "))
		}
	}
	return nil
}

// configArgs are the flags of a configuration file: its keys are flags without dashes, a list repeats its flag. A
// missing file is an error only if it was asked for.
func configArgs(path string, asked bool) ([]string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.Unmarshal(content, &values); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var args []string
	for _, key := range keys {
		items, isList := values[key].([]any)
		if !isList {
			items = []any{values[key]}
		}
		for _, item := range items {
			args = append(args, fmt.Sprintf("--%s=%v", strings.TrimSuffix(key, "+"), item))
		}
	}
	return args, nil
}

func (o *options) tls(names ...string) string {
	return o.under(append([]string{"server", "tls"}, names...)...)
}

func (o *options) agent(names ...string) string {
	return o.under(append([]string{"agent"}, names...)...)
}

func (o *options) under(names ...string) string {
	return filepath.Join(append([]string{o.dataDir}, names...)...)
}
