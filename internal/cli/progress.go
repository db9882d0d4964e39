package cli

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long command is, on a terminal; anywhere else it
// shows nothing, because a log is no place for a bar. It is for one goroutine.
type progress struct {
	std  Streams
	what string
	bar  *progressbar.ProgressBar
	// bytes is set if what is counted are bytes.
	bytes bool
}

// newProgress returns a bar that says what is going on, such as "Checking
// events". Nothing is shown before the first set. The caller ends it with
// finish before it writes anything else.
func newProgress(std Streams, what string) *progress {
	return &progress{std: std, what: what}
}

// set shows that done of total are behind us. Both may move either way; a total
// of 0 or less is not known yet, and shows nothing.
func (p *progress) set(done, total int64) {
	if total <= 0 || !isTerminal(p.std.Err) {
		return
	}
	// A full bar would count as finished, and whatever is done is not finished
	// before finish says so.
	done = min(done, total-1)
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(
			total,
			progressbar.OptionSetWriter(p.std.Err),
			progressbar.OptionSetDescription(p.what),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionShowBytes(p.bytes),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	// The bar must not look full between the two steps either.
	if total < p.bar.GetMax64() {
		_ = p.bar.Set64(done)
	}
	p.bar.ChangeMax64(total)
	_ = p.bar.Set64(done)
}

// describe changes what is said to be going on.
func (p *progress) describe(what string) {
	p.what = what
	if p.bar != nil {
		p.bar.Describe(what)
	}
}

// aside takes the bar away until the next set, so that something else can be
// printed.
func (p *progress) aside() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// finish takes the bar away, if there is one. It may be called again.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}
