package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shown is a report that documents show.
type shown interface {
	// kind is the report's name in documents and file names.
	kind() string
	// table returns the figures in Markdown.
	table() string
	// plots returns drawings by what is told of them in their file names, none for
	// the one that stands for the report.
	plots() map[string]string
}

// show writes the table and the plots of s beside the report's other files, whose
// path without its end is given, and with publish also where documents show them:
// the plots in docs/images, the table between the marks <!-- bench:KIND --> and
// <!-- end -->.
func (h *heading) show(root, path string, s shown, publish bool) error {
	table := h.caption() + "\n\n" + s.table()
	if err := os.WriteFile(path+".md", []byte(table), 0o600); err != nil {
		return err
	}
	for name, plot := range s.plots() {
		if err := os.WriteFile(path+name+".svg", []byte(plot), 0o600); err != nil {
			return err
		}
		if publish {
			if err := os.WriteFile(filepath.Join(root, "docs", "images", "bench-"+s.kind()+name+".svg"), []byte(plot), 0o644); err != nil {
				return err
			}
		}
	}
	if !publish {
		return nil
	}
	for _, file := range []string{"README.md", filepath.Join("bench", "README.md")} {
		images, err := filepath.Rel(filepath.Dir(file), filepath.Join("docs", "images"))
		if err != nil {
			return err
		}
		text := table
		for _, name := range slices.Sorted(maps.Keys(s.plots())) {
			text += fmt.Sprintf("\n![%s](%s/bench-%s%s.svg)\n", s.kind(), images, s.kind(), name)
		}
		if err := replaceMarked(filepath.Join(root, file), s.kind(), text); err != nil {
			return err
		}
	}
	return nil
}

// caption says where and how the figures of a run were measured.
func (h *heading) caption() string {
	m := h.Machine
	return fmt.Sprintf("%s: %d processors (%s), Linux %s, %s, %s where appending 4 KiB and syncing takes %.2f ms; load average at the start %s; %d pairs, halves of %d s.",
		h.Started.UTC().Format("2006-01-02"), m.CPUs, m.Model, m.Kernel, m.Go, m.Filesystem, m.FsyncMs, m.Load, h.Pairs, h.Seconds)
}

// replaceMarked puts text between the marks of that kind in the file, if it has
// them.
func replaceMarked(file, kind, text string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	first, last := []byte("<!-- bench:"+kind+" -->\n"), []byte("<!-- end -->")
	before, rest, ok := bytes.Cut(raw, first)
	if !ok {
		return nil
	}
	_, after, ok := bytes.Cut(rest, last)
	if !ok {
		return fmt.Errorf("%s has no %s behind %s: add it", file, last, bytes.TrimSpace(first))
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, first, []byte(text), last, after}, nil), 0o644)
}

// barTable returns the bars in Markdown.
func (h *heading) barTable() string {
	var b strings.Builder
	b.WriteString("| | seen | bar | |\n|---|---:|---|---|\n")
	for _, bar := range h.Bars {
		verdict := "**not met**"
		if bar.Met {
			verdict = "met"
		}
		fmt.Fprintf(&b, "| %s | %.3g | %s | %s |\n", bar.Name, bar.Value, bar.Want, verdict)
	}
	return b.String()
}

func (*report) kind() string { return "http" }

func (r *report) plots() map[string]string {
	return map[string]string{"": barPlot("Grahak on SQLite, everything at its defaults", r.Bars)}
}

func (r *report) table() string {
	var b strings.Builder
	b.WriteString("| | empty handler | Grahak | ratio | by CPU | server CPU for each | p50, p99 |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, c := range r.Comparisons {
		of := func(get func(pair) float64) float64 { return medianOf(c.Pairs, get) }
		fmt.Fprintf(&b, "| %s | %.0f/s | %.0f/s | **%.2f** | %.2f | %.0f and %.0f µs | %.1f, %.1f ms |\n", c.Name, c.Empty, c.Grahak, c.Ratio, c.ByCPU,
			of(func(p pair) float64 { return p.Empty.ServerCPU }), of(func(p pair) float64 { return p.Grahak.ServerCPU }),
			of(func(p pair) float64 { return p.Grahak.P50 }), of(func(p pair) float64 { return p.Grahak.P99 }))
	}
	b.WriteString("\n" + r.barTable())
	if f := r.Floor; f.Rate > 0 {
		fmt.Fprintf(&b, "\nStorage floor: %.0f creates a second, %.1f for each commit, %.0f µs of processor time each.\n", f.Rate, f.Batch, f.CPU)
	}
	return b.String() + "\n" + stepTable(r.Steps)
}
