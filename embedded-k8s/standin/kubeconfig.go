package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

const contextName = "default"

// kubeconfig of the client whose certificate and key are identity.crt and identity.key, for the server at host.
func kubeconfig(host, ca, identity string) []byte {
	content, _ := yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []any{map[string]any{"name": contextName, "cluster": map[string]any{
			"server": fmt.Sprintf("https://%s:%d", host, apiPort), "certificate-authority": ca}}},
		"users": []any{map[string]any{"name": contextName, "user": map[string]any{
			"client-certificate": identity + ".crt", "client-key": identity + ".key"}}},
		"contexts":        []any{map[string]any{"name": contextName, "context": map[string]any{"cluster": contextName, "user": contextName}}},
		"current-context": contextName,
	})
	return content
}

// embedFiles replaces the references of a kubeconfig by the files' content.
func embedFiles(config map[string]any) ([]byte, error) {
	for list, item := range map[string]string{"clusters": "cluster", "users": "user"} {
		for _, entry := range config[list].([]any) {
			fields := entry.(map[string]any)[item].(map[string]any)
			for _, key := range []string{"certificate-authority", "client-certificate", "client-key"} {
				path, found := fields[key].(string)
				if !found {
					continue
				}
				content, err := os.ReadFile(path)
				if err != nil {
					return nil, err
				}
				delete(fields, key)
				fields[key+"-data"] = base64.StdEncoding.EncodeToString(content)
			}
		}
	}
	return yaml.Marshal(config)
}

func newKeyPEM() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
