//go:build !linux

package postgres

import "errors"

// disk is a small file system, which only Linux lets every user have.
type disk struct{ dir string }

func newDisk(string, int) (*disk, error) {
	return nil, errors.New("a small disk for PostgreSQL can only be made on Linux: run this test there")
}

func (d *disk) enter() []string { return nil }

func (d *disk) remove() error { return nil }
