package sealed_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// remnants is what somebody has who kept a copy of every state of a data folder:
// everything that was ever stored of one customer, and all wrapped keys.
type remnants struct {
	customer grahak.CustomerID
	blobs    [][]byte
	keysets  []grahak.Keyset
}

// keep notes what store has of the customer and of its merchant's keys.
func (r *remnants) keep(t *testing.T, store *sqlstore.SQLite) {
	t.Helper()
	defer store.Close()
	keyset, err := store.Keyset(t.Context(), demo)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.keysets, func(k grahak.Keyset) bool { return bytes.Equal(k.Sealing, keyset.Sealing) }) {
		r.keysets = append(r.keysets, keyset)
	}
	record, err := store.Customer(t.Context(), demo, r.customer, grahak.Index{})
	switch {
	case grahak.CodeOf(err) == grahak.CodeCustomerNotFound:
	case err != nil:
		t.Fatal(err)
	case !slices.ContainsFunc(r.blobs, func(b []byte) bool { return bytes.Equal(b, record.Sealed.Bytes) }):
		r.blobs = append(r.blobs, record.Sealed.Bytes)
	}
}

// copyFolder copies the database of a data folder, as it is, and returns the
// copy's folder.
func copyFolder(t *testing.T, data string) string {
	t.Helper()
	dir := t.TempDir()
	// The log comes last: what is written to it meanwhile does no harm.
	for _, name := range []string{"grahak.db", "grahak.db-wal"} {
		content, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// source gives a merchant's keys as somebody has them who looks for one that
// opens something. It is a seal.KeysetSource.
type source struct{ keys grahak.Keyset }

func (s source) Keyset(context.Context, grahak.MerchantID) (grahak.Keyset, error) { return s.keys, nil }

func (s source) MasterKeyID(context.Context, string) (string, error) { return s.keys.MasterKeyID, nil }

// opened counts the blobs that open with any of the keysets under any of the
// master keys, whichever the keysets name.
func (r *remnants) opened(t *testing.T, keysets []grahak.Keyset, masters []*seal.MasterKey) (count int) {
	t.Helper()
	for _, blob := range r.blobs {
		opens := false
		for _, k := range keysets {
			for _, master := range masters {
				k.MasterKeyID = master.ID()
				p, err := seal.New(master, source{k}).Open(t.Context(), demo, r.customer, blob)
				opens = opens || err == nil && p.Reference != ""
			}
		}
		if opens {
			count++
		}
	}
	return count
}

// MustMasterKeys returns the master keys in a file, and their text.
func MustMasterKeys(t *testing.T, path string) ([]*seal.MasterKey, []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.ParseMasterKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys, text
}

// TestErasedIsUnreadable keeps every state of a customer that was ever on the
// disk, and every wrapped key, and shows when they stop being of use.
func TestErasedIsUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	server := testkit.Start(t, data)
	key := server.Key
	newMerchant(t, data, string(other))
	people := populate(t, server.BaseURL, key, 0, 20)
	victim, bystander := people.customers[7], people.customers[8]
	r := &remnants{customer: grahak.CustomerID(victim.ID)}
	c := newClient(server.BaseURL, key)
	defer c.close()
	keep := func() {
		t.Helper()
		r.keep(t, MustOpen(t, copyFolder(t, data)))
	}
	update := func(field, value string) {
		t.Helper()
		a, err := c.do(t.Context(), http.MethodPost, byID(victim).path, url.Values{field: {value}})
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("update: %d %s (%v)", a.status, a.body, err)
		}
	}
	backups := 0
	backup := func() string {
		t.Helper()
		backups++
		path := filepath.Join(dir, "backup-"+string(rune('0'+backups)))
		testkit.Run(t, "backup", path, "--data", data)
		store, err := sqlstore.OpenCopy(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		r.keep(t, store)
		return path
	}

	keep()
	update("first_name", "Second")
	keep()
	update("email_address", "third@example.com")
	first := backup()
	testkit.Run(t, "seal", "rotate", "--all", "--no-wait", "--data", data)
	keep() // Of the older and the newer key.
	testkit.Run(t, "seal", "rotate", "--all", "--data", data)
	keep()
	update("last_name", "Fourth")
	keep()
	server.Kill(t)
	keep()
	server = testkit.Start(t, data)
	c = newClient(server.BaseURL, key)
	second := backup()
	if a, err := c.do(t.Context(), http.MethodDelete, byReference(victim).path, nil); err != nil || a.status != http.StatusOK {
		t.Fatalf("erase: %d %s (%v)", a.status, a.body, err)
	}
	keep()
	// Three before the rotation, the one that it made, and one update after that.
	if len(r.blobs) < 5 || len(r.keysets) < 2 {
		t.Fatalf("only %d states of the customer and %d of the keys were kept", len(r.blobs), len(r.keysets))
	}

	keyPath := filepath.Join(data, keyFile)
	oldMasters, oldText := MustMasterKeys(t, keyPath)
	oldKeysets := slices.Clone(r.keysets)
	present := func() []grahak.Keyset {
		store := MustOpen(t, data)
		defer store.Close()
		k, err := store.Keyset(t.Context(), demo)
		if err != nil {
			t.Fatal(err)
		}
		return []grahak.Keyset{k}
	}
	want := func(when string, keysets []grahak.Keyset, masters []*seal.MasterKey, want int) {
		t.Helper()
		if got := r.opened(t, keysets, masters); got != want {
			t.Errorf("%s: %d of %d states of the customer open, want %d", when, got, len(r.blobs), want)
		}
	}
	all := len(r.blobs)
	want("erased, with all keys that ever were", r.keysets, oldMasters, all)
	want("erased, with the keys that are in the database", present(), oldMasters, 2)

	testkit.Run(t, "seal", "rotate", "--all", "--data", data)
	keep()
	want("rotated, with the keys that are in the database", present(), oldMasters, 0)
	want("rotated, with older copies of the keys", r.keysets, oldMasters, all)

	testkit.Run(t, "seal", "rewrap", "--data", data)
	keep()
	masters, _ := MustMasterKeys(t, keyPath)
	if len(masters) != 1 || masters[0].ID() == oldMasters[0].ID() {
		t.Errorf("%s holds %d master keys, want the new one only", keyFile, len(masters))
	}
	want("rewrapped, with the keys that are in the database", present(), masters, 0)
	want("rewrapped, with all keys that ever were, under the master key that is left", r.keysets, masters, 0)
	// So it is the old master key that has to go; with it all was here to be found.
	want("rewrapped, with the old master key", oldKeysets, oldMasters, all)

	// Backups from before are of no use either, to nobody.
	for _, path := range []string{first, second} {
		got := run(t, "restore", path, "--data", filepath.Join(t.TempDir(), "new"), "--master-key-file", keyPath)
		if got.status != 1 || !strings.Contains(got.stderr, oldMasters[0].ID()) {
			t.Errorf("restore of a backup from before with the new master key: exit status %d, %s%s", got.status, got.out, got.stderr)
		}
	}
	// Everybody else is as they were, also after a start with what is left.
	server.Stop(t)
	if files := MustReadFolder(t, data); bytes.Contains(files[keyFile], bytes.TrimSpace(oldText)) {
		t.Errorf("%s holds the old master key", keyFile)
	}
	server = testkit.Start(t, data)
	c = newClient(server.BaseURL, key)
	for _, w := range waysTo(bystander) {
		c.look(t, w, &bystander)
	}
	c.look(t, byID(victim), nil)
	c.look(t, byReference(victim), nil)
	server.Stop(t)
}
