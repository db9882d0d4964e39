package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/control"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
)

// rig is a server with a merchant acme, and what it logs.
type rig struct {
	service *grahak.Service
	socket  string
	log     *bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{socket: filepath.Join(dir, "control.sock"), log: new(bytes.Buffer)}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	store, err := sqlstore.OpenSQLite(t.Context(), sqlstore.SQLiteConfig{Path: filepath.Join(dir, "grahak.db"), Environment: grahak.Sandbox, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "master.key")
	if _, err := seal.MakeMasterKey(key); err != nil {
		t.Fatal(err)
	}
	keys := seal.NewMasterKeys(seal.FileKeys(key), 0)
	newest, err := keys.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.MasterKeyID(t.Context(), newest.ID()); err != nil {
		t.Fatal(err)
	}
	r.service, err = grahak.NewService(grahak.Config{Store: store, Sealer: seal.NewSealer(keys, store), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.service.CreateMerchant(t.Context(), acme, "Acme"); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := control.NewServer(r.service, log)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		keys.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

var acme = grahak.Operator("acme", "cli:asha")

func given(value string) grahak.Input { return grahak.Input{Value: value, Given: true} }

// rows is a row with everything in it, and bad ones.
func rows() []grahak.ImportRow {
	full := grahak.ImportRow{
		Line: 2, ID: given("cth_X"), CreatedAt: given("2020-03-17T14:13:37.123456Z"), UpdatedAt: given("2021-03-17T14:13:37Z"),
		Customer: grahak.CustomerInput{
			Reference: given("asha@example.com"), MobileNumber: given("0998"), MobileCountryCode: given("+44"), Email: given("b@example.com"), FirstName: given("Asha \"=!\u2028"), LastName: given(""),
			Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: "plan", Value: "gold"}, {Key: "none"}}},
		},
	}
	malformed := grahak.ImportRow{Line: 3, Customer: grahak.CustomerInput{
		Reference: given("ravi@example.com"), MobileNumber: grahak.Input{Given: true, Malformed: true},
		Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: "deep", Malformed: true}}},
	}}
	whole := grahak.ImportRow{Line: 5, Customer: grahak.CustomerInput{
		Reference: given("meera@example.com"), MobileNumber: given("1"), Metadata: grahak.MetadataInput{Whole: grahak.Input{Given: true, Malformed: true}},
	}}
	return []grahak.ImportRow{full, malformed, {Line: 4, Broken: "It is broken."}, whole}
}

// TestImport checks that an import over the socket is what the service makes of the same rows.
func TestImport(t *testing.T) {
	t.Parallel()
	one, other := newRig(t), newRig(t)
	client := control.NewClient(one.socket)
	defer client.Close()
	ctx := t.Context()
	chunk := grahak.ImportChunk{Import: "file", Rows: rows(), OnDuplicate: grahak.DuplicateFail}
	for n := range 2 {
		check := client.NewImportCheck(acme, grahak.DuplicateFail)
		wantCheck, err := other.service.NewImportCheck(acme, grahak.DuplicateFail)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			gotFaults, gotErr := check.Rows(ctx, chunk.Rows)
			wantFaults, wantErr := wantCheck.Rows(ctx, chunk.Rows)
			if gotErr != nil || wantErr != nil {
				t.Fatal(gotErr, wantErr)
			}
			diff(t, "faults of a dry run", wantFaults, gotFaults)
			diff(t, "a dry run", wantCheck.State(), check.State())
		}
		chunk.After, chunk.Last, chunk.Unnoted = int64(n*len(chunk.Rows)), n == 1, int64(2*n)
		got, gotFaults, gotErr := client.ImportCustomers(ctx, acme, chunk)
		want, wantFaults, wantErr := other.service.ImportCustomers(ctx, acme, chunk)
		if gotErr != nil || wantErr != nil {
			t.Fatal(gotErr, wantErr)
		}
		diff(t, "faults", wantFaults, gotFaults)
		diff(t, "state", want, got)
		got, gotErr = client.ImportState(ctx, acme, "file")
		want, wantErr = other.service.ImportState(ctx, acme, "file")
		if gotErr != nil || wantErr != nil {
			t.Fatal(gotErr, wantErr)
		}
		diff(t, "state that was read", want, got)
		if want.Created == 0 || len(want.LastFaults) == 0 || len(wantFaults) == 0 {
			t.Errorf("the rows show nothing: %+v", want)
		}
	}
	customer := func(s *grahak.Service) grahak.Customer {
		result, err := s.Customer(ctx, acme, "cth_X", false)
		if err != nil {
			t.Fatal(err)
		}
		return result.Customer
	}
	diff(t, "customer", customer(other.service), customer(one.service))
	if text := one.log.String(); !strings.Contains(text, "import done") || strings.Contains(text, "example.com") {
		t.Errorf("the log is %s", text)
	}
}

// diff compares but for the times at which something was done.
func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	done := cmp.FilterPath(func(p cmp.Path) bool {
		return len(p) == 2 && (p.String() == "StartedAt" || p.String() == "UpdatedAt") && strings.Contains(p.Index(0).Type().String(), "ImportState")
	}, cmp.Ignore())
	if d := cmp.Diff(want, got, done); d != "" {
		t.Errorf("%s (-of the service +over the socket):\n%s", what, d)
	}
}

// TestRefused checks that the service's refusals come over, and no others' words.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := control.NewClient(r.socket)
	defer client.Close()
	nobody := grahak.Operator("nobody", "cli:asha")
	if _, err := client.ImportState(t.Context(), nobody, "file"); grahak.CodeOf(err) != grahak.CodeMerchantNotFound {
		t.Errorf("of an unknown merchant: %v", err)
	}
	chunk := grahak.ImportChunk{Import: "file", After: 1, Rows: rows(), OnDuplicate: "keep"}
	if _, _, err := client.ImportCustomers(t.Context(), acme, chunk); grahak.CodeOf(err) != grahak.CodeInvalidImport {
		t.Errorf("a rule that there is not: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.ImportState(ended, acme, "file"); !errors.Is(err, context.Canceled) {
		t.Errorf("asked by somebody who went away: %v", err)
	}

	// What is not of the protocol is answered without it, and does no harm.
	raw := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}}
	defer raw.CloseIdleConnections()
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"another version":      {"/v2/import/state", "{}", http.StatusNotFound},
		"another work":         {"/v1/key/create", "{}", http.StatusNotFound},
		"no JSON":              {"/v1/import/state", "state", http.StatusBadRequest},
		"no actor":             {"/v1/import/state", `{"merchant":"acme","import":"file"}`, http.StatusBadRequest},
		"an API key as actor":  {"/v1/import/state", `{"merchant":"acme","actor":"key_1","import":"file"}`, http.StatusBadRequest},
		"an actor over lines":  {"/v1/import/state", `{"merchant":"acme","actor":"cli:a\nb","import":"file"}`, http.StatusBadRequest},
		"an actor without end": {"/v1/import/state", `{"merchant":"acme","actor":"cli:` + strings.Repeat("a", 200) + `","import":"file"}`, http.StatusBadRequest},
		"too many inputs":      {"/v1/import/chunk", `{"merchant":"acme","actor":"cli:a","import":"f","rows":[{"l":1,"i":["","","","","","","","","","","","="]}]}`, http.StatusUnprocessableEntity},
		"half a pair":          {"/v1/import/check", `{"merchant":"acme","actor":"cli:a","rows":[{"l":1,"m":["k"]}]}`, http.StatusUnprocessableEntity},
		"too many rows":        {"/v1/import/chunk", `{"merchant":"acme","actor":"cli:a","import":"f","rows":[` + strings.Repeat(`{"l":1},`, grahak.MaxImportChunk) + `{"l":1}]}`, http.StatusUnprocessableEntity},
		"a dry run cut off":    {"/v1/import/check", `{"merchant":"acme","actor":"cli:a","after":1,"on_duplicate":"fail","rows":[{"l":1}]}`, http.StatusUnprocessableEntity},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://grahak"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := raw.Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %s (%v)", name, res.StatusCode, c.status, text, err)
		}
	}
	if s, err := r.service.ImportState(t.Context(), acme, "f"); err != nil || s.Rows != 0 {
		t.Errorf("what was refused has done %d rows (%v)", s.Rows, err)
	}
}

// TestListen checks that a socket is for its owner only, replaces one that was left behind, is found under a path of any
// length, and goes with its listener.
func TestListen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control.sock")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		l, err := control.Listen(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("the socket has mode %v (%v)", info.Mode(), err)
		}
		accepted := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				err = conn.Close()
			}
			accepted <- err
		}()
		if err := errors.Join(control.NewClient(path).Ping(t.Context()), <-accepted); err != nil {
			t.Error(err)
		}
		if n == 0 {
			// As a server does that is killed.
			continue
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("a listener that was closed leaves %v (%v)", entries, err)
		}
	}
	if err := control.NewClient(path).Ping(t.Context()); err == nil {
		t.Error("somebody answers where nobody listens")
	}
	if _, err := control.NewClient(path).ImportState(t.Context(), acme, "file"); !errors.Is(err, control.ErrGone) {
		t.Errorf("of a server that is gone: %v", err)
	}
	if _, err := control.Listen(t.Context(), filepath.Join(dir, "none", "s")); err == nil {
		t.Error("a socket in a folder that there is not")
	}
}
