package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// CommandKeys is the source of the keys that a command prints, which is run by
// sh -c with nothing on its standard input, and killed with all that it has
// started when it takes longer than limit. Errors hold the last line of its
// standard error, without what may be a key, and nothing of its standard output.
func CommandKeys(command string, limit time.Duration) KeySource {
	return func(ctx context.Context) ([]*MasterKey, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", command) //nolint:gosec // To run what the operator gives is what this is for.
		var out head
		var said tail
		cmd.Stdout, cmd.Stderr = &out, &said
		// What the command leaves running does not hold up its answer for longer.
		cmd.WaitDelay = time.Second
		killTogether(cmd)
		err := cmd.Run()
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = fmt.Errorf("the command took longer than %v", limit)
		case out.full:
			return nil, fmt.Errorf("the command printed more than %d bytes", maxKeyText)
		case err == nil, errors.Is(err, exec.ErrWaitDelay):
			return ParseMasterKeys(out.text.Bytes())
		default:
			err = fmt.Errorf("the command failed: %w", err)
		}
		if line := said.lastLine(); line != "" {
			err = fmt.Errorf("%w: %s", err, line)
		}
		return nil, err
	}
}

// head keeps what is written to it, and refuses more than maxKeyText bytes.
type head struct {
	text bytes.Buffer
	full bool
}

// Write implements [io.Writer].
func (h *head) Write(p []byte) (int, error) {
	if h.text.Len()+len(p) > maxKeyText {
		h.full = true
		return 0, errors.New("too much")
	}
	return h.text.Write(p)
}

// maxTail and maxLine bound what is kept of a command's standard error, and what
// is shown of it, in bytes.
const (
	maxTail = 4096
	maxLine = 300
)

// tail keeps the end of what is written to it.
type tail struct {
	text []byte
	cut  bool
}

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - maxTail; over > 0 {
		t.text, t.cut = append(t.text[:0], t.text[over:]...), true
	}
	return len(p), nil
}

// keyLike is what a master key looks like.
var keyLike = regexp.MustCompile(`[A-Za-z0-9+/]{40,}=*`)

// lastLine returns the last line that is not blank, fit to be shown.
func (t *tail) lastLine() string {
	text := strings.TrimRightFunc(string(t.text), unicode.IsSpace)
	start := strings.LastIndexByte(text, '\n') + 1
	if start == 0 && t.cut {
		// Where its start is missing, half a key may be left.
		return ""
	}
	line := strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, keyLike.ReplaceAllString(text[start:], "…")))
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "…"
	}
	return line
}
