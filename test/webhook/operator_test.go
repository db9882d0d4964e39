package webhook_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// MustRotate gives the endpoint a new secret, which its receiver learns.
func (i *instance) MustRotate(t *testing.T, h *hook, overlap string) {
	t.Helper()
	h.learn(mustDecode[endpoint](t, i.MustRun(t, "webhook", "rotate-secret", h.id, "--merchant", h.merchant.Merchant, "--overlap", overlap, "--json"))[0].Secret)
}

// MustReplay has events sent again, and fails the test unless they are so many.
func (i *instance) MustReplay(t *testing.T, h *hook, want int, args ...string) {
	t.Helper()
	out := i.MustRun(t, append([]string{"webhook", "replay", h.id, "--merchant", h.merchant.Merchant, "--json"}, args...)...)
	if got := mustDecode[struct{ Events int }](t, out)[0].Events; got != want {
		t.Errorf("grahak webhook replay %q has %d events sent again, want %d", args, got, want)
	}
}

// An operator gives an endpoint new secrets, has events sent again, and disables and
// enables it, beside the server that sends.
func TestOperator(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		acme, other := i.MustMerchant(t, "acme"), i.MustMerchant(t, "other")
		h, bystander := r.MustHook(t, i, acme, "operated", take), r.MustHook(t, i, acme, "left-alone", take)
		c := newClient(t, acme, server)
		customer := c.MustCreate(t, 1)
		foreigner := newClient(t, other, server).MustCreate(t, 1)

		// signed changes the customer until that is told with so many signatures, of which
		// one is by the newest secret.
		n := 0
		signed := func(signatures int) {
			t.Helper()
			for {
				n++
				before := len(h.deliveries())
				c.MustUpdate(t, customer, fmt.Sprint("Meera ", n))
				await(t, "the change is told", func() bool { return len(h.deliveries()) > before })
				last := h.deliveries()[before]
				if last.newest && last.signatures == signatures {
					if last.signers != signatures {
						t.Errorf("%d known secrets verify a message with %d signatures", last.signers, signatures)
					}
					return
				}
			}
		}
		signed(1)
		i.MustRotate(t, h, "1h")
		signed(2)
		i.MustRotate(t, h, "0s")
		signed(1)
		i.MustRotate(t, h, "3s")
		signed(1) // when the overlap is over
		events := i.MustEvents(t, "acme")
		h.MustGetAll(t, events)
		newest := false
		for _, d := range h.deliveries() {
			if d.signatures == 1 && newest && d.signers != 1 {
				t.Errorf("%d secrets verify %+v", d.signers, d)
			}
			newest = newest || d.newest
		}

		wanted := h.wants(events)
		before := len(h.deliveries())
		again := func(want ...event) {
			t.Helper()
			await(t, "the events are sent again", func() bool { return len(h.deliveries()) >= before+len(want) })
			var got, ids []string
			for _, d := range h.deliveries()[before:] {
				got = append(got, d.Data.Event)
			}
			for _, e := range want {
				ids = append(ids, e.ID)
			}
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Errorf("what is sent again is not right (-want +got):\n%s", diff)
			}
			before += len(want)
		}
		i.MustReplay(t, h, 1, "--event", wanted[0].ID)
		again(wanted[0])
		position := func(n int) string { return strconv.FormatInt(wanted[n].Position, 10) }
		i.MustReplay(t, h, 3, "--from", position(0), "--to", position(2))
		again(wanted[:3]...)
		of := i.MustEvents(t, "other")
		if e := of[len(of)-1]; e.Subject != foreigner {
			t.Fatalf("the last event of the other merchant is %+v", e)
		} else if out, _, err := i.run(t, "webhook", "replay", h.id, "--merchant", "acme", "--event", e.ID); err == nil {
			t.Errorf("an event of another merchant is sent: %s", out)
		}

		i.MustRun(t, "webhook", "disable", h.id, "--merchant", "acme")
		for n := range 20 {
			c.MustUpdate(t, customer, fmt.Sprint("Kavya ", n))
		}
		events = i.MustEvents(t, "acme")
		bystander.MustGetAll(t, events)
		if n := len(h.deliveries()); n != before {
			t.Errorf("a disabled endpoint got %d events", n-before)
		}
		if state := i.MustWebhook(t, h).State; state != "disabled" {
			t.Errorf("the disabled endpoint is %q", state)
		}
		i.MustRun(t, "webhook", "enable", h.id, "--merchant", "acme")
		h.MustGetAll(t, events)
		// A server that stood still for a moment may send again what was under way then.
		if n := len(bystander.deliveries()); n > bystander.accepted()+2 {
			t.Errorf("an endpoint that nobody touched got %d requests for %d events", n, bystander.accepted())
		}
	})
}

// An event that is not taken holds back its own customer's and nobody else's, until
// it is given up. Then it is sent only if that is asked for.
func TestHeldBack(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		acme := i.MustMerchant(t, "acme")
		var once sync.Once
		poison := ""
		h := r.MustHook(t, i, acme, "picky", func(_ http.ResponseWriter, _ *http.Request, d delivery) int {
			once.Do(func() { poison = d.Data.Event })
			if d.Data.Event == poison {
				return http.StatusUnprocessableEntity
			}
			return http.StatusOK
		})
		c := newClient(t, acme, server)
		const others, updates = 20, 3
		var ids []string
		for n := range 1 + others {
			ids = append(ids, c.MustCreate(t, n))
			if n == 0 {
				await(t, "the first event is refused", func() bool { return len(h.deliveries()) > 0 })
			}
		}
		for n := range updates {
			for _, id := range ids {
				c.MustUpdate(t, id, fmt.Sprint("Meera ", n))
			}
		}
		await(t, "the other customers' events are taken", func() bool { return h.accepted() == others*(1+updates) })
		for _, d := range h.deliveries() {
			if d.Data.Customer == ids[0] && d.Data.Event != poison {
				t.Errorf("%s at position %d was sent before the event that fails", d.Data.Event, d.Data.Position)
			}
		}

		// Three days later.
		await(t, "the failure is noted", func() bool {
			return slices.Equal(i.query(t, fmt.Sprintf("SELECT count(*) FROM webhook_retries WHERE webhook_id = '%s' AND attempts > 0", h.id)), []string{"1"})
		})
		began := i.query(t, fmt.Sprintf("SELECT min(first_at) FROM webhook_retries WHERE webhook_id = '%s'", h.id))[0]
		await(t, "the customer's other events are taken", func() bool {
			// An attempt that is under way meanwhile does not know, and writes what it knows.
			i.query(t, fmt.Sprintf("UPDATE webhook_retries SET first_at = first_at - 260000000000, next_at = first_at WHERE webhook_id = '%s' AND first_at >= %s", h.id, began))
			return h.accepted() == others*(1+updates)+updates
		})
		var got, want []int64
		for _, d := range h.deliveries() {
			if d.Data.Customer == ids[0] && d.accepted {
				got = append(got, d.Data.Position)
			}
		}
		for _, e := range i.MustEvents(t, "acme") {
			if e.Subject == ids[0] && e.ID != poison {
				want = append(want, e.Position)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the events after the one that was given up are not right (-want +got):\n%s", diff)
		}
		h.become(take)
		i.MustReplay(t, h, 1, "--failed")
		await(t, "the event that was given up is taken", func() bool { return h.accepted() == (1+others)*(1+updates) })
		await(t, "nothing is left to send", func() bool {
			return slices.Equal(i.query(t, "SELECT count(*) FROM webhook_retries"), []string{"0"})
		})
		i.MustReplay(t, h, 0, "--failed")
	})
}

// An endpoint that is down while much happens costs no more than the events that were
// tried, and gets all of it once it is back.
func TestDown(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		events := 1500 * long(10)
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		acme := i.MustMerchant(t, "acme")
		base, open := r.MustBeLate(t)
		h := r.MustHookAt(t, i, acme, base, "down", take)
		l := startLoad(t, seed(t), int64(events), []merchant{acme, acme, acme, acme}, server)
		l.writing.Wait()
		await(t, "the endpoint is failing", func() bool { return i.MustWebhook(t, h).State == "failing" })
		for _, table := range []string{"webhook_retries", "webhook_attempts"} {
			rows, err := strconv.Atoi(i.query(t, "SELECT count(*) FROM "+table)[0])
			if err != nil || rows == 0 || rows > 50 {
				t.Errorf("%s has %d rows (%v) after %d events for an endpoint that is down, want few", table, rows, err, events)
			}
		}
		open()
		// Updates that change nothing are no events.
		if n := len(h.wants(i.MustEvents(t, "acme"))); n < events*9/10 {
			t.Errorf("there are %d events after %d requests", n, events)
		}
		MustGetAll(t, i, []*hook{h})
		await(t, "nothing is left to send", func() bool {
			return slices.Equal(i.query(t, "SELECT count(*) FROM webhook_retries"), []string{"0"})
		})
	})
}
