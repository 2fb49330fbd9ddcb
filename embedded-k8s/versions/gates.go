//go:build ignore

// gates.go prints the feature gates that the components of this version of
// Kubernetes know, as JSON: stage, default, and whether the default is locked.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

type gate struct {
	Stage   string `json:"stage"`
	Default bool   `json:"default"`
	Locked  bool   `json:"locked"`
}

func main() {
	// The components add their gates to one list, at the latest with their flags.
	apiserver.NewAPIServerCommand()
	controllers.NewControllerManagerCommand()
	scheduler.NewSchedulerCommand()
	proxy.NewProxyCommand()
	kubelet.NewKubeletCommand(context.Background())

	found := map[featuregate.Feature]gate{}
	for name, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		stage := strings.ToLower(string(spec.PreRelease))
		if spec.PreRelease == featuregate.GA {
			stage = "ga" // the constant is an empty text
		}
		found[name] = gate{stage, spec.Default, spec.LockToDefault}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
