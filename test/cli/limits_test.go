package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// TestSlowClients checks that clients that do not finish their requests hold up nobody else's writes.
func TestSlowClients(t *testing.T) {
	const (
		slow   = 100
		quick  = 50
		prompt = 10 * time.Second // before the first of the slow clients is cut off
	)
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	posts := make([]*slowPost, slow)
	for i := range posts {
		posts[i] = openPost(t, s.BaseURL, s.Key, fmt.Sprintf("slow-%d", i))
	}
	begin := time.Now()
	for i := range quick {
		caller{base: s.BaseURL, key: s.Key}.create(t, fmt.Sprintf("quick-%d", i))
	}
	if took := time.Since(begin); took > prompt {
		t.Errorf("%d creates took %v beside clients that do not finish", quick, took)
	}
	if a := posts[0].finish(t); a.status != http.StatusOK {
		t.Errorf("a slow client that finishes: %d %s", a.status, a.body)
	}
	for _, p := range posts {
		p.conn.Close()
	}
	s.Stop(t)
}

// rawRequest sends text on a connection of its own and returns the answer.
func rawRequest(t *testing.T, base, text string) answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), answerTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// TestSizes checks that headers and bodies are bounded, on both listeners.
func TestSizes(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	for _, base := range []string{s.BaseURL, s.OpsURL} {
		head := "GET /customers HTTP/1.1\r\nHost: localhost\r\nX-Long: "
		// The server reads 4 KiB more than its bound of 16. Whatever it does not read makes it reset the connection, which may
		// overtake the answer.
		if a := rawRequest(t, base, head+strings.Repeat("x", 20<<10-len(head))); a.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("20 KiB of headers at %s: %d %s, want 431", base, a.status, a.body)
		}
		if a := rawRequest(t, base, head+strings.Repeat("x", 12<<10)+"\r\nConnection: close\r\n\r\n"); a.status == http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("12 KiB of headers at %s: %d %s", base, a.status, a.body)
		}
	}
	demo := caller{base: s.BaseURL, key: s.Key}
	filler := "&filler=" + strings.Repeat("x", 64<<10)
	if a := demo.send(t, http.MethodPost, "/customers", newCustomer("large")+filler); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 64 KiB: %d %s, want 413", a.status, a.body)
	}
	if a := demo.send(t, http.MethodPost, "/customers", newCustomer("small")+filler[:60<<10]); a.status != http.StatusOK {
		t.Errorf("a body of less than 64 KiB: %d %s", a.status, a.body)
	}
	s.Stop(t)
}

// TestMaxConnections checks that a connection beyond the most waits for another to end.
func TestMaxConnections(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"), "--max-connections", "2")
	const request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
	open := func() (net.Conn, *bufio.Reader) {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.BaseURL, "http://"), answerTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		return conn, bufio.NewReader(conn)
	}
	answered := func(conn net.Conn, reader *bufio.Reader, within time.Duration) error {
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		_, err := reader.Peek(1)
		return err
	}
	first, reader := open()
	if err := answered(first, reader, answerTimeout); err != nil {
		t.Fatal(err)
	}
	second, reader := open()
	if err := answered(second, reader, answerTimeout); err != nil {
		t.Fatal(err)
	}
	third, reader := open()
	if err := answered(third, reader, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the third connection was served beside two others (%v)", err)
	}
	first.Close()
	if err := answered(third, reader, answerTimeout); err != nil {
		t.Fatalf("the third connection was not served after the first ended: %v", err)
	}
	s.Stop(t)
}
