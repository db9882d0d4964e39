package web_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"grahak/internal/web"
)

// TestMain has fasthttp start the clock of its Date headers, which goes on for ever,
// outside of the bubbles of the tests.
func TestMain(m *testing.M) {
	_ = new(fasthttp.ResponseHeader).Header()
	os.Exit(m.Run())
}

// pipes is a listener of connections in memory, on which time is that of a
// bubble of synctest.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial returns the client's end of a new connection, once it is accepted.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.accept <- server
	return client
}

// kinds are the servers, each with all limits.
var kinds = map[string]func(http.Handler) web.Server{
	"plain": func(h http.Handler) web.Server { return web.NewPlainServer(h, slog.New(slog.DiscardHandler)) },
	"net":   func(h http.Handler) web.Server { return web.NewServer(h, nil, slog.New(slog.DiscardHandler)) },
}

// MustServePipes serves h with a server of the given kind. It is called inside a
// bubble.
func MustServePipes(t *testing.T, kind string, h http.Handler) *pipes {
	t.Helper()
	l := newPipes()
	server := kinds[kind](h)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		// net/http gives a connection that it ends half a second more, and fasthttp
		// looks every ten seconds whether its workers are to end.
		time.Sleep(11 * time.Second)
	})
	return l
}

// cutOff reads from c until the server closes it, and returns how long that
// took and what came.
func cutOff(t *testing.T, c net.Conn) (time.Duration, string) {
	t.Helper()
	start := time.Now()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	return time.Since(start), string(got)
}

// A client that is slow at any stage is cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	read := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	for _, c := range []struct {
		name  string
		sends string
		limit time.Duration // at the latest
	}{
		{"says nothing", "", 5 * time.Second},
		{"stops in the first line", "GET / HT", 5 * time.Second},
		{"stops in the header", "GET / HTTP/1.1\r\nHost: x\r\nA: b", 5 * time.Second},
		{"stops in the body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 15 * time.Second},
		{"stops in a chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", 15 * time.Second},
		{"says nothing more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2 * time.Minute},
	} {
		for kind := range kinds {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					conn := MustServePipes(t, kind, read).dial()
					go func() { _, _ = io.WriteString(conn, c.sends) }()
					// The second is for the same half.
					if took, _ := cutOff(t, conn); took > c.limit+time.Second {
						t.Errorf("cut off after %v, want at most %v", took, c.limit)
					}
				})
			})
		}
	}
}

// A client that does not take its answer does not hold it for ever.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := MustServePipes(t, kind, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write(make([]byte, size))
				}))
				conn := l.dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(31 * time.Second)
				if _, got := cutOff(t, conn); len(got) >= size {
					t.Error("an answer of a megabyte was held for a client that did not read it")
				}
			})
		})
	}
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := MustServePipes(t, kind, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
				for size, want := range map[int]int{8 << 10: http.StatusNoContent, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
					conn := l.dial()
					go func() {
						_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("a", size)+"\r\n\r\n")
					}()
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					conn.Close()
					if resp.StatusCode != want {
						t.Errorf("a header of %d bytes: got %d, want %d", size, resp.StatusCode, want)
					}
				}
			})
		})
	}
}

// Further connections wait until one of those that are open closes.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := newPipes()
		l := web.Limit(inner, 2)
		accepted := make(chan net.Conn, 10)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		for range 3 {
			go inner.dial()
		}
		synctest.Wait()
		if n := len(accepted); n != 2 {
			t.Errorf("%d connections were accepted, want 2", n)
		}
		first := <-accepted
		_ = first.Close()
		synctest.Wait()
		if n := len(accepted); n != 2 {
			t.Errorf("after one was closed there are %d more, want 2", n)
		}
		_ = l.Close()
		_ = inner.Close()
	})
}
