// Package arch holds the test that keeps imports going one way (see
// docs/architecture.md). It has no code of its own.
package arch
