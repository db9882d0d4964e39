// Command grahak is a self-hosted customer service for payments that speaks
// Juspay's Customer API. See `grahak --help`.
package main

import (
	"os"

	"grahak/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
