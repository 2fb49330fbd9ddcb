package standin

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	joinUser      = "node"
	joinTimeout   = 20 * time.Second
	joinPause     = time.Second
	maxJoinBytes  = 1 << 20
	pathAuthority = "/cacerts"
	pathJoin      = "/join"
)

type joinRequest struct {
	Node    string `json:"node"`
	Address string `json:"address"`
}

// joinAnswer is what a node needs: files below agent/ by name, and settings of the cluster.
type joinAnswer struct {
	Files      map[string][]byte `json:"files"`
	ClusterDNS string            `json:"clusterDNS"`
	Domain     string            `json:"domain"`
	Cluster    string            `json:"clusterCIDR"`
}

// nodeAnswer issues the certificates of a node.
func nodeAnswer(o *options, all authorities, request joinRequest) (joinAnswer, error) {
	answer := joinAnswer{Files: map[string][]byte{}, ClusterDNS: o.clusterDNS, Domain: o.domain, Cluster: o.clusterCIDR}
	for _, item := range []struct {
		by   *authority
		name string
		subject
	}{
		{all.client, "client-kubelet", subject{user: "system:node:" + request.Node, groups: []string{"system:nodes"}}},
		{all.client, "client-kube-proxy", subject{user: "system:kube-proxy"}},
		{all.server, "serving-kubelet", subject{user: request.Node, serves: []string{request.Node, request.Address, loopback}}},
	} {
		certificate, key, err := item.by.pair(item.subject)
		if err != nil {
			return answer, err
		}
		answer.Files[item.name+".crt"], answer.Files[item.name+".key"] = certificate, key
	}
	for name, by := range map[string]*authority{"client-ca.crt": all.client, "server-ca.crt": all.server} {
		content, err := os.ReadFile(by.path)
		if err != nil {
			return answer, err
		}
		answer.Files[name] = content
	}
	return answer, nil
}

// joinHandler serves the authority's certificate to anyone, and certificates of a node to those who know the secret.
func joinHandler(o *options, all authorities) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathAuthority, func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, all.server.path)
	})
	mux.HandleFunc("POST "+pathJoin, func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(secret), []byte(o.token)) != 1 {
			http.Error(w, "the token is not that of this cluster", http.StatusUnauthorized)
			return
		}
		var request joinRequest
		err := json.NewDecoder(io.LimitReader(r.Body, maxJoinBytes)).Decode(&request)
		if err != nil || request.Node == "" || net.ParseIP(request.Address) == nil {
			http.Error(w, "expected the node's name and address", http.StatusBadRequest)
			return
		}
		answer, err := nodeAnswer(o, all, request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		log.Printf("node %s at %s joins", request.Node, request.Address)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
	return mux
}

func serveJoin(o *options, all authorities, listener net.Listener) *http.Server {
	server := &http.Server{Handler: joinHandler(o, all), ReadHeaderTimeout: joinTimeout}
	go func() {
		err := server.ServeTLS(listener, o.tls("serving-kube-apiserver.crt"), o.tls("serving-kube-apiserver.key"))
		if !errors.Is(err, http.ErrServerClosed) {
			log.Fatalf("join server: %v", err)
		}
	}()
	return server
}

// errRefused means that another attempt to join would end alike.
var errRefused = errors.New("the server refuses this node")

// join asks the server at base (https://HOST:PORT) for this node's certificates.
func join(ctx context.Context, base, token string, request joinRequest) (joinAnswer, error) {
	var answer joinAnswer
	ca, err := fetchAuthority(ctx, base, expectedHash(token))
	if err != nil {
		return answer, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return answer, fmt.Errorf("%s%s: expected a certificate in PEM", base, pathAuthority)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, base+pathJoin, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	post.SetBasicAuth(joinUser, secretOf(token))
	content, err := roundTrip(post, &tls.Config{RootCAs: roots})
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(content, &answer)
}

// fetchAuthority gets the authority's certificate from a server that is not trusted yet. A full token has its hash; with
// a short one the first answer is trusted.
func fetchAuthority(ctx context.Context, base, expected string) ([]byte, error) {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, base+pathAuthority, nil)
	if err != nil {
		return nil, err
	}
	content, err := roundTrip(get, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	if found := hash(content); expected != "" && found != expected {
		return nil, fmt.Errorf("%w: the token expects an authority with hash %s, the server has %s", errRefused, expected, found)
	}
	return content, nil
}

func roundTrip(request *http.Request, config *tls.Config) ([]byte, error) {
	client := &http.Client{Timeout: joinTimeout, Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxJoinBytes))
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return content, nil
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("%w: %s", errRefused, bytes.TrimSpace(content))
	default:
		return nil, fmt.Errorf("%s: %s: %s", request.URL, response.Status, bytes.TrimSpace(content))
	}
}

// serverHost is the host in K3S_URL.
func serverHost(text string) (string, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return "", fmt.Errorf("expected https://HOST:PORT, found %q", text)
	}
	return parsed.Hostname(), nil
}

// joinUntil tries to join until it succeeds, the server refuses, or ctx ends. A node that joined before goes on with
// the certificates that it has if the first attempt fails.
func joinUntil(ctx context.Context, o *options, host string) (joinAnswer, error) {
	base := "https://" + net.JoinHostPort(host, fmt.Sprint(joinPort))
	said := ""
	for {
		answer, err := join(ctx, base, o.token, joinRequest{o.nodeName, o.nodeIP})
		if err == nil || errors.Is(err, errRefused) {
			return answer, err
		}
		if old, oldErr := loadAnswer(o); oldErr == nil {
			log.Printf("join: %v; going on with the certificates of the last start", err)
			return old, nil
		}
		if said != err.Error() {
			said = err.Error()
			log.Printf("join: %v; trying again", err)
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(joinPause):
		}
	}
}

func loadAnswer(o *options) (joinAnswer, error) {
	var answer joinAnswer
	content, err := os.ReadFile(o.agent("joined.json"))
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(content, &answer)
}

// writeNodeFiles writes certificates and kubeconfigs of the kubelet and kube-proxy, which reach the API server at host.
func writeNodeFiles(o *options, host string, answer joinAnswer) error {
	files := map[string][]byte{
		o.agent("kubelet.kubeconfig"):   kubeconfig(host, o.agent("server-ca.crt"), o.agent("client-kubelet")),
		o.agent("kubeproxy.kubeconfig"): kubeconfig(host, o.agent("server-ca.crt"), o.agent("client-kube-proxy")),
	}
	for name, content := range answer.Files {
		files[o.agent(name)] = content
	}
	all, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	files[o.agent("joined.json")] = all
	return writeFiles(files)
}
