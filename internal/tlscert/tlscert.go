// Package tlscert serves TLS certificates from files: it makes a private
// certificate authority with a certificate for localhost, for development, and
// reloads certificates when their files change.
package tlscert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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
	"sync"
	"time"

	"grahak"
)

// The files that SelfSigned keeps in its folder.
const (
	CAFile   = "ca.pem"
	certFile = "localhost.pem"
	keyFile  = "localhost-key.pem"
)

// SelfSigned makes, once, a certificate authority and a certificate of it for
// localhost, 127.0.0.1 and ::1 in folder, which it makes with mode 0700 if need
// be. It returns the paths of the certificate and its key; programs must trust
// [CAFile] in the same folder. The authority's own key is not kept, so nobody
// can sign anything else with it.
func SelfSigned(folder string, now time.Time) (cert, key string, err error) {
	cert, key = filepath.Join(folder, certFile), filepath.Join(folder, keyFile)
	_, caErr := os.Stat(filepath.Join(folder, CAFile))
	_, certErr := os.Stat(cert)
	_, keyErr := os.Stat(key)
	if caErr == nil && certErr == nil && keyErr == nil {
		return cert, key, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", "", err
	}
	files, err := generate(now)
	if err != nil {
		return "", "", err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return "", "", err
		}
	}
	return cert, key, nil
}

// validity is as long as the strictest clients accept (825 days).
const validity = 820 * 24 * time.Hour

// generate returns the content of the three files.
func generate(now time.Time) (map[string][]byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "Grahak development CA"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		// Even if the key had been kept, it could only sign for this machine.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"},
		PermittedIPRanges:           []*net.IPNet{{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return map[string][]byte{
		CAFile:   block("CERTIFICATE", caDER),
		certFile: block("CERTIFICATE", leafDER),
		keyFile:  block("PRIVATE KEY", keyDER),
	}, nil
}

// checkInterval is how often a [Reloader] looks at its files, at most.
const checkInterval = time.Second

// Reloader serves a certificate from two files and reads them again when they
// change. It is safe for concurrent use.
type Reloader struct {
	cert, key string
	clock     grahak.Clock
	// OnError is told when changed files cannot be used; the old certificate
	// stays in use.
	onError func(error)

	mu      sync.Mutex
	current *tls.Certificate
	checked time.Time
	stamp   [2]fileStamp
}

// fileStamp tells one content of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
}

// NewReloader reads the two PEM files and returns an error that names the one
// that is missing or wrong. onError is called when changed files cannot be
// used.
func NewReloader(cert, key string, clock grahak.Clock, onError func(error)) (*Reloader, error) {
	r := &Reloader{cert: cert, key: key, clock: clock, onError: onError}
	stamp, err := r.stat()
	if err != nil {
		return nil, err
	}
	if r.current, err = r.load(); err != nil {
		return nil, err
	}
	r.stamp, r.checked = stamp, clock.Now()
	return r, nil
}

// Config returns a server configuration that uses the certificate.
func (r *Reloader) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.certificate(), nil },
	}
}

// certificate returns the certificate to serve now.
func (r *Reloader) certificate() *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if now.Sub(r.checked) < checkInterval {
		return r.current
	}
	r.checked = now
	stamp, err := r.stat()
	if err == nil && stamp == r.stamp {
		return r.current
	}
	// The two files cannot be replaced at once, so a pair that does not fit may
	// only be half of a change: it is tried again at the next look.
	next, loadErr := r.load()
	if err = errors.Join(err, loadErr); err != nil {
		r.onError(fmt.Errorf("the changed TLS certificate cannot be used, the old one stays: %w", err))
		return r.current
	}
	r.current, r.stamp = next, stamp
	return r.current
}

func (r *Reloader) stat() (stamp [2]fileStamp, err error) {
	for i, path := range []string{r.cert, r.key} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return stamp, fmt.Errorf("the TLS file %s does not exist", path)
		}
		if err != nil {
			return stamp, err
		}
		stamp[i] = fileStamp{modified: info.ModTime(), size: info.Size()}
	}
	return stamp, nil
}

func (r *Reloader) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if err != nil {
		return nil, fmt.Errorf("the TLS certificate %s and key %s cannot be used: %w", r.cert, r.key, err)
	}
	return &pair, nil
}
