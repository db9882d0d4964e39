package grahak_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"grahak"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	seen := make(map[grahak.Code]bool)
	for _, code := range grahak.Codes() {
		if seen[code] {
			t.Errorf("the code %q is listed twice", code)
		}
		seen[code] = true
	}
	for _, code := range []grahak.Code{grahak.CodeInternal, grahak.CodeUnavailable, grahak.CodeInvalidField, grahak.CodeIPListFull} {
		if !seen[code] {
			t.Errorf("the code %q is not listed", code)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := context.DeadlineExceeded
	down := grahak.Unavailable("the storage is away", 2*time.Second, cause)
	for _, c := range []struct {
		err  error
		code grahak.Code
		text string
	}{
		{grahak.Errorf(grahak.CodeKeyNotFound, "no key %q", "k"), grahak.CodeKeyNotFound, `no key "k"`},
		{&grahak.Error{Code: grahak.CodeKeyNotFound}, grahak.CodeKeyNotFound, "key_not_found"},
		{down, grahak.CodeUnavailable, "the storage is away: context deadline exceeded"},
		{fmt.Errorf("while reading: %w", down), grahak.CodeUnavailable, "while reading: the storage is away: context deadline exceeded"},
		{errors.Join(errors.New("other"), down), grahak.CodeUnavailable, "other\nthe storage is away: context deadline exceeded"},
		{cause, grahak.CodeInternal, "context deadline exceeded"},
	} {
		if got := grahak.CodeOf(c.err); got != c.code {
			t.Errorf("the code of %q is %q, want %q", c.err, got, c.code)
		}
		if c.err.Error() != c.text {
			t.Errorf("got the text %q, want %q", c.err, c.text)
		}
	}
	if grahak.CodeOf(nil) != "" {
		t.Error("nil has a code")
	}
	if !errors.Is(down, cause) || down.RetryIn != 2*time.Second {
		t.Errorf("Unavailable gives %+v", down)
	}
}
