package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/component-base/version"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	usage       = "expected server, agent, kubectl, ctr, crictl info, or --version"
	infoTimeout = 60 * time.Second
)

// Main runs the subcommand in args (without the program's name) and returns its exit code; kubectl runs the kubectl of
// this binary, with os.Args set for it.
func Main(args []string, kubectl func()) int {
	log.SetFlags(0)
	if len(args) == 0 {
		return fail(errors.New(usage))
	}
	switch args[0] {
	case "server", "agent":
		if err := run(args[0], args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
			return fail(fmt.Errorf("%s: %w", args[0], err))
		}
		return 0
	case "kubectl":
		if os.Getenv("KUBECONFIG") == "" {
			os.Setenv("KUBECONFIG", DefaultKubeconfig)
		}
		os.Args = args
		kubectl()
		return 0
	case "ctr":
		return fail(execCtr(args))
	case "crictl":
		if err := crictl(args[1:], os.Stdout); err != nil {
			return fail(err)
		}
		return 0
	case "--version", "-v":
		fmt.Printf("stand-in for k3s, Kubernetes %s\n", version.Get().GitVersion)
		return 0
	}
	return fail(fmt.Errorf("%s, found %q", usage, args[0]))
}

func execCtr(args []string) error {
	path, err := exec.LookPath("ctr")
	if err != nil {
		return err
	}
	environment := append(os.Environ(), "CONTAINERD_ADDRESS="+containerdSocket, "CONTAINERD_NAMESPACE="+imageNamespace)
	return syscall.Exec(path, args, environment)
}

// crictl has only `info`: cri-tools, where crictl comes from, is not to be had as a Go module.
func crictl(args []string, out io.Writer) error {
	if len(args) != 1 || args[0] != "info" {
		return fmt.Errorf("crictl: the stand-in has only `crictl info`, found %q; for images and containers use ctr", args)
	}
	ctx, cancel := context.WithTimeout(context.Background(), infoTimeout)
	defer cancel()
	status, err := runtimeStatus(ctx, containerdSocket)
	if err != nil {
		return fmt.Errorf("crictl: containerd at %s does not answer: %w", containerdSocket, err)
	}
	return writeInfo(out, status)
}

// writeInfo writes the runtime's status and its verbose information as one JSON object, as crictl does.
func writeInfo(out io.Writer, status *runtimeapi.StatusResponse) error {
	all := map[string]any{"status": status.GetStatus()}
	for name, text := range status.GetInfo() {
		if json.Valid([]byte(text)) {
			all[name] = json.RawMessage(text)
		} else {
			all[name] = text
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}

// runtimeStatus asks the container runtime at socket (Container Runtime Interface, RuntimeService.Status).
func runtimeStatus(ctx context.Context, socket string) (*runtimeapi.StatusResponse, error) {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return runtimeapi.NewRuntimeServiceClient(connection).Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
}
