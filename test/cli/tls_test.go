package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// writeCertificate writes a certificate for localhost that signs itself, and its key, each in one step.
func writeCertificate(t *testing.T, cert, key string, serial int64, until time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: until.Add(-1000 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		replaceFile(t, path, pem.EncodeToMemory(block))
	}
}

// replaceFile writes a file aside and renames it, as programs that renew certificates do.
func replaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// serial returns the serial number of the certificate that a new connection is shown.
func serial(t *testing.T, base string) string {
	t.Helper()
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: answerTimeout}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("a connection of type %T", conn)
	}
	return secured.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// trusting returns a client that trusts nothing but the certificates in the file.
func trusting(t *testing.T, path string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", path)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// TestSelfSigned checks that the certificate is made once, and is good for all names of this machine to one who trusts
// the file that the banner names, and to nobody else.
func TestSelfSigned(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, nil, serve(data, "--tls-self-signed", "--listen", "[::]:0")...)
	banner := p.banner(t)
	base, ca := field(t, banner, "Base URL"), strings.TrimSuffix(field(t, banner, "Trust"), ":")
	if name := filepath.Base(ca); !strings.Contains(name, "ca") || !strings.HasSuffix(name, ".pem") || filepath.Dir(filepath.Dir(ca)) != data {
		t.Errorf("the certificate authority is in %s", ca)
	}
	demo := caller{base: base, key: field(t, banner, "API key"), client: trusting(t, ca)}
	mustMatch(t, "the banner", banner, `: curl --cacert `+regexp.QuoteMeta(ca)+`, or NODE_EXTRA_CA_CERTS=`+regexp.QuoteMeta(ca)+`\n`)
	if !strings.HasPrefix(base, "https://localhost:") {
		t.Errorf("the base URL is %s", base)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		demo.base = strings.Replace(base, "localhost", host, 1)
		if status := demo.list(t); status != http.StatusOK {
			t.Errorf("%s: %d", demo.base, status)
		}
	}
	if _, err := (caller{base: base}).try(t.Context(), http.MethodGet, "/customers", ""); err == nil {
		t.Error("one who does not trust the authority was not warned")
	}
	// One who speaks without TLS gets no answer from the API.
	if a, err := (caller{base: strings.Replace(base, "https", "http", 1)}).try(t.Context(), http.MethodGet, "/customers", ""); err == nil && a.status != http.StatusBadRequest {
		t.Errorf("without TLS: %d %s", a.status, a.body)
	}
	first := serial(t, base)
	p.stop(t, os.Interrupt)

	s := testkit.Start(t, data, "--tls-self-signed")
	if again := serial(t, strings.Replace(s.BaseURL, "localhost", "127.0.0.1", 1)); again != first {
		t.Errorf("the second start shows certificate %s, the first showed %s", again, first)
	}
	s.Stop(t)
}

// TestCertificateReloaded checks that a new connection sees a certificate that was replaced, and that one that cannot be
// used leaves the old one in use.
func TestCertificateReloaded(t *testing.T) {
	// The files are looked at every second.
	const reload = 10 * time.Second
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	until := time.Now().Add(1000 * time.Hour)
	writeCertificate(t, cert, key, 1001, until)
	s := testkit.Start(t, filepath.Join(dir, "data"), "--tls-cert", cert, "--tls-key", key)
	demo := caller{base: s.BaseURL, key: s.Key, client: trusting(t, cert)}
	demo.create(t, "over TLS")
	if got := serial(t, s.BaseURL); got != "1001" {
		t.Fatalf("serial %s, want 1001", got)
	}

	writeCertificate(t, cert, key, 1002, until)
	eventually(t, reload, "a new connection sees the new certificate", func() bool { return serial(t, s.BaseURL) == "1002" })
	// The old connection goes on, and its client trusts the old certificate only.
	if status := demo.list(t); status != http.StatusOK {
		t.Errorf("on the old connection: %d", status)
	}

	replaceFile(t, cert, []byte("half a certificate"))
	eventually(t, answerTimeout, "the log tells that the certificate cannot be used", func() bool {
		if got := serial(t, s.BaseURL); got != "1002" {
			t.Fatalf("serial %s, want 1002 until there is one that can be used", got)
		}
		return strings.Contains(s.Log(t), "the changed TLS certificate cannot be used, the old one stays")
	})
	writeCertificate(t, cert, key, 1003, until)
	eventually(t, reload, "a new connection sees the newest certificate", func() bool { return serial(t, s.BaseURL) == "1003" })
	s.Stop(t)
}
