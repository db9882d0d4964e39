package seal_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"grahak/internal/seal"
)

// What a change that was cut off has left beside the file, with a key in it, is
// gone after the next one.
func TestChangeOverLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	if _, err := seal.MakeMasterKey(path); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "master.key.new")
	if err := os.WriteFile(left, []byte("an old key"), 0o400); err != nil {
		t.Fatal(err)
	}
	key, err := seal.AddMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.KeepMasterKey(path, key.ID()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"master.key"}) {
		t.Errorf("the folder holds %v, want the file of the key alone", names)
	}
	if keys, err := seal.FileKeys(path)(t.Context()); err != nil || len(keys) != 1 || keys[0].ID() != key.ID() {
		t.Errorf("the file does not hold the new key alone: %v", err)
	}
}
