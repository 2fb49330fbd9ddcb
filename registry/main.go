// Command lab-registry is the container registry of a lab cluster.
//
// It is the registry of go-containerregistry, behind a front for containerd: the nodes' containerd asks it first for
// every image, and names the registry in the image's name by the query parameter ns (containerd, docs/hosts.md,
// "Registry Host Namespace"). An image of another registry is kept under that registry's name, as in
// registry.example/app.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

const (
	api        = "/v2/"
	noInternet = "this cluster has no internet: bring the image by lab load-image or lab registry, " +
		"or start the cluster by lab up --internet"
	notLoaded = "the node lacks this image, and no registry has names with localhost: bring it by lab load-image"
)

type front struct {
	registry http.Handler
	// own has the names of this registry, without ports.
	own      map[string]bool
	internet bool
}

func (f *front) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodPut {
		// An upload is in memory until it is complete.
		defer debug.FreeOSMemory()
	}
	namespace := request.URL.Query().Get("ns")
	// Without a port, localhost/image is no image of a registry.
	host, _, _ := net.SplitHostPort(namespace)
	switch kept := f.kept(request, namespace); {
	case namespace == "" || f.own[host]:
		f.registry.ServeHTTP(response, request)
	case kept != nil:
		f.registry.ServeHTTP(response, kept)
	case namespace == "localhost":
		refuse(response, http.StatusForbidden, "DENIED", notLoaded)
	case f.internet:
		// containerd asks the image's own registry next.
		refuse(response, http.StatusNotFound, "NAME_UNKNOWN", "this registry does not keep this image")
	default:
		refuse(response, http.StatusForbidden, "DENIED", noInternet)
	}
}

// kept returns the request for what is kept under the name of another registry, or nil if that is not here.
func (f *front) kept(request *http.Request, namespace string) *http.Request {
	name, found := strings.CutPrefix(request.URL.Path, api)
	if namespace == "" || !found {
		return nil
	}
	kept := request.Clone(request.Context())
	kept.URL.Path = api + namespace + "/" + name
	probe := kept.Clone(request.Context())
	probe.Method = http.MethodHead
	answer := httptest.NewRecorder()
	f.registry.ServeHTTP(answer, probe)
	if answer.Code != http.StatusOK {
		return nil
	}
	return kept
}

// refuse answers in the format of the OCI distribution specification, "Error Codes".
func refuse(response http.ResponseWriter, status int, code, message string) {
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(status)
	_ = json.NewEncoder(response).Encode(map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
}

func main() {
	address := flag.String("address", "127.0.0.1:5000", "address and port to listen on")
	folder := flag.String("folder", "blobs", "folder for layers")
	names := flag.String("names", "localhost,127.0.0.1", "names of this registry, separated by commas")
	internet := flag.Bool("internet", false, "nodes reach other registries")
	flag.Parse()
	if err := os.MkdirAll(*folder, 0o700); err != nil {
		log.Fatal(err)
	}
	own := map[string]bool{}
	for name := range strings.SplitSeq(*names, ",") {
		own[name] = true
	}
	handler := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(*folder)),
		registry.WithReferrersSupport(true),
	)
	server := &http.Server{
		Addr:              *address,
		Handler:           &front{registry: handler, own: own, internet: *internet},
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
