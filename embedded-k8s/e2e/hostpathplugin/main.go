// Command hostpathplugin forwards connections, as the proxy mode of the CSI
// driver of that name does, which Kubernetes' tests of DRA deploy on the nodes:
// the driver under test runs in the test's process, and reaches the kubelet
// through this program. The original cannot be had as a Go module.
//
// The program listens at two addresses. Each connection of a client of one is
// joined with one of the other, in the order in which they come, and both end
// as soon as one does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

func main() {
	endpoint := flag.String("endpoint", "", "address for clients on the node, such as /run/plugin.sock")
	proxy := flag.String("proxy-endpoint", "", "address for the test's process, such as tcp://:9000")
	flag.Int("v", 0, "accepted as the original accepts it; all connections are logged")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := forward(ctx, *endpoint, *proxy); err != nil {
		fmt.Fprintln(os.Stderr, "hostpathplugin:", err)
		os.Exit(1)
	}
}

// forward joins connections of both addresses until ctx is done.
func forward(ctx context.Context, endpoint, proxy string) error {
	if endpoint == "" || proxy == "" {
		return errors.New("expected --endpoint and --proxy-endpoint, found one of them or none")
	}
	near, err := listen(endpoint)
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := listen(proxy)
	if err != nil {
		return err
	}
	defer far.Close()
	stopped := context.AfterFunc(ctx, func() {
		near.Close()
		far.Close()
	})
	defer stopped()
	for {
		client, err := near.Accept()
		if err != nil {
			return unlessDone(ctx, err)
		}
		log.Printf("connection at %s", endpoint)
		server, err := far.Accept()
		if err != nil {
			client.Close()
			return unlessDone(ctx, err)
		}
		log.Printf("joined with a connection at %s", proxy)
		go join(ctx, client, server)
	}
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// listen opens an address: a path, unix://PATH or tcp://HOST:PORT. A socket
// that an earlier process has left behind is replaced.
func listen(address string) (net.Listener, error) {
	network, place, found := strings.Cut(address, "://")
	if !found {
		network, place = "unix", address
	}
	if network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("expected a path, unix://PATH or tcp://HOST:PORT, found %q", address)
	}
	if network == "unix" {
		if err := os.Remove(place); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return net.Listen(network, place)
}

// join copies in both directions until one side ends or ctx is done.
func join(ctx context.Context, one, other net.Conn) {
	var once sync.Once
	end := func() {
		once.Do(func() {
			one.Close()
			other.Close()
		})
	}
	stopped := context.AfterFunc(ctx, end)
	defer stopped()
	go func() {
		defer end()
		io.Copy(one, other)
	}()
	defer end()
	io.Copy(other, one)
}
