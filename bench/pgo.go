package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/pprof/profile"
)

// pgoFile is the profile that the compiler reads when it builds the program.
const pgoFile = "cmd/grahak/default.pgo"

// writePGO profiles Grahak under each kind of request, as long under one as under the
// other, and writes what the compiler makes use of into [pgoFile].
func (b *bench) writePGO(ctx context.Context, root string) (err error) {
	if b.grahak, err = startGrahak(ctx, "grahak", b.program, b.dir, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.grahak.stop()) }()
	fmt.Fprintf(b.out, "Making %d customers …\n", b.customers)
	made, err := b.grahak.populate(ctx, b.customers)
	if err != nil {
		return err
	}
	var all []*profile.Profile
	for _, kind := range []struct {
		name string
		target
	}{
		{"create", target{mode: "create"}},
		{"get", target{mode: "get", path: "/customers/", file: made.ids}},
		{"get by reference", target{mode: "get", path: "/customers/", file: made.references}},
		{"update", target{mode: "update", path: "/customers/", file: made.ids}},
		{"list", target{mode: "get", path: "/customers?count=10"}},
		{"search", target{mode: "get", path: "/customers?email_address=", file: made.references}},
	} {
		p, _, err := b.profiled(ctx, b.grahak, kind.name, kind.target)
		if err != nil {
			return err
		}
		// It would tell of the machine that it was taken on.
		for _, m := range p.Mapping {
			m.File, m.BuildID = "", ""
		}
		all = append(all, p)
	}
	p, err := profile.Merge(all)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nWritten: %s (%d bytes)\n", pgoFile, out.Len())
	return os.WriteFile(filepath.Join(root, pgoFile), out.Bytes(), 0o644)
}
