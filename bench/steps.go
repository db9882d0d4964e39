package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/pprof/profile"
)

// step is what a part of a request costs.
type step struct {
	Name   string  `json:"name"`
	Micros float64 `json:"us_per_request"` // of the server's processor time
}

// request is what one of a kind costs.
type request struct {
	Kind  string `json:"kind"`
	Steps []step `json:"steps"`
}

// steps are the parts of a request, and how they are told in a profile: the first whose
// pattern fits a stack, from the innermost function to the outermost.
var steps = []struct {
	name  string
	stack *regexp.Regexp
}{
	{"collecting garbage", regexp.MustCompile(`runtime\.(gcBgMark|gcAssist|gcStart|gcMark|bgsweep|bgscavenge)`)},
	{"checkpoints", regexp.MustCompile(`\(\*checkpointer\)`)},
	{"ordering pass and look-up index", regexp.MustCompile(`\(\*SQLite\)\.Order\.|\(\*portable\)\.[tT]idy|\(\*Service\)\.(orderMerchant|round)|grahak\.round`)},
	{"writer: fsync", regexp.MustCompile(`\(\*logWriter\)\.sync .*\(\*writer\)`)},
	{"writer: the rest of the commit", regexp.MustCompile(`\(\*sqliteConn\)\.commit .*\(\*writer\)`)},
	{"writer: events", regexp.MustCompile(`\(\*batch\)\.writeEvents .*\(\*writer\)`)},
	{"writer: customers", regexp.MustCompile(`\(\*SQLite\)\.(Create|Update)Customer\..*\(\*writer\)`)},
	{"writer: the rest", regexp.MustCompile(`\(\*writer\)`)},
	{"looking up", regexp.MustCompile(`\(\*sqliteConn\)\.lookUp|sqliteLookUp|startLookUps`)},
	{"reading the request from the connection", regexp.MustCompile(`bufio\.\(\*Reader\)\.fill .*serveConn`)},
	{"writing the answer to the connection", regexp.MustCompile(`bufio\.\(\*Writer\)\.Flush .*serveConn`)},
	{"log line, metrics, request log", regexp.MustCompile(`\(\*Handler\)\.report .*serveConn`)},
	{"authentication and limits", regexp.MustCompile(`\(\*Edge\)\.authenticate .*serveConn`)},
	{"sealing, opening, blind indexes", regexp.MustCompile(`seal\.\(\*Sealer\).*serveConn`)},
	{"handing over to the store", regexp.MustCompile(`grahak/internal/sqlstore\..*serveConn`)},
	{"header, form, checks, JSON", regexp.MustCompile(`grahak(/internal/(web|api|app))?\..*serveConn`)},
	{"the rest of the HTTP server", regexp.MustCompile(`serveConn`)},
	{"the rest, mostly choosing what runs next", regexp.MustCompile(``)},
}

// stepsOf returns what the steps of a request cost, given a CPU profile and what a
// request costs in all, in µs.
func stepsOf(p *profile.Profile, micros float64) []step {
	spent := make([]float64, len(steps))
	var all float64
	for _, s := range p.Sample {
		var stack strings.Builder
		for _, at := range s.Location {
			for _, line := range at.Line {
				stack.WriteString(line.Function.Name + " ")
			}
		}
		// The last value is of time.
		value := float64(s.Value[len(s.Value)-1])
		all += value
		for i, known := range steps {
			if known.stack.MatchString(stack.String()) {
				spent[i] += value
				break
			}
		}
	}
	list := make([]step, len(steps))
	for i, known := range steps {
		list[i] = step{Name: known.name, Micros: spent[i] / all * micros}
	}
	return list
}

// stepTable returns the steps of several kinds of requests as a table.
func stepTable(requests []request) string {
	var b strings.Builder
	b.WriteString("| µs of the server's processors |")
	for _, r := range requests {
		b.WriteString(" " + r.Kind + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(requests)) + "\n")
	sums := make([]float64, len(requests))
	for i, known := range steps {
		b.WriteString("| " + known.name + " |")
		for k, r := range requests {
			micros := r.Steps[i].Micros
			sums[k] += micros
			fmt.Fprintf(&b, " %.1f |", micros)
		}
		b.WriteString("\n")
	}
	b.WriteString("| **all** |")
	for _, sum := range sums {
		fmt.Fprintf(&b, " **%.1f** |", sum)
	}
	return b.String() + "\n"
}
