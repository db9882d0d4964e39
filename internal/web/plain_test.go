package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is what a handler sees of a request, and what a client gets for it.
type seen struct {
	Requests []string // one line each
	Statuses []int
}

// echo answers what it sees of a request, and notes it.
func echo(note func(string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var b strings.Builder
		fmt.Fprintf(&b, "%s %q host %q %d.%d", r.Method, r.RequestURI, r.Host, r.ProtoMajor, r.ProtoMinor)
		fmt.Fprintf(&b, " path %q raw %q query %q %t", r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery)
		fmt.Fprintf(&b, " length %d coding %q close %t body %q %t", r.ContentLength, r.TransferEncoding, r.Close, body, err != nil)
		names := make([]string, 0, len(r.Header))
		for name := range r.Header {
			// What is of the connection is not the handler's matter.
			if name != "Connection" && name != "Content-Length" && name != "Trailer" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(&b, " %s=%q", name, r.Header[name])
		}
		note(b.String())
		w.Header()["Content-Type"] = []string{"text/plain"}
		w.Header()["Content-Length"] = []string{"2"}
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "ok")
	})
}

// talk sends raw to a new server of the kind, and returns what came of it.
func talk(t *testing.T, kind, raw string) seen {
	t.Helper()
	var got seen
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan string, 100)
	srv := kinds[kind](echo(func(line string) { requests <- line }))
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answers, err := io.ReadAll(conn)
	if err != nil && len(answers) == 0 {
		answers = nil
	}
	for in := bufio.NewReader(bytes.NewReader(answers)); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusContinue {
			got.Statuses = append(got.Statuses, resp.StatusCode)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	close(requests)
	for line := range requests {
		got.Requests = append(got.Requests, line)
	}
	return got
}

// What a client may send, well formed or not, is understood by both kinds of server
// as the same requests, and refused with the same status, so that no proxy before them
// can be made to see other requests than they do. Where they differ the plain server
// refuses, but for the coding "identity" that RFC 9112 no longer has, which it takes for
// none, and for empty lines before a request, which RFC 9112, section 2.2, allows.
func TestSameRequests(t *testing.T) {
	t.Parallel()
	const end = "Host: grahak.example\r\n\r\n"
	for _, c := range []struct {
		name, raw string
		plain     []int // the plain server's statuses, where they are others; then it sees no request that net/http does not
	}{
		{name: "get", raw: "GET /customers/cst_1 HTTP/1.1\r\n" + end},
		{name: "query", raw: "GET /customers?count=1&offset=%32 HTTP/1.1\r\n" + end},
		{name: "empty query", raw: "GET /customers? HTTP/1.1\r\n" + end},
		{name: "escapes", raw: "GET /customers/a%2Fb%20c?x=%20 HTTP/1.1\r\n" + end},
		{name: "characters that ought to be escaped", raw: "GET /customers/a|b\"c HTTP/1.1\r\n" + end},
		{name: "bytes that are not ASCII", raw: "GET /customers/\xe0\xa4\xa8 HTTP/1.1\r\n" + end},
		{name: "usual escapes", raw: "GET /customers/a%20b%3F HTTP/1.1\r\n" + end},
		{name: "needless escapes", raw: "GET /customers/%61%2e%2f%40? HTTP/1.1\r\n" + end},
		{name: "cut escape", raw: "GET /customers/a%4 HTTP/1.1\r\n" + end},
		{name: "broken escape", raw: "GET /customers/%zz HTTP/1.1\r\n" + end},
		{name: "dots", raw: "GET /a/../customers/./x HTTP/1.1\r\n" + end},
		{name: "two slashes", raw: "GET //customers//x HTTP/1.1\r\n" + end},
		{name: "a fragment", raw: "GET /customers#x HTTP/1.1\r\n" + end},
		{name: "a semicolon", raw: "GET /customers;x=1?a;b HTTP/1.1\r\n" + end},
		{name: "a backslash", raw: "GET /customers\\x HTTP/1.1\r\n" + end},
		{name: "absolute", raw: "GET http://other.example/customers?x HTTP/1.1\r\n" + end},
		{name: "asterisk", raw: "OPTIONS * HTTP/1.1\r\n" + end},
		{name: "asterisk of another method", raw: "GET * HTTP/1.1\r\n" + end, plain: []int{400}},
		{name: "a target without a slash", raw: "GET customers HTTP/1.1\r\n" + end},
		{name: "no target", raw: "GET  HTTP/1.1\r\n" + end},
		{name: "a space in the target", raw: "GET /a b HTTP/1.1\r\n" + end},
		{name: "a tab in the target", raw: "GET /a\tb HTTP/1.1\r\n" + end},
		{name: "NUL in the target", raw: "GET /a\x00b HTTP/1.1\r\n" + end},
		{name: "another method", raw: "BREW /pot HTTP/1.1\r\n" + end},
		{name: "a method of other characters", raw: "G(T / HTTP/1.1\r\n" + end},
		{name: "a method in small letters", raw: "get / HTTP/1.1\r\n" + end},
		{name: "HTTP/1.0", raw: "GET / HTTP/1.0\r\nA: b\r\n\r\nGET / HTTP/1.0\r\n\r\n"},
		{name: "HTTP/1.0 kept alive", raw: "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n"},
		{name: "HTTP/1.2", raw: "GET / HTTP/1.2\r\n" + end, plain: []int{200}},
		{name: "HTTP/2.0", raw: "GET / HTTP/2.0\r\n" + end},
		{name: "HTTP/0.9", raw: "GET / HTTP/0.9\r\n" + end},
		{name: "no version", raw: "GET /\r\n\r\n"},
		{name: "a wrong version", raw: "GET / HTTX/1.1\r\n" + end},
		{name: "a preface of HTTP/2", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", plain: []int{400}},
		{name: "a TLS handshake", raw: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\n\n", plain: []int{400}},
		{name: "no host", raw: "GET / HTTP/1.1\r\nA: b\r\n\r\n"},
		{name: "an empty host", raw: "GET / HTTP/1.1\r\nHost:\r\n\r\n", plain: []int{400}},
		{name: "two hosts", raw: "GET / HTTP/1.1\r\nHost: a.example\r\n" + end},
		{name: "a host with a slash", raw: "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
		{name: "a host with a space", raw: "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
		{name: "lines that end in LF", raw: "GET / HTTP/1.1\nHost: grahak.example\n\n", plain: []int{400}},
		{name: "one line that ends in LF", raw: "GET / HTTP/1.1\r\nA: b\nHost: grahak.example\r\n\r\n"},
		{name: "empty lines before", raw: "\r\n\r\nGET / HTTP/1.1\r\n" + end, plain: []int{200}},
		{name: "CR within a line", raw: "GET / HTTP/1.1\r\nA: b\rc\r\n" + end},
		{name: "a folded line", raw: "GET / HTTP/1.1\r\nA: b\r\n c\r\n" + end},
		{name: "a folded first line", raw: "GET / HTTP/1.1\r\n A: b\r\n" + end},
		{name: "a space before the colon", raw: "GET / HTTP/1.1\r\nA : b\r\n" + end},
		{name: "a space within a name", raw: "GET / HTTP/1.1\r\nA b: c\r\n" + end},
		{name: "no colon", raw: "GET / HTTP/1.1\r\nnothing\r\n" + end},
		{name: "no name", raw: "GET / HTTP/1.1\r\n: b\r\n" + end},
		{name: "a name of other characters", raw: "GET / HTTP/1.1\r\nA(b): c\r\n" + end},
		{name: "NUL in a value", raw: "GET / HTTP/1.1\r\nA: b\x00c\r\n" + end},
		{name: "DEL in a value", raw: "GET / HTTP/1.1\r\nA: b\x7fc\r\n" + end},
		{name: "a value that is not ASCII", raw: "GET / HTTP/1.1\r\nA: \xe0\xa4\xa8\r\n" + end},
		{name: "an empty value", raw: "GET / HTTP/1.1\r\nA:\r\n" + end},
		{name: "spaces around a value", raw: "GET / HTTP/1.1\r\nA: \t b \t\r\n" + end},
		{name: "names in all cases", raw: "GET / HTTP/1.1\r\nx-routing-id: a\r\nX-MERCHANTID: b\r\nx-Other-tHing: c\r\n" + end},
		{name: "names that are repeated", raw: "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\nX-MerchantId: 4\r\nx-merchantid: 5\r\n" + end},
		{name: "two types", raw: "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-type: text/plain\r\nContent-Length: 2\r\n" + end + "{}", plain: []int{400}},
		{name: "cookies", raw: "GET / HTTP/1.1\r\nCookie: a=b; c=d\r\n" + end},
		{name: "a trailer that is announced", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" + end + "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{name: "close", raw: "GET / HTTP/1.1\r\nConnection: close\r\n" + end + "GET /2 HTTP/1.1\r\n" + end},
		{name: "pipelined", raw: "GET /1 HTTP/1.1\r\n" + end + "POST /2 HTTP/1.1\r\nContent-Length: 3\r\n" + end + "abcGET /3 HTTP/1.1\r\n" + end},
		{name: "a body", raw: "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n" + end + "a=b"},
		{name: "an empty body", raw: "POST / HTTP/1.1\r\nContent-Length: 0\r\n" + end + "GET /2 HTTP/1.1\r\n" + end},
		{name: "a body of a get", raw: "GET / HTTP/1.1\r\nContent-Length: 3\r\n" + end + "abcGET /2 HTTP/1.1\r\n" + end},
		{name: "no length", raw: "POST / HTTP/1.1\r\n" + end + "GET /2 HTTP/1.1\r\n" + end},
		{name: "a long body", raw: "POST / HTTP/1.1\r\nContent-Length: 20000\r\n" + end + strings.Repeat("a", 20000) + "GET /2 HTTP/1.1\r\n" + end},
		{name: "a body cut short", raw: "POST / HTTP/1.1\r\nContent-Length: 10\r\n" + end + "abc"},
		{name: "chunks", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n" + end},
		{name: "chunks cut short", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "3\r\nab"},
		{name: "a chunk of a wrong size", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "2\r\nabc\r\n0\r\n\r\n"},
		{name: "a chunk of no size", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + end + "x\r\nabc\r\n0\r\n\r\n"},
		{name: "length and chunks", raw: "POST / HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n" + end + "0\r\n\r\nGET /2 HTTP/1.1\r\n" + end, plain: []int{200}},
		{name: "two lengths", raw: "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n" + end + "abcd"},
		{name: "the same length twice", raw: "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n" + end + "abc", plain: []int{400}},
		{name: "a length of two values", raw: "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n" + end + "abc"},
		{name: "a length with a sign", raw: "POST / HTTP/1.1\r\nContent-Length: +3\r\n" + end + "abc"},
		{name: "a length below 0", raw: "POST / HTTP/1.1\r\nContent-Length: -3\r\n" + end + "abc"},
		{name: "an empty length", raw: "POST / HTTP/1.1\r\nContent-Length:\r\n" + end},
		{name: "a huge length", raw: "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" + end},
		{name: "an unknown coding", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + end},
		{name: "two codings", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + end + "0\r\n\r\n"},
		{name: "the coding twice", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + end + "0\r\n\r\n"},
		{name: "identity", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n" + end + "abc", plain: []int{200}},
		{name: "a coding with a vertical tab", raw: "POST / HTTP/1.1\r\nTransfer-Encoding: \vchunked\r\n" + end + "0\r\n\r\n"},
		{name: "chunks of HTTP/1.0", raw: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + end + "0\r\n\r\n", plain: []int{501}},
		{name: "expect", raw: "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" + end + "abc"},
		{name: "expect something else", raw: "POST / HTTP/1.1\r\nExpect: wonders\r\nContent-Length: 3\r\n" + end + "abc"},
		{name: "upgrade", raw: "GET / HTTP/1.1\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n" + end},
		{name: "head", raw: "HEAD / HTTP/1.1\r\nConnection: close\r\n" + end},
		{name: "connect", raw: "CONNECT grahak.example:443 HTTP/1.1\r\n" + end},
		{name: "nothing", raw: ""},
		{name: "half a header", raw: "GET / HTTP/1.1\r\nHost: grah"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want, got := talk(t, "net", c.raw), talk(t, "plain", c.raw)
			if c.plain != nil {
				if d := cmp.Diff(c.plain, append([]int{}, got.Statuses...)); d != "" {
					t.Errorf("statuses (-want +got):\n%s", d)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("net/http and the plain server (-net +plain):\n%s", d)
			}
		})
	}
}

// fullTable is a listener that at first has no more files for connections.
type fullTable struct {
	net.Listener
	left int
}

func (l *fullTable) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A server that cannot accept a connection now goes on when it can.
func TestAcceptsAgain(t *testing.T) {
	t.Parallel()
	for kind, of := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := of(echo(func(string) {}))
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(&fullTable{l, 3}) }()
			if resp, body := MustDo(t, "GET", "http://"+l.Addr().String(), nil, http.Header{"Connection": {"close"}}); resp.StatusCode != http.StatusOK {
				t.Errorf("got %d with %q", resp.StatusCode, body)
			}
			if err := srv.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}

// A stop answers what is under way, and accepts nothing more.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for kind, of := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			entered, answer := make(chan struct{}), make(chan struct{})
			srv := of(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-answer
				_, _ = io.WriteString(w, "done")
			}))
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(l) }()
			got := make(chan string, 1)
			go func() {
				resp, err := http.Get("http://" + l.Addr().String())
				if err != nil {
					got <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				got <- string(body)
			}()
			next(t, "request", entered)
			stopped := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
				defer cancel()
				stopped <- srv.Shutdown(ctx)
			}()
			if err := next(t, "end of Serve", ended); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				_ = c.Close()
				t.Error("a connection was accepted after the stop was asked for")
			}
			close(answer)
			if body := next(t, "answer", got); body != "done" {
				t.Errorf("got %q", body)
			}
			if err := next(t, "end of Shutdown", stopped); err != nil {
				t.Error(err)
			}
		})
	}
}

// A context of a request is over when the server is closed, and not before.
func TestPlainContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	contexts := make(chan context.Context, 1)
	srv := kinds["plain"](http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { contexts <- r.Context() }))
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	MustDo(t, "GET", "http://"+l.Addr().String(), nil, nil)
	ctx := next(t, "context", contexts)
	if err := ctx.Err(); err != nil {
		t.Errorf("the context is over with the request: %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the context outlives the server: %v", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
