// Package clients_test runs npm clients of the Customer API, unchanged, against the real binary.
package clients_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"grahak/internal/testkit"
)

const (
	// install is the command that a missing or outdated client asks for; it is run from the module root.
	install = "npm --prefix test/clients ci"

	// wireCases holds the literal bodies of the wire contract, seen from the module root.
	wireCases = "internal/api/testdata/wire-cases.json"

	scriptTimeout = 2 * time.Minute
	applyTimeout  = 15 * time.Second // The server applies what the command line changed within 2 s.
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func TestClients(t *testing.T) {
	requireClients(t)

	// The official client speaks TLS to the default port only.
	t.Run("official", func(t *testing.T) {
		requirePort443(t)
		s := testkit.Start(t, filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:443", "--tls-self-signed")
		if s.BaseURL != "https://localhost" {
			t.Fatalf("base URL is %q, want https://localhost", s.BaseURL)
		}
		ca := filepath.Join(s.Data, "tls", "ca.pem")
		key := refusedMerchant(t, s, ca)
		runScript(t, s, "official.mjs",
			"NODE_EXTRA_CA_CERTS="+ca, "TEST_REFUSED_MERCHANT="+refused, "TEST_REFUSED_API_KEY="+key)
		s.Stop(t)
	})

	t.Run("bc", func(t *testing.T) {
		s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
		runScript(t, s, "bc.js")
		s.Stop(t)
	})
}

// requireClients fails the test with the command to run if node or a client in its pinned version is missing.
func requireClients(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("node is not installed. On Debian, as root: apt-get install -y nodejs npm. Then run: %s", install)
	}
	var project struct{ Dependencies map[string]string }
	readJSON(t, "package.json", &project)
	for name, want := range project.Dependencies {
		var got struct{ Version string }
		if path := filepath.Join("node_modules", name, "package.json"); fileExists(path) {
			readJSON(t, path, &got)
		}
		if got.Version != want {
			t.Fatalf("%s %s is not installed (found %q). In the module's root folder run: %s", name, want, got.Version, install)
		}
	}
}

// requirePort443 skips the test where port 443 cannot be had, and fails it where CI says that it must be.
func requirePort443(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:443")
	if err == nil {
		l.Close()
		return
	}
	why := fmt.Sprintf("cannot listen on 127.0.0.1:443: %v", err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		why = "port 443 of 127.0.0.1 is taken by another program, and the official client knows no other port; " +
			"stop that program (ss -ltnp 'sport = :443' names it)"
	case errors.Is(err, syscall.EACCES):
		why = "this user may not listen on port 443, and the official client knows no other port; " +
			"as root run: sysctl net.ipv4.ip_unprivileged_port_start=443"
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// refused is the merchant whose IP list holds only an address that nobody has (RFC 5737).
const refused = "refused"

// refusedMerchant makes that merchant on the running server, and returns its key once the server refuses it.
func refusedMerchant(t *testing.T, s *testkit.Server, ca string) string {
	t.Helper()
	var key struct{ Key string }
	testkit.Run(t, "merchant", "create", refused, "--data", s.Data)
	out := testkit.Run(t, "key", "create", "--merchant", refused, "--json", "--data", s.Data)
	if err := json.Unmarshal(out, &key); err != nil || key.Key == "" {
		t.Fatalf("key create --json printed %q (%v), want an object with a key", out, err)
	}
	testkit.Run(t, "iplist", "add", "--merchant", refused, "192.0.2.1/32", "--label", "nobody", "--data", s.Data)
	testkit.Run(t, "iplist", "mode", "--merchant", refused, "enforce", "--data", s.Data)

	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", ca)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()

	ctx, cancel := context.WithTimeout(t.Context(), applyTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := get(ctx, client, s.BaseURL+"/customers?count=1", key.Key)
		if status == http.StatusForbidden {
			return key.Key
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the server still answers %d (%v) to a caller not on the list, %v after the list was enforced", status, err, applyTimeout)
		case <-tick.C:
		}
	}
}

// get returns the status of one authenticated request.
func get(ctx context.Context, client *http.Client, url, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(key, "")
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// runScript runs a script with node's test runner and makes each of its tests a subtest of t. The working folder is
// this one, since the official client reads its package.json.
func runScript(t *testing.T, s *testkit.Server, script string, env ...string) {
	t.Helper()
	cases := filepath.Join(testkit.ModuleRoot(t), filepath.FromSlash(wireCases))
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	// The server listens on IPv4 only, and older nodes try the first address of localhost alone.
	cmd := exec.CommandContext(ctx, "node", "--dns-result-order=ipv4first", "--test-reporter=tap", script)
	cmd.Env = testkit.Env(append(env, "NODE_ENV=test", "TEST_WIRE_CASES="+cases,
		"TEST_BASE_URL="+s.BaseURL, "TEST_MERCHANT="+s.Merchant, "TEST_API_KEY="+s.Key)...)
	out, err := cmd.CombinedOutput()

	results := parseTAP(out)
	for _, r := range results {
		t.Run(r.name, func(t *testing.T) {
			if !r.ok {
				t.Error(r.detail)
			}
		})
	}
	if err != nil && !t.Failed() || len(results) == 0 {
		t.Errorf("node %s: %v, with %d tests reported\n%s", script, err, len(results), out)
	}
}

// tapResult is one top-level line of TAP with the indented lines that follow it.
type tapResult struct {
	name, detail string
	ok           bool
}

var tapLine = regexp.MustCompile(`^(not )?ok \d+ - (.*)$`)

// parseTAP returns the top-level results; a skipped test counts as failed, for no test here may be skipped.
func parseTAP(out []byte) []tapResult {
	var results []tapResult
	for line := range bytes.Lines(out) {
		text := strings.TrimRight(string(line), "\r\n")
		switch m := tapLine.FindStringSubmatch(text); {
		case m != nil:
			skipped := strings.Contains(m[2], "# SKIP") || strings.Contains(m[2], "# TODO")
			results = append(results, tapResult{name: m[2], ok: m[1] == "" && !skipped, detail: text + "\n"})
		case len(results) > 0 && strings.HasPrefix(text, " "):
			results[len(results)-1].detail += text + "\n"
		}
	}
	return results
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
