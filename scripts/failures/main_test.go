package main

import (
	"fmt"
	"strings"
	"testing"
)

// What failed is told by its own messages, short, and by its name at the end.
func TestReport(t *testing.T) {
	var in strings.Builder
	put := func(action, test, output string) {
		fmt.Fprintf(&in, `{"Action":%q,"Package":"grahak/x","Test":%q,"Output":%q}`+"\n", action, test, output)
	}
	put("output", "TestGood", "    good_test.go:1: seed 3\n")
	put("pass", "TestGood", "")
	put("output", "TestBad", "=== RUN   TestBad\n")
	put("output", "TestBad/one", "    bad_test.go:7: want\n")
	for range 100 {
		put("output", "TestBad/one", "        more of it\n")
	}
	put("output", "TestBad/one", "    bad_test.go:8: the log of PostgreSQL:\n")
	put("output", "TestBad/one", "        2026-11-23 00:22:07.915 GMT [32514] LOG:  checkpoint starting\n")
	put("output", "TestBad/one", "        2026-11-23 00:22:07.915 GMT [32514] grahak@grahak_8 LOG:  could not\n")
	put("output", "TestBad/one", "    --- FAIL: TestBad/one (0.00s)\n")
	in.WriteString("not an event\n")
	put("fail", "TestBad/one", "")
	put("output", "TestBad", "--- FAIL: TestBad (0.00s)\n")
	put("fail", "TestBad", "")
	put("skip", "TestIdle", "")
	put("output", "", "FAIL\n")
	put("fail", "", "")
	in.WriteString(`{"Action":"build-output","ImportPath":"grahak/y [grahak/y.test]","Output":"y.go:3:1: undefined: z\n"}` + "\n")
	in.WriteString(`{"Action":"fail","Package":"grahak/y","FailedBuild":"grahak/y [grahak/y.test]"}` + "\n")

	want := "== grahak/x TestBad/one\n    bad_test.go:7: want\n" + strings.Repeat("        more of it\n", messageLines-1) +
		"    bad_test.go:8: the log of PostgreSQL:\n== grahak/y\ny.go:3:1: undefined: z\n" +
		"FAILED grahak/x TestBad/one\nSKIPPED grahak/x TestIdle\nFAILED grahak/y\n"
	var out strings.Builder
	if err := report(&out, strings.NewReader(in.String())); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("the report is\n%s\nwant\n%s", out.String(), want)
	}
}
