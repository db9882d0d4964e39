package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"grahak/internal/testkit"
)

// tab is a person at a browser of their own, with nothing in it. It finds what is on a
// page as the person does, by what is written there.
type tab struct {
	t    testing.TB
	base string // of the server, without a slash at the end
	ctx  context.Context

	mu       sync.Mutex
	troubles []string // what the browser has complained of
}

// The sizes of windows.
const (
	narrow = 360
	wide   = 1600
	high   = 900
)

// newTab opens a browser that nobody has used. When the test ends it is closed, and the
// test fails if the browser has complained of anything: an error of a script, or
// something that the content security policy does not allow.
func newTab(t testing.TB, base string) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, base: base, ctx: ctx}
	t.Cleanup(func() {
		b.mu.Lock()
		for _, trouble := range b.troubles {
			t.Errorf("the browser complains: %s", trouble)
		}
		b.mu.Unlock()
		if t.Failed() {
			b.keep("failed-" + regexp.MustCompile(`\W+`).ReplaceAllString(t.Name(), "-"))
		}
		closeTab()
	})
	// The tab would end with the context of what is done in it first.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("a tab cannot be opened: %v", err)
	}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(wide, high))
	// They would take some of the width, which they do not on phones.
	if _, err := chromedp.Call(ctx, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true}); err != nil {
		t.Fatal(err)
	}
	return b
}

// listen notes what is wrong.
func (b *tab) listen(event any) {
	var trouble string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		trouble = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			trouble += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, arg := range e.Args {
				trouble += string(arg.Value) + " "
			}
		}
	case *cdplog.EventEntryAdded:
		// That a page was answered with 422 is for the test to judge.
		refused := e.Entry.Source == cdplog.EntrySourceNetwork && !strings.Contains(e.Entry.URL, "/static/")
		if e.Entry.Level != cdplog.EntryLevelInfo && e.Entry.Level != cdplog.EntryLevelVerbose && !refused {
			trouble = fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	}
	if trouble != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.troubles = append(b.troubles, trouble)
	}
}

// do does something within the bound.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v, on:\n%s", err, b.whole())
	}
}

// load does what leads to another page, and returns the status of that.
func (b *tab) load(what string, steps ...chromedp.Action[chromedp.Void]) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		b.t.Fatalf("%s: %v, on:\n%s", what, err, b.whole())
	}
	if response == nil {
		b.t.Fatalf("%s leads to no other page:\n%s", what, b.whole())
	}
	return int(response.Status)
}

// value returns what a JavaScript expression is, in the page. It works in a page that
// may run no script, too.
func value[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// whole returns all that is written on the page, or nothing if there is none.
func (b *tab) whole() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.title + "\n" + document.body.innerText`))
	return text
}

// MustOpen goes to a path as if it were entered, and fails the test unless the page
// is answered with the status.
func (b *tab) MustOpen(path string, status int) {
	b.t.Helper()
	if got := b.load(path, chromedp.Navigate(b.base+path)); got != status {
		b.t.Fatalf("%s is answered %d, want %d:\n%s", path, got, status, b.whole())
	}
}

// locate returns an expression for the first visible element of a selector that a
// JavaScript condition is true of, which has the element as e, the name to look for as
// name and a function that tidies texts as tidy. Where several conditions are given, an
// element that the first is true of goes before the others.
func locate(selector, name string, conditions ...string) chromedp.JSPath {
	quote := func(s string) string { text, _ := json.Marshal(s); return string(text) }
	var find strings.Builder
	for _, c := range conditions {
		fmt.Fprintf(&find, "all.find(e => %s) ?? ", c)
	}
	return chromedp.JSPath(fmt.Sprintf(`(() => {
		const name = %s, tidy = s => (s ?? '').replace(/\s+/g, ' ').trim();
		const seen = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 };
		const all = [...document.querySelectorAll(%s)].filter(seen);
		return %snull;
	})()`, quote(name), quote(selector), find.String()))
}

// button finds a button or a link by its text, or what it is called for those who do
// not see it.
func button(name string) chromedp.JSPath {
	return locate("button, a, summary, [type=submit]", name, `[e.getAttribute('aria-label'), e.innerText].some(s => tidy(s) === name)`)
}

// control finds what is filled in by its label, or by how its label begins.
func control(label string) chromedp.JSPath {
	return locate("input, select, textarea", label,
		`[...(e.labels ?? [])].some(l => tidy(l.innerText) === name)`, `[...(e.labels ?? [])].some(l => tidy(l.innerText).startsWith(name))`)
}

// has reports whether an element is on the page.
func (b *tab) has(element chromedp.JSPath) bool {
	b.t.Helper()
	return value[bool](b, string(element)+" !== null")
}

// Click presses a button that leads to no other page.
func (b *tab) Click(name string) {
	b.t.Helper()
	b.do(chromedp.Click(button(name)))
}

// Press presses a button or a link, and returns the status of the page that it leads to.
func (b *tab) Press(name string) int {
	b.t.Helper()
	return b.load(fmt.Sprintf("%q", name), chromedp.Click(button(name)))
}

// MustPress fails the test unless the page that a button leads to is as it should be.
func (b *tab) MustPress(name string) {
	b.t.Helper()
	if status := b.Press(name); status != 200 {
		b.t.Fatalf("%q leads to a page with the status %d:\n%s", name, status, b.whole())
	}
}

// Fill enters a text in place of what is there.
func (b *tab) Fill(label, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(control(label)), chromedp.SendKeys(control(label), text))
}

// Tick chooses what has no text to fill in.
func (b *tab) Tick(label string) {
	b.t.Helper()
	b.do(chromedp.Click(control(label)))
}

// Choose takes one of the choices.
func (b *tab) Choose(label, choice string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(control(label)))
	chosen := value[bool](b, fmt.Sprintf(`(() => {
		const e = %s, o = [...e.options].find(o => o.text.trim() === %q || o.value === %q);
		if (!o) return false;
		e.value = o.value;
		e.dispatchEvent(new Event('input', {bubbles: true}));
		e.dispatchEvent(new Event('change', {bubbles: true}));
		return true;
	})()`, control(label), choice, choice))
	if !chosen {
		b.t.Fatalf("%q has no choice %q:\n%s", label, choice, b.whole())
	}
}

// Type presses keys, wherever the focus is.
func (b *tab) Type(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// Path returns where the tab is.
func (b *tab) Path() string {
	b.t.Helper()
	return value[string](b, "location.pathname")
}

// Text returns what is written in the first element of a selector.
func (b *tab) Text(selector string) string {
	b.t.Helper()
	var text string
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		b.t.Fatalf("%s: %v, on:\n%s", selector, err, b.whole())
	}
	return strings.TrimSpace(text)
}

// Count returns how many elements a selector finds.
func (b *tab) Count(selector string) int {
	b.t.Helper()
	return value[int](b, fmt.Sprintf("document.querySelectorAll(%q).length", selector))
}

// MustSee fails the test unless all of it is written on the page.
func (b *tab) MustSee(texts ...string) {
	b.t.Helper()
	page := b.whole()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			b.t.Fatalf("%q is not on the page:\n%s", text, page)
		}
	}
}

// MustNotSee fails the test if any of it is on the page or in its HTML.
func (b *tab) MustNotSee(texts ...string) {
	b.t.Helper()
	page := value[string](b, "document.documentElement.outerHTML")
	for _, text := range texts {
		if strings.Contains(page, text) {
			b.t.Fatalf("%q is on the page:\n%s", text, b.whole())
		}
	}
}

// MustBecome reloads the page until a text is on it.
func (b *tab) MustBecome(text string) {
	b.t.Helper()
	await(b.t, fmt.Sprintf("%q is on the page", text), func() bool {
		if strings.Contains(b.whole(), text) {
			return true
		}
		b.load("reload", chromedp.Reload())
		return strings.Contains(b.whole(), text)
	})
}

// MustFocus presses Tab until what has the focus is the element, and fails the test if
// it cannot be reached so, or if it does not show that it has the focus.
func (b *tab) MustFocus(what string, element chromedp.JSPath) {
	b.t.Helper()
	for range 200 {
		if value[bool](b, string(element)+" === document.activeElement") {
			outline := value[string](b, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth + ' ' + s.boxShadow })()`)
			if strings.HasPrefix(outline, "none") && strings.HasSuffix(outline, "none") {
				b.t.Errorf("%s does not show that it has the focus", what)
			}
			return
		}
		b.Type(kb.Tab)
	}
	b.t.Fatalf("%s cannot be reached with the Tab key:\n%s", what, b.whole())
}

// Enter presses the Enter key and returns the status of the page that it leads to.
func (b *tab) Enter() int {
	b.t.Helper()
	return b.load("Enter", chromedp.KeyEvent(kb.Enter))
}

// window gives the tab another width and a colour scheme.
func (b *tab) window(width int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, high))
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// noScript has the tab run no script of pages.
func (b *tab) noScript() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		b.t.Fatal(err)
	}
}

// picture writes what the whole page looks like into the folder of screenshots, or the
// part of it that the window shows.
func (b *tab) picture(name string, whole bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	shoot := chromedp.CaptureScreenshot()
	if whole {
		shoot = chromedp.FullScreenshot(100)
	}
	shot, err := chromedp.Run(ctx, shoot)
	if err == nil && !whole {
		shot, err = fewColours(shot)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(pictures(b.t), name+".png"), shot, 0o600)
	}
	if err != nil {
		b.t.Errorf("the picture %s: %v", name, err)
	}
}

// fewColours returns a PNG with the 256 most frequent colours of another, which makes it
// a third as large.
func fewColours(shot []byte) ([]byte, error) {
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	size, counts := full.Bounds(), make(map[color.Color]int)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			counts[full.At(x, y)]++
		}
	}
	palette := color.Palette(slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] }))
	few := image.NewPaletted(size, palette[:min(256, len(palette))])
	draw.Draw(few, size, full, size.Min, draw.Src)
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, few)
	return b.Bytes(), err
}

// keep writes what is in the tab beside the pictures.
func (b *tab) keep(name string) {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	html, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.documentElement.outerHTML"))
	if err == nil {
		err = os.WriteFile(filepath.Join(pictures(b.t), name+".html"), []byte(html), 0o600)
	}
	full, shot := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if shot == nil {
		shot = os.WriteFile(filepath.Join(pictures(b.t), name+".png"), full, 0o600)
	}
	if err := errors.Join(err, shot); err != nil {
		b.t.Logf("what is in the tab cannot be kept: %v", err)
		return
	}
	b.t.Logf("%s/%s.png shows the last page", pictures(b.t), name)
}

// await returns when done returns true, and fails the test when that takes too long.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	testkit.Await(t, what, bound, done)
}
