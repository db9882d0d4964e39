package dashboard

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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

// The drawing's height and what is above and below the plot in it, in pixels. Across, all
// is in hundredths of the width there is, so that texts have the size of texts.
const (
	chartHeight = 190
	chartTop    = 8
	chartBottom = 24
	plotHeight  = chartHeight - chartTop - chartBottom
	maxBars     = 60 // more are put together, so that each can be told from the next
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

// Say is the chart for those who do not see it.
func (c chart) Say() string { return c.Title + ". " + c.Text }

// scale returns the steps of the values' axis and what places a value on it.
func (c chart) scale() (step, top float64, y func(float64) float64) {
	peak := c.Peak()
	step = niceStep(peak, !c.Lines)
	top = step * max(1, math.Ceil(peak/step))
	return step, top, func(v float64) float64 { return chartTop + plotHeight*(1-v/top) }
}

// Scale draws the values' axis, which stands beside the plot.
func (c chart) Scale() template.HTML {
	c = c.together()
	step, top, y := c.scale()
	longest := 0
	var texts strings.Builder
	for v := 0.0; v <= top*1.001; v += step {
		text := c.format(v)
		longest = max(longest, utf8.RuneCountInString(text))
		fmt.Fprintf(&texts, `<text x="100%%" y="%s" text-anchor="end">%s</text>`, coord(y(v)+4), html.EscapeString(text))
	}
	//nolint:gosec // Texts were escaped; the rest is numbers.
	return template.HTML(fmt.Sprintf(`<svg class="scale" width="%d" height="%d" aria-hidden="true" focusable="false">%s</svg>`, 7*longest, chartHeight, texts.String()))
}

// Plot draws the chart, as wide as it is let.
func (c chart) Plot() template.HTML {
	c = c.together()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" width="100%%" height="%d" aria-hidden="true" focusable="false">`, chartHeight)
	step, top, y := c.scale()
	for v := 0.0; v <= top*1.001; v += step {
		class := "rule"
		if v == 0 {
			class = "axis"
		}
		fmt.Fprintf(&b, `<line class="%s" x2="100%%" y1="%[2]s" y2="%[2]s"/>`, class, coord(y(v)))
	}
	if n := len(c.Times); n > 0 {
		c.timeAxis(&b)
		if c.Lines {
			c.drawLines(&b, y)
		}
		c.drawSteps(&b, y)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // Texts were escaped; the rest is numbers.
}

func coord(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// part returns a place across the plot: i of n steps from the left, in hundredths.
func part(i float64, n int) string {
	return strconv.FormatFloat(i*100/float64(n), 'f', 2, 64)
}

// timeAxis writes at most four times below the plot, the newest step's among them.
func (c chart) timeAxis(b *strings.Builder) {
	form := "2 Jan"
	if c.Step*time.Duration(len(c.Times)) <= 48*time.Hour {
		form = "15:04"
	}
	n := len(c.Times)
	every := max(1, (n+3)/4)
	for i := n - 1; i >= 0; i -= every {
		x, anchor := part(float64(i)+.5, n), "middle"
		if i == n-1 {
			x, anchor = "100", "end"
		} else if i*10 < n {
			x, anchor = "0", "start"
		}
		fmt.Fprintf(b, `<text x="%s%%" y="%d" text-anchor="%s">%s</text>`, x, chartHeight-6, anchor, c.Times[i].UTC().Format(form))
	}
}

// drawSteps draws what there is in each step, and says it to who points there.
func (c chart) drawSteps(b *strings.Builder, y func(float64) float64) {
	n := len(c.Times)
	for i, at := range c.Times {
		var said []string
		var marks strings.Builder
		sum := 0.0
		for _, s := range c.Series {
			v := s.Values[i]
			if v == 0 {
				continue
			}
			said = append(said, s.Name+": "+c.format(v))
			if c.Lines {
				// A step without neighbours is no line, and the newest is looked for.
				if i == n-1 || (i == 0 || s.Values[i-1] == 0) && s.Values[i+1] == 0 {
					fmt.Fprintf(&marks, `<circle class="c%d" cx="%s%%" cy="%s" r="3.5"/>`, s.Colour, part(float64(i)+.5, n), coord(y(v)))
				}
				continue
			}
			from := y(sum)
			sum += v
			height := max(1, from-y(sum)) // so that one among thousands is seen
			fmt.Fprintf(&marks, `<rect class="c%d" x="%s%%" y="%s" width="%s%%" height="%s"/>`,
				s.Colour, part(float64(i)+.1, n), coord(from-height), part(.8, n), coord(height))
		}
		if said == nil {
			continue
		}
		fmt.Fprintf(b, `<g><title>%s UTC&#10;%s</title><rect class="hit" x="%s%%" y="%d" width="%s%%" height="%d"/>%s</g>`,
			at.UTC().Format(minuteForm), html.EscapeString(strings.Join(said, "\n")), part(float64(i), n), chartTop, part(1, n), plotHeight, marks.String())
	}
}

// drawLines draws lines between neighbouring steps. Their drawing is stretched to the
// width of the plot, and the lines' own width is not.
func (c chart) drawLines(b *strings.Builder, y func(float64) float64) {
	n := len(c.Times)
	fmt.Fprintf(b, `<svg width="100%%" height="%[1]d" viewBox="0 0 100 %[1]d" preserveAspectRatio="none">`, chartHeight)
	for _, s := range c.Series {
		fmt.Fprintf(b, `<path class="line c%d" vector-effect="non-scaling-stroke" d="`, s.Colour)
		pen := "M"
		for i, v := range s.Values {
			// Nothing was measured where there is nothing.
			if v == 0 {
				pen = "M"
				continue
			}
			fmt.Fprintf(b, "%s%s %s", pen, part(float64(i)+.5, n), coord(y(v)))
			pen = "L"
		}
		b.WriteString(`"/>`)
	}
	b.WriteString(`</svg>`)
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
