package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

// runDNS runs CoreDNS with the plugins that cluster DNS needs. It avoids
// coremain, whose global flags would become flags of kubectl, too.
func runDNS() {
	flags := flag.NewFlagSet("coredns", flag.ExitOnError)
	path := flags.String("conf", "Corefile", "Corefile to load")
	_ = flags.Parse(os.Args[1:])
	if err := serveDNS(*path); err != nil {
		fmt.Fprintf(os.Stderr, "coredns: %v\n", err)
		os.Exit(1)
	}
}

func serveDNS(path string) error {
	contents, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	dnsserver.Port = dnsserver.DefaultPort
	// Order of plugins in a server block, as in CoreDNS's plugin.cfg.
	dnsserver.Directives = []string{"bind", "ready", "errors", "cache", "loadbalance", "template", "kubernetes", "forward"}
	caddy.TrapSignals()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: contents, Filepath: path, ServerTypeName: "dns"})
	if err != nil {
		return err
	}
	instance.Wait()
	return nil
}
