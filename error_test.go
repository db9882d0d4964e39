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
		if internal := code.Kind() == grahak.KindInternal; internal != (code == grahak.CodeInternal) {
			t.Errorf("the code %q has kind %d", code, code.Kind())
		}
	}
	for code, want := range map[grahak.Code]grahak.Kind{
		grahak.CodeInternal:           grahak.KindInternal,
		grahak.CodeUnavailable:        grahak.KindUnavailable,
		grahak.CodeInvalidField:       grahak.KindInvalid,
		grahak.CodeDuplicateReference: grahak.KindConflict,
		grahak.CodeCustomerNotFound:   grahak.KindNotFound,
		grahak.CodeInvalidAPIKey:      grahak.KindUnauthenticated,
		grahak.CodeIPNotWhitelisted:   grahak.KindForbidden,
		grahak.CodeInsufficientScope:  grahak.KindForbidden,
		grahak.CodeTokenNotFound:      grahak.KindNotFound,
		"never heard of":              grahak.KindInternal,
	} {
		if got := code.Kind(); got != want {
			t.Errorf("the code %q has kind %d, want %d", code, got, want)
		}
		if !seen[code] && code != "never heard of" {
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
