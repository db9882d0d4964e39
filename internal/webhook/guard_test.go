package webhook_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"grahak"
	"grahak/internal/webhook"
)

// MustResolver returns a resolver that knows these names, each with its addresses,
// and asks nobody else.
func MustResolver(t *testing.T, names map[string][]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n], names); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer returns the reply to a question about one of the names, nil for none.
func answer(question []byte, names map[string][]string) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	addresses, known := names[strings.ToLower(q.Name.String())]
	if !known || len(addresses) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range addresses {
		addr := netip.MustParseAddr(text)
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// No address that lies inside a network is connected to, however it is written and
// whatever name leads to it; one of the public internet is, which a context that has
// no time shows without a packet.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for text, public := range map[string]bool{
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "11.0.0.1": true, "100.63.255.255": true, "100.64.0.1": false, "100.127.255.255": false,
		"100.128.0.1": true, "127.0.0.1": false, "127.9.9.9": false, "169.254.169.254": false, "172.15.255.255": true, "172.16.0.1": false, "172.31.255.255": false,
		"172.32.0.1": true, "192.0.0.8": false, "192.0.2.1": false, "192.168.1.1": false, "192.169.1.1": true, "198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false,
		"203.0.113.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false, "8.8.8.8": true,
		"::": false, "::1": false, "fe80::1": false, "fc00::1": false, "fd12:3456::1": false, "ff02::1": false, "fec0::1": false, "2001:db8::1": false, "3fff::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::808:808": true,
		"64:ff9b:1::808:808": false, "2002:7f00:1::": false, "2002:a00:1::1": false, "2001:0:7f00:1::1": false, "2606:4700::1111": true, "2a00:1450::1": true,
	} {
		if got := webhook.Allows(nil, netip.MustParseAddr(text)); got != public {
			t.Errorf("%s may be sent to: %t, want %t", text, got, public)
		}
	}
	if webhook.Allows(nil, netip.Addr{}) {
		t.Error("no address at all may be sent to")
	}
	allowed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd00::5%eth0": true, "fd00:0:0:1::5": false, "127.0.0.1": false} {
		if got := webhook.Allows(allowed, netip.MustParseAddr(text)); got != want {
			t.Errorf("%s may be sent to beside what is allowed: %t, want %t", text, got, want)
		}
	}
}

// A name is judged by the addresses that are dialled, all of them, unless the name
// itself is allowed.
func TestNames(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(s.Close)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	resolver := MustResolver(t, map[string][]string{
		"inside.example.com.": {"127.0.0.1"},
		"mapped.example.com.": {"::ffff:127.0.0.1"},
		"both.example.com.":   {"10.0.0.1", "127.0.0.1", "::1"},
		"allowed.internal.":   {"127.0.0.1"},
	})
	strict := webhook.New(webhook.Config{Resolver: resolver, Names: []string{"allowed.internal"}})
	for host, want := range map[string]grahak.WebhookOutcome{
		"127.0.0.1":            {Failure: grahak.WebhookForbidden},
		"[::1]":                {Failure: grahak.WebhookForbidden},
		"[::ffff:127.0.0.1]":   {Failure: grahak.WebhookForbidden},
		"localhost":            {Failure: grahak.WebhookForbidden},
		"inside.example.com":   {Failure: grahak.WebhookForbidden},
		"mapped.example.com":   {Failure: grahak.WebhookForbidden},
		"both.example.com":     {Failure: grahak.WebhookForbidden},
		"allowed.internal":     {Status: 200},
		"ALLOWED.internal.":    {Status: 200},
		"not.allowed.internal": {Failure: grahak.WebhookNoName},
	} {
		before := reached.Load()
		got := strict.Deliver(t.Context(), grahak.WebhookMessage{URL: "http://" + host + port + "/", Event: event, At: event.At})
		got.Took = 0
		if got != want {
			t.Errorf("%s: %+v, want %+v", host, got, want)
		}
		if arrived := reached.Load() > before; arrived != want.Delivered() {
			t.Errorf("%s: the receiver was reached: %t", host, arrived)
		}
	}
	// What is allowed by network is so by whatever name.
	open := webhook.New(webhook.Config{Resolver: resolver, Networks: here})
	if got := open.Deliver(t.Context(), grahak.WebhookMessage{URL: "http://inside.example.com" + port, Event: event, At: event.At}); !got.Delivered() {
		t.Errorf("an allowed network: %+v", got)
	}
}

// A proxy of the environment is not asked: it would connect to what we may not.
func TestNoProxy(t *testing.T) {
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	t.Setenv("NO_PROXY", "")
	courier := webhook.New(webhook.Config{Networks: here, Resolver: MustResolver(t, map[string][]string{"nobody.example.com.": nil})})
	got := courier.Deliver(t.Context(), grahak.WebhookMessage{URL: "http://nobody.example.com/", Event: event, At: event.At})
	if got.Failure != grahak.WebhookNoName || asked.Load() > 0 {
		t.Errorf("the outcome is %+v, and the proxy was asked %d times", got, asked.Load())
	}
}
