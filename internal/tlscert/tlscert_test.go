package tlscert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"grahak/internal/testkit"
	"grahak/internal/tlscert"
)

// folder is a folder with a certificate that was made at the time of clock.
type folder struct {
	path, cert, key string
	clock           *testkit.Clock
}

// MustMake makes a certificate in a new folder.
func MustMake(tb testing.TB) *folder {
	tb.Helper()
	f := &folder{path: filepath.Join(tb.TempDir(), "tls"), clock: testkit.NewClock()}
	f.MustRemake(tb)
	return f
}

// MustRemake calls SelfSigned again.
func (f *folder) MustRemake(tb testing.TB) {
	tb.Helper()
	var err error
	if f.cert, f.key, err = tlscert.SelfSigned(f.path, f.clock.Now()); err != nil {
		tb.Fatal(err)
	}
}

// MustRead returns the content of every file.
func (f *folder) MustRead(tb testing.TB) map[string]string {
	tb.Helper()
	entries, err := os.ReadDir(f.path)
	if err != nil {
		tb.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(f.path, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	return files
}

// MustTrust returns what a program has that trusts the folder's authority.
func (f *folder) MustTrust(tb testing.TB) *x509.CertPool {
	tb.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(f.path, tlscert.CAFile))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		tb.Fatalf("the authority cannot be trusted: %v", err)
	}
	return pool
}

// MustReload returns a reloader of the folder's certificate, and the errors
// that it reports.
func (f *folder) MustReload(tb testing.TB) (*tlscert.Reloader, *faults) {
	tb.Helper()
	seen := new(faults)
	r, err := tlscert.NewReloader(f.cert, f.key, f.clock, seen.add)
	if err != nil {
		tb.Fatal(err)
	}
	return r, seen
}

// faults collects errors.
type faults struct {
	mu  sync.Mutex
	all []error
}

func (f *faults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

// take returns the errors since the last call.
func (f *faults) take() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.all
	f.all = nil
	return all
}

// MustPEM returns the content of the first block of PEM text.
func MustPEM(tb testing.TB, text string) []byte {
	tb.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		tb.Fatalf("%.40q is not PEM", text)
	}
	return block.Bytes
}

// MustCert reads a certificate in PEM.
func MustCert(tb testing.TB, text string) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(MustPEM(tb, text))
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// handshake does a TLS handshake between client and server over a real
// connection, sends a byte each way, and returns the certificate that the
// client was shown.
func handshake(server, client *tls.Config) (*x509.Certificate, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		s := tls.Server(conn, server)
		var b [1]byte
		if _, err := s.Read(b[:]); err == nil {
			_, _ = s.Write(b[:])
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	defer func() { <-echoed }()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := tls.Client(conn, client)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	b := []byte("x")
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	if _, err := c.Read(b); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// shown returns the certificate that a client that trusts pool is shown, and
// fails the test if it refuses it.
func (f *folder) shown(tb testing.TB, r *tlscert.Reloader, pool *x509.CertPool) *x509.Certificate {
	tb.Helper()
	cert, err := handshake(r.Config(), &tls.Config{RootCAs: pool, ServerName: "localhost", Time: f.clock.Now})
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestSelfSigned(t *testing.T) {
	t.Parallel()
	f := MustMake(t)
	if !strings.Contains(tlscert.CAFile, "ca") || filepath.Ext(tlscert.CAFile) != ".pem" {
		t.Errorf("the authority's file is %q", tlscert.CAFile)
	}
	if info, err := os.Stat(f.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v: %v", info.Mode(), err)
	}
	if info, err := os.Stat(f.key); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key has mode %v: %v", info.Mode(), err)
	}
	r, _ := f.MustReload(t)
	trust := f.MustTrust(t)
	now := f.clock.Now()
	for _, c := range []struct {
		name string
		host string
		pool *x509.CertPool
		at   time.Time
		ok   bool
	}{
		{"localhost", "localhost", trust, now, true},
		{"IPv4", "127.0.0.1", trust, now, true},
		{"IPv6", "::1", trust, now, true},
		{"a machine whose clock is a little behind", "localhost", trust, now.Add(-30 * time.Minute), true},
		{"two years later", "localhost", trust, now.AddDate(2, 0, 0), true},
		{"ten years later", "localhost", trust, now.AddDate(10, 0, 0), false},
		{"another host", "example.com", trust, now, false},
		{"a name under localhost", "a.localhost", trust, now, false},
		{"another address", "127.0.0.2", trust, now, false},
		{"any address", "0.0.0.0", trust, now, false},
		{"a client that does not trust the authority", "localhost", x509.NewCertPool(), now, false},
	} {
		_, err := handshake(r.Config(), &tls.Config{RootCAs: c.pool, ServerName: c.host, Time: func() time.Time { return c.at }})
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v, want it to work: %v", c.name, err, c.ok)
		}
	}
	if _, err := handshake(r.Config(), &tls.Config{RootCAs: trust, ServerName: "localhost", Time: f.clock.Now, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("a client of TLS 1.1 was served")
	}
	if _, err := handshake(r.Config(), &tls.Config{RootCAs: trust, ServerName: "localhost", Time: f.clock.Now, MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("a client of TLS 1.2 was not served: %v", err)
	}
}

// Who trusts the authority trusts it for this one certificate only.
func TestAuthorityCannotSignOthers(t *testing.T) {
	t.Parallel()
	f := MustMake(t)
	files := f.MustRead(t)
	ca, leaf := MustCert(t, files[tlscert.CAFile]), MustCert(t, files[filepath.Base(f.cert)])
	if !ca.IsCA || leaf.IsCA || ca.MaxPathLen != 0 || !ca.MaxPathLenZero {
		t.Errorf("the authority may sign authorities, or the certificate is one")
	}
	if !ca.PermittedDNSDomainsCritical || len(ca.PermittedDNSDomains) != 1 || ca.PermittedDNSDomains[0] != "localhost" || len(ca.PermittedIPRanges) == 0 {
		t.Errorf("the authority may sign for %q and %v", ca.PermittedDNSDomains, ca.PermittedIPRanges)
	}

	// The only private key is the certificate's.
	signers := 0
	for name, content := range files {
		rest := []byte(content)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type == "CERTIFICATE" {
				continue
			}
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			signer, ok := key.(crypto.Signer)
			if !ok || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(signer.Public()) {
				t.Errorf("%s holds a private key that is not the certificate's", name)
				continue
			}
			signers++
			// With it nothing can be signed that a client would take.
			own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"example.com", "localhost"} {
				forged, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
					SerialNumber: big.NewInt(1), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, DNSNames: []string{host},
				}, leaf, &own.PublicKey, signer)
				if err != nil {
					t.Fatal(err)
				}
				server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{forged, leaf.Raw, ca.Raw}, PrivateKey: own}}}
				_, err = handshake(server, &tls.Config{RootCAs: f.MustTrust(t), ServerName: host, Time: f.clock.Now})
				var refused *tls.CertificateVerificationError
				if !errors.As(err, &refused) {
					t.Errorf("a certificate for %s signed with the certificate's key: got %v, want it refused", host, err)
				}
			}
		}
	}
	if signers != 1 {
		t.Errorf("there are %d private keys of the certificate", signers)
	}
}

func TestMadeOnce(t *testing.T) {
	t.Parallel()
	f := MustMake(t)
	first := f.MustRead(t)
	if len(first) != 3 {
		t.Fatalf("there are %d files, want 3", len(first))
	}
	f.clock.Advance(time.Hour)
	f.MustRemake(t)
	for name, content := range f.MustRead(t) {
		if content != first[name] {
			t.Errorf("the second call changed %s", name)
		}
	}
	// A set that is not whole is of no use to anybody, so all of it is made anew.
	for missing := range first {
		before := f.MustRead(t)
		if err := os.Remove(filepath.Join(f.path, missing)); err != nil {
			t.Fatal(err)
		}
		f.MustRemake(t)
		for name, content := range f.MustRead(t) {
			if content == before[name] {
				t.Errorf("without %s, %s stayed", missing, name)
			}
		}
		r, _ := f.MustReload(t)
		f.shown(t, r, f.MustTrust(t))
	}

	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tlscert.SelfSigned(blocked, f.clock.Now()); err == nil {
		t.Error("a certificate was made in a file")
	}
}

// MustReplace puts the file of another folder over the one of the same name, as
// of the given minute: two changes of one size within the clock tick of a file
// system look the same.
func (f *folder) MustReplace(tb testing.TB, path string, from *folder, minute int) {
	tb.Helper()
	content, err := os.ReadFile(filepath.Join(from.path, filepath.Base(path)))
	if err != nil {
		tb.Fatal(err)
	}
	f.MustWrite(tb, path, content, minute)
}

// MustWrite writes a file as of the given minute.
func (f *folder) MustWrite(tb testing.TB, path string, content []byte, minute int) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	at := testkit.NewClock().Now().Add(time.Duration(minute) * time.Minute)
	if err := os.Chtimes(path, at, at); err != nil {
		tb.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	f, renewed := MustMake(t), MustMake(t)
	r, seen := f.MustReload(t)
	oldTrust, newTrust := f.MustTrust(t), renewed.MustTrust(t)
	old := f.shown(t, r, oldTrust)
	step := func(what string, pool *x509.CertPool, faults int) *x509.Certificate {
		t.Helper()
		f.clock.Advance(time.Second)
		cert := f.shown(t, r, pool)
		all := seen.take()
		if len(all) != faults {
			t.Errorf("%s: got the errors %v, want %d", what, all, faults)
		}
		for _, err := range all {
			if !strings.Contains(err.Error(), f.path) {
				t.Errorf("%s: the error %q does not name the file", what, err)
			}
		}
		return cert
	}
	step("nothing changed", oldTrust, 0)

	f.MustReplace(t, f.cert, renewed, 1)
	step("the certificate alone was replaced", oldTrust, 1)
	step("a second later", oldTrust, 1)
	f.MustReplace(t, f.key, renewed, 1)
	if step("the key was replaced as well", newTrust, 0).Equal(old) {
		t.Error("the old certificate is still served")
	}
	step("nothing changed since", newTrust, 0)

	f.MustWrite(t, f.cert, []byte("nonsense"), 2)
	step("the certificate is nonsense", newTrust, 1)
	f.MustWrite(t, f.cert, nil, 3)
	step("the certificate is empty", newTrust, 1)
	if err := os.Remove(f.cert); err != nil {
		t.Fatal(err)
	}
	step("the certificate is gone", newTrust, 1)
	f.MustReplace(t, f.cert, renewed, 4)
	step("the certificate is back", newTrust, 0)
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	step("the key is gone", newTrust, 1)
}

// The files are looked at once a second, however many handshakes there are.
func TestReloadLooksOnceASecond(t *testing.T) {
	t.Parallel()
	f := MustMake(t)
	r, seen := f.MustReload(t)
	trust := f.MustTrust(t)
	f.MustWrite(t, f.cert, []byte("nonsense"), 1)
	for range 5 {
		f.shown(t, r, trust)
	}
	if all := seen.take(); len(all) != 0 {
		t.Errorf("within the first second: got %v", all)
	}
	f.clock.Advance(time.Second)
	for range 5 {
		f.shown(t, r, trust)
	}
	if all := seen.take(); len(all) != 1 {
		t.Errorf("within the next second: got %v", all)
	}
}

func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	f, other := MustMake(t), MustMake(t)
	r, _ := f.MustReload(t)
	both := f.MustTrust(t)
	ca, err := os.ReadFile(filepath.Join(other.path, tlscert.CAFile))
	if err != nil || !both.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	own := &folder{path: t.TempDir()}
	own.MustReplace(t, filepath.Join(own.path, filepath.Base(f.cert)), f, 0)
	own.MustReplace(t, filepath.Join(own.path, filepath.Base(f.key)), f, 0)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				if _, err := handshake(r.Config(), &tls.Config{RootCAs: both, ServerName: "localhost", Time: f.clock.Now}); err != nil {
					t.Error(err)
				}
				f.clock.Advance(time.Second)
			}
		})
	}
	for i := range 20 {
		from := []*folder{other, own}[i%2]
		f.MustReplace(t, f.cert, from, i+1)
		f.MustReplace(t, f.key, from, i+1)
	}
	group.Wait()
}

func TestNewReloaderRefuses(t *testing.T) {
	t.Parallel()
	f, other := MustMake(t), MustMake(t)
	missing := filepath.Join(f.path, "missing.pem")
	nonsense := filepath.Join(f.path, "nonsense.pem")
	f.MustWrite(t, nonsense, bytes.Repeat([]byte("nonsense "), 100), 0)
	for name, c := range map[string]struct{ cert, key, says string }{
		"no certificate":           {missing, f.key, missing},
		"no key":                   {f.cert, missing, missing},
		"a wrong certificate":      {nonsense, f.key, nonsense},
		"a wrong key":              {f.cert, nonsense, nonsense},
		"another's key":            {f.cert, other.key, other.key},
		"the key as a certificate": {f.key, f.key, f.key},
		"a folder":                 {f.path, f.key, f.path},
	} {
		r, err := tlscert.NewReloader(c.cert, c.key, f.clock, func(error) {})
		if err == nil || r != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, c.says)
		}
	}
}
