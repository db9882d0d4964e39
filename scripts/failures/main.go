// Command failures reads what "go test -json" printed and ends with what matters of
// it: of each test that failed some lines, and last the names of all. A log of which
// only the end is kept then still tells what to look for.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

const (
	messageLines = 8   // of one message of a test
	testLines    = 25  // of one test
	allLines     = 150 // of all tests together
	lineBytes    = 240
	allNames     = 20
)

// event is what test2json writes; see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // in place of Package where it did not build
	Test       string // empty for what is of the package
	Output     string
}

// result is what became of a test, or of a package outside its tests.
type result struct {
	pkg, test string
	lines     []string
	message   int // lines of the last message so far
	failed    bool
	skipped   bool
	below     bool // one of its subtests failed or, of a package, one of its tests
}

// String returns the names of the package and the test.
func (r *result) String() string { return strings.TrimSuffix(r.pkg+" "+r.test, " ") }

func main() {
	if err := report(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// report writes what failed among the events of in. What is no event it passes over.
func report(out io.Writer, in io.Reader) error {
	results, err := read(in)
	if err != nil {
		return err
	}
	room := allLines
	var names []string
	for _, r := range results {
		switch {
		case r.skipped:
			names = append(names, "SKIPPED "+r.String())
		case r.failed && !r.below:
			names = append(names, "FAILED "+r.String())
		}
		// What a package prints beside tests that failed is of no use.
		if !r.failed || r.test == "" && r.below || len(r.lines) == 0 || room <= 0 {
			continue
		}
		fmt.Fprintf(out, "== %s\n%s\n", r, strings.Join(r.lines[:min(len(r.lines), room)], "\n"))
		room -= len(r.lines)
	}
	for _, name := range names[:min(len(names), allNames)] {
		fmt.Fprintln(out, name)
	}
	if more := len(names) - allNames; more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	return nil
}

// read returns all tests and packages, in the order in which they began.
func read(in io.Reader) (results []*result, err error) {
	byName := make(map[string]*result)
	of := func(pkg, test string) *result {
		r := &result{pkg: pkg, test: test}
		if known := byName[r.String()]; known != nil {
			return known
		}
		byName[r.String()] = r
		results = append(results, r)
		return r
	}
	for lines := bufio.NewReader(in); ; {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			if e.Package == "" {
				// A package's tests are built under a name with more behind the package's.
				e.Package, _, _ = strings.Cut(e.ImportPath, " ")
			}
			r := of(e.Package, e.Test)
			switch e.Action {
			case "output", "build-output":
				r.take(strings.TrimRight(e.Output, "\n"))
			case "skip":
				r.skipped = e.Test != ""
			case "fail":
				r.failed = true
				for test := e.Test; test != ""; {
					test = test[:max(0, strings.LastIndexByte(test, '/'))]
					of(e.Package, test).below = true
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

var (
	// A message of a test is indented and begins with where it was made.
	message = regexp.MustCompile(`^ +\S+\.go:\d+: `)
	// These tell nothing of a failure: what go test says itself, PostgreSQL's log, and
	// what a server that is well logs.
	noise = regexp.MustCompile(`^\s*(?:$|=== (?:RUN|PAUSE|CONT|NAME) |--- (?:PASS|FAIL|SKIP): |FAIL\b|exit status |ok  ` +
		`|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [A-Z]+ \[\d+\] |\{"time":.*"level":"INFO")`)
)

// take keeps a line of output if it matters and there is room for it.
func (r *result) take(line string) {
	if noise.MatchString(line) {
		return
	}
	if message.MatchString(line) {
		r.message = 0
	}
	r.message++
	switch {
	case len(r.lines) >= testLines, r.message > messageLines && len(line) > 0 && line[0] == ' ':
		return
	case len(line) > lineBytes:
		line = strings.ToValidUTF8(line[:lineBytes], "") + "…"
	}
	r.lines = append(r.lines, line)
}
