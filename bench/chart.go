package main

import (
	"fmt"
	"math"
	"strings"
)

// drawing is an SVG that is readable on light and dark pages.
type drawing struct{ strings.Builder }

// newDrawing begins a drawing of that many pixels.
func newDrawing(width, height float64) *drawing {
	d := new(drawing)
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", width, height)
	d.WriteString(`<style>text{fill:#222}.back{fill:#fff}.grid{stroke:#ddd}.bar{fill:#4a86e8}.missed{fill:#d9822b}.want{stroke:#222;stroke-width:2}` +
		`@media (prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#0d1117}.grid{stroke:#333}.want{stroke:#eee}}</style>` + "\n")
	fmt.Fprintf(d, `<rect class="back" width="%.0f" height="%.0f"/>`+"\n", width, height)
	return d
}

// end ends the drawing and returns it.
func (d *drawing) end() string {
	d.WriteString("</svg>\n")
	return d.String()
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(d, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

// text writes words, which may be markup, beside the point as anchor says.
func (d *drawing) text(x, y float64, anchor, words string) {
	fmt.Fprintf(d, `<text x="%.0f" y="%.0f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, words)
}

// curve draws lines from point to point, each "x,y".
func (d *drawing) curve(points []string, color string) {
	fmt.Fprintf(d, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), color)
}

// barPlot draws a bar for each figure that has a limit, with the limit as a line
// across it. Each figure has a scale of its own, on which its limit is in the
// middle, unless it is far off.
func barPlot(title string, bars []bar) string {
	const left, width, step, most = 230.0, 300.0, 30.0, 2.0
	d := newDrawing(720, 60+step*float64(len(bars)))
	d.text(12, 22, "start", title)
	d.text(left+width/most, 42, "middle", "limit")
	for i, b := range bars {
		y := 50 + step*float64(i)
		class := "bar"
		if !b.Met {
			class = "missed"
		}
		d.text(left-8, y+15, "end", b.Name)
		fmt.Fprintf(d, `<rect x="%.0f" y="%.0f" width="%.0f" height="20" class="%s"/>`+"\n", left, y, width*min(b.Value/b.Limit, most)/most, class)
		d.line(left+width/most, y-3, left+width/most, y+23, "want")
		d.text(left+width+8, y+15, "start", fmt.Sprintf("%.3g, wanted %s", b.Value, b.Want))
	}
	return d.end()
}

// point is one of a plot.
type point struct{ X, Y float64 }

// curvePlot draws points as a line. The axes begin at 0.
func curvePlot(title, xName, yName string, points []point) string {
	const left, top, width, height = 70.0, 50.0, 620.0, 240.0
	d := newDrawing(720, 340)
	d.text(12, 22, "start", title)
	d.text(left, top-8, "start", yName)
	d.text(left+width/2, top+height+40, "middle", xName)
	var mostX, mostY float64
	for _, p := range points {
		mostX, mostY = max(mostX, p.X), max(mostY, p.Y)
	}
	stepX, stepY := axisStep(mostX), axisStep(mostY)
	mostX, mostY = stepX*math.Ceil(mostX/stepX), stepY*math.Ceil(mostY/stepY)
	for x := 0.0; x <= mostX; x += stepX {
		at := left + width*x/mostX
		d.line(at, top, at, top+height, "grid")
		d.text(at, top+height+18, "middle", fmt.Sprintf("%.0f", x))
	}
	for y := 0.0; y <= mostY; y += stepY {
		at := top + height*(1-y/mostY)
		d.line(left, at, left+width, at, "grid")
		d.text(left-8, at+4, "end", fmt.Sprintf("%.0f", y))
	}
	var drawn []string
	for _, p := range points {
		drawn = append(drawn, fmt.Sprintf("%.1f,%.1f", left+width*p.X/mostX, top+height*(1-p.Y/mostY)))
	}
	d.curve(drawn, "#4a86e8")
	return d.end()
}

// axisStep returns a round number, at least 1, of which four to ten reach most.
func axisStep(most float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(most, 10)/4)))
	for _, times := range []float64{1, 2, 5} {
		if most <= 10*times*power {
			return times * power
		}
	}
	return 10 * power
}
