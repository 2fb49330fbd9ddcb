// Command dra-e2e is Kubernetes' own end-to-end tests of DRA, the unmodified
// package k8s.io/kubernetes/test/e2e/dra, with the set-up that its suite needs.
// The ginkgo command runs it as a compiled suite, in several processes at once.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/testinit"
	"k8s.io/klog/v2"
	_ "k8s.io/kubernetes/test/e2e/dra"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	e2etestingmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	_ "k8s.io/kubernetes/test/utils/ktesting/format"
)

// outcome takes the place of *testing.T, which exists in test binaries only.
type outcome struct{ failed bool }

func (o *outcome) Fail() { o.failed = true }

func main() {
	// The ginkgo command passes flags of a test binary, such as -test.timeout.
	testing.Init()
	images := flag.Bool("images", false, "Print the container images that the tests use as JSON, and exit.")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "dra-e2e: expected flags only, found %q\n", flag.Args())
		os.Exit(2)
	}
	testfiles.AddFileSource(e2etestingmanifests.GetE2ETestingManifestsFS())
	if *images {
		if err := printImages(); err != nil {
			fmt.Fprintln(os.Stderr, "dra-e2e:", err)
			os.Exit(1)
		}
		return
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	if !runSpecs() {
		os.Exit(1)
	}
}

func printImages() error {
	used, err := usedImages()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(used)
}

// runSpecs runs the selected specs and returns whether none failed.
func runSpecs() bool {
	logs.InitLogs()
	defer logs.FlushLogs()
	klog.EnableContextualLogging(true)
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	result := &outcome{}
	reportProgress()
	passed := ginkgo.RunSpecs(result, "Kubernetes e2e suite: DRA", suite, reporter)
	return passed && !result.failed
}
