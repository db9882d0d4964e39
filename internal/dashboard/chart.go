package dashboard

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// chart is quantities over time, drawn as bars upon each other or as lines.
type chart struct {
	// Title is what it shows, Text the same in a sentence for those who do not see it.
	Title, Text string
	Lines       bool
	Series      []series
	// Times are when the steps began that the values of each series are of, Step apart.
	Times []time.Time
	Step  time.Duration
	// Format writes a value; default a whole number.
	Format func(float64) string
}

// series is one quantity of a chart. Its colour is its place among the others.
type series struct {
	Name   string
	Values []float64
	// Colour is the number of a class of app.css, from 1.
	Colour int
}

// The drawing's sizes. It is stretched to the width of its card.
const (
	chartWidth, chartHeight = 640, 200
	chartLeft, chartRight   = 52, 8
	chartTop, chartBottom   = 8, 24
	plotWidth               = chartWidth - chartLeft - chartRight
	plotHeight              = chartHeight - chartTop - chartBottom
	maxBars                 = 100 // more are put together, so that a page stays small
)

func (c chart) format(v float64) string {
	if c.Format != nil {
		return c.Format(v)
	}
	return num(int64(v))
}

// Sum is all of a series together, written as its values are; lines are not summed.
func (c chart) Sum(s series) string {
	if c.Lines {
		return ""
	}
	total := 0.0
	for _, v := range s.Values {
		total += v
	}
	return c.format(total)
}

// Peak is the greatest value that the chart must have room for.
func (c chart) Peak() (peak float64) {
	for i := range c.Times {
		sum := 0.0
		for _, s := range c.Series {
			if c.Lines {
				sum = max(sum, s.Values[i])
			} else {
				sum += s.Values[i]
			}
		}
		peak = max(peak, sum)
	}
	return peak
}

// niceStep returns a step of 1, 2 or 5 times a power of ten that reaches peak in at most
// four; whole says that it is at least 1.
func niceStep(peak float64, whole bool) float64 {
	if peak <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(peak/4)))
	step := power * 10
	for _, n := range []float64{1, 2, 5} {
		if n*power*4 >= peak {
			step = n * power
			break
		}
	}
	if whole {
		step = max(1, step)
	}
	return step
}

// together puts neighbours into one step until there are at most [maxBars].
func (c chart) together() chart {
	n := (len(c.Times) + maxBars - 1) / maxBars
	if c.Lines || n <= 1 {
		return c
	}
	out := c
	out.Times, out.Series, out.Step = nil, nil, c.Step*time.Duration(n)
	for i := 0; i < len(c.Times); i += n {
		out.Times = append(out.Times, c.Times[i])
	}
	for _, s := range c.Series {
		t := s
		t.Values = make([]float64, len(out.Times))
		for i, v := range s.Values {
			t.Values[i/n] += v
		}
		out.Series = append(out.Series, t)
	}
	return out
}

// SVG draws the chart.
func (c chart) SVG() template.HTML {
	c = c.together()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.Title+". "+c.Text))
	step := niceStep(c.Peak(), !c.Lines)
	top := step * max(1, math.Ceil(c.Peak()/step))
	y := func(v float64) float64 { return chartTop + plotHeight*(1-v/top) }
	for v := 0.0; v <= top*1.001; v += step {
		class := "rule"
		if v == 0 {
			class = "axis"
		}
		fmt.Fprintf(&b, `<path class="%s" d="M%d %sH%d"/><text x="%d" y="%s" text-anchor="end">%s</text>`,
			class, chartLeft, coord(y(v)), chartWidth-chartRight, chartLeft-6, coord(y(v)+4), html.EscapeString(c.format(v)))
	}
	if n := len(c.Times); n > 0 {
		c.timeAxis(&b, float64(plotWidth)/float64(n))
		if c.Lines {
			c.drawLines(&b, y)
		} else {
			c.drawBars(&b, y)
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // Texts were escaped; the rest is numbers.
}

func coord(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// timeAxis writes at most six times below the plot, whose steps are width apart.
func (c chart) timeAxis(b *strings.Builder, width float64) {
	form := "2 Jan"
	if c.Step*time.Duration(len(c.Times)) <= 48*time.Hour {
		form = "15:04"
	}
	every := max(1, (len(c.Times)+5)/6)
	for i := 0; i < len(c.Times); i += every {
		fmt.Fprintf(b, `<text x="%s" y="%d">%s</text>`, coord(chartLeft+float64(i)*width), chartHeight-6, c.Times[i].UTC().Format(form))
	}
}

func (c chart) drawBars(b *strings.Builder, y func(float64) float64) {
	width := float64(plotWidth) / float64(len(c.Times))
	for i, at := range c.Times {
		x := chartLeft + float64(i)*width
		var said []string
		var bars strings.Builder
		sum := 0.0
		for _, s := range c.Series {
			v := s.Values[i]
			if v == 0 {
				continue
			}
			said = append(said, s.Name+": "+c.format(v))
			from := y(sum)
			sum += v
			height := max(1, from-y(sum)) // so that one among thousands is seen
			fmt.Fprintf(&bars, `<rect class="c%d" x="%s" y="%s" width="%s" height="%s"/>`, s.Colour, coord(x+width*.1), coord(from-height), coord(width*.8), coord(height))
		}
		if said == nil {
			continue
		}
		fmt.Fprintf(b, `<g><title>%s UTC&#10;%s</title><rect class="hit" x="%s" y="%d" width="%s" height="%d"/>%s</g>`,
			at.UTC().Format(minuteForm), html.EscapeString(strings.Join(said, "\n")), coord(x), chartTop, coord(width), plotHeight, bars.String())
	}
}

func (c chart) drawLines(b *strings.Builder, y func(float64) float64) {
	width := float64(plotWidth) / float64(len(c.Times))
	for _, s := range c.Series {
		fmt.Fprintf(b, `<path class="line c%d" d="`, s.Colour)
		pen := "M"
		for i, v := range s.Values {
			// Nothing was measured where there is nothing.
			if v == 0 {
				pen = "M"
				continue
			}
			x := chartLeft + (float64(i)+.5)*width
			fmt.Fprintf(b, "%s%s %s", pen, coord(x), coord(y(v)))
			if pen == "M" {
				b.WriteString("h.1") // so that a single step is a dot
			}
			pen = "L"
		}
		b.WriteString(`"/>`)
	}
}

// tableRow is a step of charts in numbers.
type tableRow struct {
	At    time.Time
	Cells []string
}

// Columns are the heads of Rows.
func (c chart) Columns() []string {
	names := make([]string, len(c.Series))
	for i, s := range c.Series {
		names[i] = s.Name
	}
	return names
}

// Rows is the chart in numbers: the steps that have any, at most the latest 50 of them.
func (c chart) Rows() (rows []tableRow) {
	const most = 50
	c = c.together()
	for i := len(c.Times) - 1; i >= 0 && len(rows) < most; i-- {
		row, any := tableRow{At: c.Times[i]}, false
		for _, s := range c.Series {
			row.Cells = append(row.Cells, c.format(s.Values[i]))
			any = any || s.Values[i] != 0
		}
		if any {
			rows = append(rows, row)
		}
	}
	return rows
}
