package standin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	etcdWait      = 120 * time.Second
	apiserverWait = 600 * time.Second
	probeTimeout  = 5 * time.Second
)

// run is `server` or `agent` until SIGTERM, or until one of its children ends.
func run(name string, args []string) error {
	// The kernel ends the children with the thread that started them: this one, which the process never gives up.
	runtime.LockOSThread()
	o, err := parse(name, args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	children := newChildren()
	defer children.end()
	if o.server {
		err = startServer(ctx, o, children)
	} else {
		err = startAgent(ctx, o, children)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-children.ended:
		return err
	}
}

func startServer(ctx context.Context, o *options, children *children) error {
	all, err := writeServerFiles(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", joinPort))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			listener.Close()
		}
	}()
	serveJoin(o, all, listener)
	if err = startControlPlane(ctx, o, children); err != nil {
		return err
	}
	answer, err := nodeAnswer(o, all, joinRequest{o.nodeName, o.nodeIP})
	if err != nil {
		return err
	}
	return startNode(ctx, o, children, loopback, answer)
}

func startControlPlane(ctx context.Context, o *options, children *children) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	steps := []struct {
		name    string
		args    []string
		timeout time.Duration
		url     string
		ca      string
		client  string
	}{
		{"etcd", etcdArguments(o), etcdWait, "https://127.0.0.1:2379/readyz", o.tls("etcd", "server-ca.crt"), o.tls("etcd", "client")},
		{"kube-apiserver", apiserverArguments(o), apiserverWait, fmt.Sprintf("https://127.0.0.1:%d/readyz", apiPort), o.tls("server-ca.crt"), o.tls("client-admin")},
		{"kube-controller-manager", controllerArguments(o), 0, "", "", ""},
		{"kube-scheduler", schedulerArguments(o), 0, "", "", ""},
	}
	for _, step := range steps {
		if err := children.start(step.name, self, step.args, os.Stderr); err != nil {
			return err
		}
		if step.url == "" {
			continue
		}
		client, err := probeClient(step.ca, step.client)
		if err != nil {
			return err
		}
		if err := children.wait(ctx, step.name, step.timeout, func(ctx context.Context) error {
			return probe(ctx, client, step.url)
		}); err != nil {
			return err
		}
	}
	return nil
}

func startAgent(ctx context.Context, o *options, children *children) error {
	host, err := serverHost(o.url)
	if err != nil {
		return err
	}
	answer, err := joinUntil(ctx, o, host)
	if err != nil {
		return err
	}
	return startNode(ctx, o, children, host, answer)
}

// startNode starts what every node runs; kubelet and kube-proxy reach the API server at host.
func startNode(ctx context.Context, o *options, children *children, host string, answer joinAnswer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := errors.Join(writeNodeFiles(o, host, answer), writeKubeletConfig(o, answer)); err != nil {
		return err
	}
	if err := startContainerd(ctx, o, children); err != nil {
		return err
	}
	if err := children.start("kubelet", self, kubeletArguments(o), os.Stderr); err != nil {
		return err
	}
	return children.start("kube-proxy", self, proxyArguments(o, answer), os.Stderr)
}

func probeClient(ca, identity string) (*http.Client, error) {
	content, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	pair, err := tls.LoadX509KeyPair(identity+".crt", identity+".key")
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return &http.Client{Timeout: probeTimeout, Transport: &http.Transport{TLSClientConfig: config}}, nil
}

func probe(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

func fail(err error) int {
	log.Print(err)
	return 1
}
