package main

import (
	"context"

	"github.com/onsi/ginkgo/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/test/e2e/framework"
	e2enode "k8s.io/kubernetes/test/e2e/framework/node"
	netutils "k8s.io/utils/net"
)

// Each process of a parallel run has a test context of its own, so each one
// looks at the cluster. The first one also waits for the nodes.
var _ = ginkgo.SynchronizedBeforeSuite(waitForNodes, describeCluster)

func waitForNodes(ctx context.Context) []byte {
	client, err := framework.LoadClientset()
	framework.ExpectNoError(err, "make a client from the kubeconfig")
	timeouts := framework.NewTimeoutContext()
	framework.ExpectNoError(e2enode.WaitForAllNodesSchedulable(ctx, client, timeouts.NodeSchedulable))
	server, err := client.Discovery().ServerVersion()
	framework.ExpectNoError(err, "ask the API server for its version")
	framework.Logf("tests of %s, cluster of %s", version.Get().GitVersion, server.GitVersion)
	return nil
}

func describeCluster(ctx context.Context, _ []byte) {
	client, err := framework.LoadClientset()
	framework.ExpectNoError(err, "make a client from the kubeconfig")
	service, err := client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	framework.ExpectNoError(err, "get the service of the API server")
	framework.TestContext.IPFamily = "ipv4"
	if netutils.IsIPv6String(service.Spec.ClusterIP) {
		framework.TestContext.IPFamily = "ipv6"
	}
	if framework.TestContext.CloudConfig.NumNodes == framework.DefaultNumNodes {
		nodes, err := e2enode.GetReadySchedulableNodes(ctx, client)
		framework.ExpectNoError(err, "list the nodes")
		framework.TestContext.CloudConfig.NumNodes = len(nodes.Items)
	}
}
