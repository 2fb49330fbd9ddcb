package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	validity   = 365 * 24 * time.Hour
	backdating = 24 * time.Hour
)

// authority issues certificates. Its files are CERTIFICATE.crt and .key.
type authority struct {
	path        string
	certificate *x509.Certificate
	key         any
}

// ensureAuthority loads the authority in path (without extension), which a user may have put there before the first
// start, or creates it. A certificate without its key, or a key without its certificate, is an error.
func ensureAuthority(path, name string) (*authority, error) {
	_, err := os.Stat(path + ".crt")
	_, keyErr := os.Stat(path + ".key")
	switch {
	case err == nil && keyErr == nil:
		return loadAuthority(path)
	case !errors.Is(err, fs.ErrNotExist) || !errors.Is(keyErr, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: expected both .crt and .key, or neither", path)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := writePair(path, der, key); err != nil {
		return nil, err
	}
	return loadAuthority(path)
}

func loadAuthority(path string) (*authority, error) {
	certPEM, err := os.ReadFile(path + ".crt")
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(path + ".key")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, fmt.Errorf("%s.crt: expected a certificate in PEM", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s.crt: %w", path, err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s.key: %w", path, err)
	}
	return &authority{path + ".crt", certificate, key}, nil
}

func parseKey(content []byte) (any, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("expected a key in PEM")
	}
	if block.Type == "EC PRIVATE KEY" {
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// subject of a certificate: user and groups of a client, names and addresses of a server.
type subject struct {
	user   string
	groups []string
	serves []string
}

func (s subject) template() *x509.Certificate {
	template := newTemplate(pkix.Name{CommonName: s.user, Organization: s.groups})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(s.serves) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, name := range s.serves {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// pair returns a new certificate and its key, both in PEM.
func (a *authority) pair(s subject) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, s.template(), a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return encode(der, private)
}

// issue writes a new certificate and its key to path.crt and path.key.
func (a *authority) issue(path string, s subject) error {
	certificate, key, err := a.pair(s)
	if err != nil {
		return err
	}
	return writeFiles(map[string][]byte{path + ".crt": certificate, path + ".key": key})
}

func newTemplate(name pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      name,
		NotBefore:    time.Now().Add(-backdating),
		NotAfter:     time.Now().Add(validity),
	}
}

func encode(der []byte, key *ecdsa.PrivateKey) (certificate, private []byte, err error) {
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

func writePair(path string, der []byte, key *ecdsa.PrivateKey) error {
	certificate, private, err := encode(der, key)
	if err != nil {
		return err
	}
	return writeFiles(map[string][]byte{path + ".crt": certificate, path + ".key": private})
}

// writeFiles writes files by path, readable by their owner only.
func writeFiles(files map[string][]byte) error {
	for path, content := range files {
		if err := writeFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces path at once: a power cut leaves the old or the new content.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err := errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
