package grahak_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"grahak"
)

// counted is a store that counts how often it is asked about keys, and how many ask at
// once.
type counted struct {
	grahak.Store
	accesses, versions atomic.Int64

	// enter, if set, is called in every Access, before it asks.
	enter func()
}

func (c *counted) Access(ctx context.Context, hash grahak.KeyHash) (grahak.AccessRecord, error) {
	c.accesses.Add(1)
	if c.enter != nil {
		c.enter()
	}
	return c.Store.Access(ctx, hash)
}

func (c *counted) AccessVersion(ctx context.Context) (int64, error) {
	c.versions.Add(1)
	return c.Store.AccessVersion(ctx)
}

// reads returns how often the store was asked since the last call.
func (c *counted) reads() int64 { return c.accesses.Swap(0) + c.versions.Swap(0) }

// limited is a rig whose service has limits and a store that counts.
type limited struct {
	*rig
	service *grahak.Service
	store   *counted

	mu      sync.Mutex
	refused map[grahak.LimitKind]int
}

func MustLimited(t *testing.T, limits grahak.Limits) *limited {
	t.Helper()
	l := &limited{rig: MustMerchantRig(t), refused: make(map[grahak.LimitKind]int)}
	l.store = &counted{Store: l.rig.store}
	l.service = MustService(t, grahak.Config{Store: l.store, Sealer: l.sealer, Clock: l.clock, Limits: limits, Limited: func(kind grahak.LimitKind) {
		l.mu.Lock()
		l.refused[kind]++
		l.mu.Unlock()
	}})
	return l
}

const here, elsewhere = "192.0.2.1", "192.0.2.2"

// ask presents key from addr, which may be empty.
func (l *limited) ask(tb testing.TB, key, addr string) (grahak.Access, error) {
	tb.Helper()
	cred := grahak.Credential{Key: key}
	if addr != "" {
		cred.Addr = netip.MustParseAddr(addr)
	}
	return l.service.Authenticate(tb.Context(), cred)
}

// code returns what asking ends in.
func (l *limited) code(tb testing.TB, key, addr string) grahak.Code {
	tb.Helper()
	_, err := l.ask(tb, key, addr)
	return grahak.CodeOf(err)
}

// stranger returns the nth key that nobody has.
func stranger(n int) string { return fmt.Sprintf("nobody-has-this-key-%d", n) }

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	r := MustRig(t)
	for _, limits := range []grahak.Limits{{Key: -1}, {Merchant: -1}, {Failed: -1}, {Key: grahak.MaxLimit + 1}, {Merchant: grahak.MaxLimit + 1}, {Failed: grahak.MaxLimit + 1}} {
		if _, err := grahak.NewService(grahak.Config{Store: r.store, Sealer: r.sealer, Limits: limits}); grahak.CodeOf(err) != grahak.CodeInvalidField {
			t.Errorf("%+v: got %v", limits, err)
		}
	}
	if _, err := grahak.NewService(grahak.Config{Store: r.store, Sealer: r.sealer, Limits: grahak.Limits{Key: grahak.MaxLimit}}); err != nil {
		t.Error(err)
	}
}

// A key and a merchant have as many requests a second as is set, and whoever else has
// his own.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	type step struct {
		passes time.Duration // before it
		key    string
		code   grahak.Code
		quota  grahak.Quota
		retry  time.Duration
	}
	const ms = time.Millisecond
	key := func(limit, left int, full time.Duration) grahak.Quota {
		return grahak.Quota{Kind: grahak.LimitKey, Limit: limit, Window: time.Second, Left: left, Full: full}
	}
	merchant := func(limit, left int, full time.Duration) grahak.Quota {
		return grahak.Quota{Kind: grahak.LimitMerchant, Limit: limit, Window: time.Second, Left: left, Full: full}
	}
	const tooMany = grahak.CodeTooManyRequests
	for name, c := range map[string]struct {
		limits grahak.Limits
		steps  []step
	}{
		"of a key": {grahak.Limits{Key: 2}, []step{
			{0, "acme", "", key(2, 1, 500*ms), 0},
			{0, "acme", "", key(2, 0, 1000*ms), 0},
			{0, "acme", tooMany, key(2, 0, 1000*ms), 500 * ms},
			{0, "acme's second", "", key(2, 1, 500*ms), 0},
			{0, "rival", "", key(2, 1, 500*ms), 0},
			{499 * ms, "acme", tooMany, key(2, 0, 501*ms), 1 * ms},
			{1 * ms, "acme", "", key(2, 0, 1000*ms), 0},
		}},
		"of a merchant": {grahak.Limits{Merchant: 2}, []step{
			{0, "acme", "", merchant(2, 1, 500*ms), 0},
			{0, "acme's second", "", merchant(2, 0, 1000*ms), 0},
			{0, "acme", tooMany, merchant(2, 0, 1000*ms), 500 * ms},
			{0, "rival", "", merchant(2, 1, 500*ms), 0},
		}},
		// The one with the least left is told, and of two the key's. What the merchant's
		// limit refuses is not counted for the key.
		"of both": {grahak.Limits{Key: 2, Merchant: 3}, []step{
			{0, "acme", "", key(2, 1, 500*ms), 0},
			{0, "acme's second", "", key(2, 1, 500*ms), 0},
			{0, "acme", "", key(2, 0, 1000*ms), 0},
			{0, "acme", tooMany, key(2, 0, 1000*ms), 500 * ms},
			{0, "acme's second", tooMany, merchant(3, 0, 1000*ms+2), 333333334},
			{0, "acme's second", tooMany, merchant(3, 0, 1000*ms+2), 333333334},
			{400 * ms, "acme's second", "", key(2, 0, 600*ms), 0},
		}},
		"none": {grahak.Limits{}, []step{{0, "acme", "", grahak.Quota{}, 0}, {0, "acme", "", grahak.Quota{}, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := MustLimited(t, c.limits)
			keys := make(map[string]string)
			for name, m := range map[string]grahak.MerchantID{"acme": acme, "acme's second": acme, "rival": rival} {
				_, keys[name] = l.MustKey(t, m, grahak.KeySpec{})
			}
			refusals := make(map[grahak.LimitKind]int)
			for i, s := range c.steps {
				l.clock.Advance(s.passes)
				access, err := l.ask(t, keys[s.key], here)
				wantCode(t, err, s.code)
				diff(t, fmt.Sprintf("step %d: what is left", i), s.quota, access.Quota)
				var want grahak.LimitKind
				var retry time.Duration
				if s.code == tooMany {
					want = s.quota.Kind
					refusals[want]++
					if e, ok := err.(*grahak.Error); ok { //nolint:errorlint // It is returned as it is.
						retry = e.RetryIn
					}
				}
				diff(t, fmt.Sprintf("step %d: the limit that refuses", i), want, access.Limited)
				diff(t, fmt.Sprintf("step %d: when to try again", i), s.retry, retry)
				if access.Caller.Merchant == "" || access.KeyID == "" {
					t.Errorf("step %d: the caller is known, but got %+v", i, access)
				}
			}
			diff(t, "refusals that were counted", refusals, l.refused)
		})
	}
}

// Who is refused for the address uses nothing of the merchant's limit up.
func TestRefusedAddressIsNotCounted(t *testing.T) {
	t.Parallel()
	l := MustLimited(t, grahak.Limits{Key: 2, Merchant: 2})
	_, secret := l.MustKey(t, acme, grahak.KeySpec{})
	if _, err := l.AddIPEntry(t.Context(), operator(acme), here, ""); err != nil {
		t.Fatal(err)
	}
	wantCode(t, l.SetIPMode(t.Context(), operator(acme), grahak.IPModeEnforce), "")
	for range 5 {
		access, err := l.ask(t, secret, elsewhere)
		wantCode(t, err, grahak.CodeIPNotWhitelisted)
		diff(t, "what is left is not told", grahak.Quota{}, access.Quota)
	}
	for _, want := range []grahak.Code{"", "", grahak.CodeTooManyRequests} {
		if got := l.code(t, secret, here); got != want {
			t.Errorf("got code %q, want %q", got, want)
		}
	}
}

// An address that has failed too often is refused without a look-up, but a key that was
// seen before is let in from there, also after what is remembered of it was dropped; and
// one that is new, unless many keys came that are none.
func TestFailures(t *testing.T) {
	t.Parallel()
	const burst = 5
	mistyped := func(key string) string { return mistype(key, len(key)-1) }
	for name, c := range map[string]struct {
		bad    func(good string, n int) string
		asks   int64 // of the store, for the failures that are allowed
		reason grahak.Refusal
		unseen grahak.Code // of a good key that is new to the process
	}{
		"unknown keys":    {func(_ string, n int) string { return stranger(n) }, burst, grahak.RefusalUnknown, grahak.CodeTooManyRequests},
		"one unknown key": {func(string, int) string { return stranger(0) }, 1, grahak.RefusalUnknown, ""},
		"mistyped keys":   {func(good string, _ int) string { return mistyped(good) }, 0, grahak.RefusalMalformed, ""},
		"no key":          {func(string, int) string { return "" }, 0, grahak.RefusalMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := MustLimited(t, grahak.Limits{Failed: burst})
			_, good := l.MustKey(t, acme, grahak.KeySpec{})
			_, unseen := l.MustKey(t, acme, grahak.KeySpec{})
			old, revoked := l.MustKey(t, acme, grahak.KeySpec{})
			for _, key := range []string{good, revoked} {
				if got := l.code(t, key, elsewhere); got != "" {
					t.Fatalf("a good key: got code %q", got)
				}
			}
			l.store.reads()
			for n := range burst {
				access, err := l.ask(t, c.bad(good, n), here)
				wantCode(t, err, grahak.CodeInvalidAPIKey)
				diff(t, "the outcome", grahak.Access{Refusal: c.reason}, access)
			}
			diff(t, "questions to the store", c.asks, l.store.reads())
			for n := range 1000 {
				access, err := l.ask(t, c.bad(good, burst+n), here)
				wantCode(t, err, grahak.CodeTooManyRequests)
				diff(t, "the limit", grahak.LimitFailed, access.Limited)
			}
			if got := l.code(t, good, here); got != "" {
				t.Errorf("the good key: got code %q", got)
			}
			diff(t, "questions to the store by all that", int64(0), l.store.reads())
			diff(t, "refusals that were counted", map[grahak.LimitKind]int{grahak.LimitFailed: 1000}, l.refused)
			if got := l.code(t, unseen, here); got != c.unseen {
				t.Errorf("a key that was not seen: got code %q, want %q", got, c.unseen)
			}

			// Another process changes something, which is noticed; and so is time.
			wantCode(t, l.MustJoin(t).RevokeKey(t.Context(), operator(acme), old.ID), "")
			l.clock.Advance(2 * time.Second)
			for key, want := range map[string]grahak.Code{
				good: "", revoked: grahak.CodeInvalidAPIKey, stranger(7777): grahak.CodeTooManyRequests, unseen: c.unseen,
			} {
				if got := l.code(t, key, here); got != want {
					t.Errorf("after a change: got code %q, want %q", got, want)
				}
			}
			// Elsewhere nobody has failed.
			if got := l.code(t, unseen, elsewhere); got != "" {
				t.Errorf("a key that was not seen, from elsewhere: got code %q", got)
			}
			if got := l.code(t, unseen, here); got != "" {
				t.Errorf("that key, seen elsewhere: got code %q", got)
			}
			// A failure comes back after its part of the minute; the revoked key has
			// used up nothing that was there.
			l.clock.Advance(time.Minute/burst - 2*time.Second)
			for _, want := range []grahak.Code{grahak.CodeInvalidAPIKey, grahak.CodeTooManyRequests} {
				if got := l.code(t, c.bad(good, 9999), here); got != want {
					t.Errorf("after a fifth of a minute: got code %q, want %q", got, want)
				}
			}
		})
	}
}

// What is counted is a failure of the address, whatever the credential lacks, and no
// success.
func TestWhatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addr, other string
		code        grahak.Code // of a stranger from other, once addr has failed too often
	}{
		"the same":               {"192.0.2.1", "192.0.2.1", grahak.CodeTooManyRequests},
		"the same as IPv6":       {"192.0.2.1", "::ffff:192.0.2.1", grahak.CodeTooManyRequests},
		"a neighbour":            {"192.0.2.1", "192.0.2.2", grahak.CodeInvalidAPIKey},
		"of one IPv6 network":    {"2001:db8::1", "2001:db8::2:1:0:1", grahak.CodeTooManyRequests},
		"of another":             {"2001:db8::1", "2001:db8:0:1::1", grahak.CodeInvalidAPIKey},
		"two that are not known": {"", "", grahak.CodeTooManyRequests},
		"one that is not known":  {"192.0.2.1", "", grahak.CodeInvalidAPIKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := MustLimited(t, grahak.Limits{Failed: 2})
			for n := range 2 {
				l.code(t, stranger(n), c.addr)
			}
			if got := l.code(t, stranger(2), c.other); got != c.code {
				t.Errorf("got code %q, want %q", got, c.code)
			}
		})
	}
	t.Run("good keys", func(t *testing.T) {
		t.Parallel()
		l := MustLimited(t, grahak.Limits{Failed: 2})
		for range 5 {
			_, secret := l.MustKey(t, acme, grahak.KeySpec{})
			for range 3 {
				if got := l.code(t, secret, here); got != "" {
					t.Errorf("a good key: got code %q", got)
				}
			}
		}
		// Refusals of what is known to be a key are failures as well, and always told.
		key, secret := l.MustKey(t, acme, grahak.KeySpec{})
		l.code(t, secret, here)
		for range 3 {
			_, err := l.service.Authenticate(t.Context(), grahak.Credential{Key: secret, Merchant: "rival", Addr: netip.MustParseAddr(here)})
			wantCode(t, err, grahak.CodeInvalidAPIKey)
		}
		if got := l.code(t, stranger(1), here); got != grahak.CodeTooManyRequests {
			t.Errorf("an unknown key after that: got code %q", got)
		}
		wantCode(t, l.service.RevokeKey(t.Context(), operator(acme), key.ID), "")
		for range 3 {
			if got := l.code(t, secret, here); got != grahak.CodeInvalidAPIKey {
				t.Errorf("a revoked key: got code %q", got)
			}
		}
	})
	t.Run("an outage", func(t *testing.T) {
		t.Parallel()
		l := MustLimited(t, grahak.Limits{Failed: 2})
		if err := l.rig.store.Close(); err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			if got := l.code(t, stranger(n), here); got != grahak.CodeUnavailable {
				t.Errorf("without storage: got code %q", got)
			}
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		l := MustLimited(t, grahak.Limits{})
		for n := range 200 {
			if got := l.code(t, stranger(n), here); got != grahak.CodeInvalidAPIKey {
				t.Fatalf("failure %d: got code %q", n, got)
			}
		}
	})
}

// Many requests at once with a key that is new to the process are not failures, and one
// of them asks the store.
func TestManyWithNewKey(t *testing.T) {
	t.Parallel()
	l := MustLimited(t, grahak.Limits{Failed: 1})
	_, secret := l.MustKey(t, acme, grahak.KeySpec{})
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if got := l.code(t, secret, here); got != "" {
				t.Errorf("a good key: got code %q", got)
			}
		})
	}
	group.Wait()
	diff(t, "look-ups", int64(1), l.store.accesses.Load())
}

// Of many unknown keys at once from one address no more are looked up than it may fail.
func TestManyUnknownKeys(t *testing.T) {
	t.Parallel()
	const burst = 5
	l := MustLimited(t, grahak.Limits{Failed: burst})
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			if got := l.code(t, stranger(n), here); got == "" {
				t.Error("an unknown key was let in")
			}
		})
	}
	group.Wait()
	diff(t, "look-ups", int64(burst), l.store.accesses.Load())
}

// A request that the store has held up, as in an outage, is not refused for what others
// of its merchant have asked meanwhile.
func TestHeldUpIsNotLimited(t *testing.T) {
	t.Parallel()
	l := MustLimited(t, grahak.Limits{Key: 2, Merchant: 2})
	_, seen := l.MustKey(t, acme, grahak.KeySpec{})
	_, unseen := l.MustKey(t, acme, grahak.KeySpec{})
	diff(t, "a key", grahak.Code(""), l.code(t, seen, here))
	l.store.enter = func() {
		l.clock.Advance(10 * time.Second)
		diff(t, "a key that was seen", grahak.Code(""), l.code(t, seen, here))
	}
	diff(t, "a key whose look-up took long", grahak.Code(""), l.code(t, unseen, here))
}

// That there is no such key is remembered for less than two seconds, even while nothing
// changes.
func TestUnknownIsForgotten(t *testing.T) {
	t.Parallel()
	l := MustLimited(t, grahak.Limits{})
	_, good := l.MustKey(t, acme, grahak.KeySpec{})
	l.code(t, good, here)
	for _, step := range []struct {
		passes  time.Duration
		key     string
		lookups int64
	}{
		{1500 * time.Millisecond, stranger(0), 1},
		{500 * time.Millisecond, good, 0}, // This finds that nothing has changed.
		{1499 * time.Millisecond, stranger(0), 0},
		{1 * time.Millisecond, stranger(0), 1},
	} {
		l.store.accesses.Store(0)
		l.clock.Advance(step.passes)
		l.code(t, step.key, here)
		diff(t, fmt.Sprintf("look-ups of %s", step.key[:6]), step.lookups, l.store.accesses.Load())
	}
}

// However many unknown keys come from however many addresses, one is looked up at a
// time, so that keys that were seen before do not wait for them; and who waits too long
// is told to come again.
func TestFloodFromEverywhere(t *testing.T) {
	t.Parallel()
	l := MustLimited(t, grahak.Limits{Failed: 60})
	_, good := l.MustKey(t, acme, grahak.KeySpec{})
	if got := l.code(t, good, elsewhere); got != "" {
		t.Fatalf("the good key: got code %q", got)
	}
	// What is remembered of the good key is dropped: it has to be read again.
	_, other := l.MustKey(t, rival, grahak.KeySpec{})
	l.clock.Advance(2 * time.Second)
	l.store.reads()

	entered, hold := make(chan struct{}, 1), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	first := true
	var mu sync.Mutex
	l.store.enter = func() {
		mu.Lock()
		mine := first
		first = false
		mu.Unlock()
		if mine {
			entered <- struct{}{}
			<-hold
		}
	}
	var group sync.WaitGroup
	codes := make([]grahak.Code, 20)
	group.Go(func() { codes[0] = l.code(t, stranger(0), "198.51.100.0") })
	<-entered
	for n := range codes[1:] {
		group.Go(func() { codes[1+n] = l.code(t, stranger(1+n), fmt.Sprintf("198.51.100.%d", 1+n)) })
	}
	// The one that asks holds the others up until they give up, but not the good key.
	if got := l.code(t, good, elsewhere); got != "" {
		t.Errorf("the good key meanwhile: got code %q", got)
	}
	if got := l.code(t, other, elsewhere); got != grahak.CodeUnavailable {
		t.Errorf("a key that was never seen, meanwhile: got code %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.service.Authenticate(ctx, grahak.Credential{Key: stranger(100)})
	wantCode(t, err, grahak.CodeUnavailable)
	limit, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	for {
		l.mu.Lock()
		n := l.refused[grahak.LimitLookup]
		l.mu.Unlock()
		if n == len(codes) {
			break
		}
		select {
		case <-limit.Done():
			t.Fatalf("%d of %d that wait have given up", n, len(codes))
		case <-time.After(5 * time.Millisecond):
		}
	}
	release()
	group.Wait()
	want := make([]grahak.Code, len(codes))
	for i := range want {
		want[i] = grahak.CodeUnavailable
	}
	want[0] = grahak.CodeInvalidAPIKey
	diff(t, "the outcomes", want, codes)
	diff(t, "look-ups", int64(2), l.store.accesses.Load())
	if got := l.code(t, other, elsewhere); got != "" {
		t.Errorf("the key that was never seen, afterwards: got code %q", got)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for name, limits := range map[string]grahak.Limits{"no limits": {}, "limits": {Key: grahak.MaxLimit, Merchant: grahak.MaxLimit, Failed: 60}} {
		b.Run(name, func(b *testing.B) {
			r := MustMerchantRig(b)
			_, secret := r.MustKey(b, acme, grahak.KeySpec{})
			s := MustService(b, grahak.Config{Store: r.store, Sealer: r.sealer, Limits: limits})
			cred := grahak.Credential{Key: secret, Addr: netip.MustParseAddr(here)}
			b.ReportAllocs()
			for b.Loop() {
				_, err := s.Authenticate(b.Context(), cred)
				if code := grahak.CodeOf(err); code != "" && code != grahak.CodeTooManyRequests {
					b.Fatal(err)
				}
			}
		})
	}
}
