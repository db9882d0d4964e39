package cli_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"grahak/internal/testkit"
)

// slowPost is a request to create a customer whose body comes when the test says so.
type slowPost struct {
	conn   net.Conn
	reader *bufio.Reader
	rest   string // the part of the body that is still to come
}

// openPost sends the head of a request and half its body, and returns when the server has begun to read the body.
func openPost(t *testing.T, base, key, reference string) *slowPost {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), answerTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	body := newCustomer(reference)
	p := &slowPost{conn: conn, reader: bufio.NewReader(conn), rest: body[len(body)/2:]}
	p.write(t, "POST /customers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n"+
		fmt.Sprintf("Authorization: Basic %s\r\nContent-Length: %d\r\n\r\n", base64.StdEncoding.EncodeToString([]byte(key+":")), len(body)))
	// The server asks for the body when the handler reads it.
	line, err := p.reader.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q (%v), want the server to go on reading", line, err)
	}
	if _, err := p.reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.write(t, body[:len(body)/2])
	return p
}

func (p *slowPost) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		t.Fatal(err)
	}
}

// finish sends the rest of the body and returns the answer.
func (p *slowPost) finish(t *testing.T) answer {
	t.Helper()
	p.write(t, p.rest)
	res, err := http.ReadResponse(p.reader, nil)
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

// refusesConnections reports whether nobody listens at base any more.
func refusesConnections(base string) func() bool {
	return func() bool {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), answerTimeout)
		if err != nil {
			return true
		}
		conn.Close()
		return false
	}
}

// TestGracefulStop checks that a server that is told to stop accepts nothing more, finishes what is in flight, and exits
// with 0.
func TestGracefulStop(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
			demo := caller{base: s.BaseURL, key: s.Key}
			demo.create(t, "before") // leaves an open connection that does nothing
			post := openPost(t, s.BaseURL, s.Key, "in-flight")
			s.Signal(t, sig)
			eventually(t, answerTimeout, "new connections are refused", refusesConnections(s.BaseURL))
			select {
			case <-s.Exited():
				t.Fatal("the server ended with a request in flight")
			default:
			}
			if a := post.finish(t); a.status != http.StatusOK {
				t.Errorf("the request in flight: %d %s", a.status, a.body)
			}
			s.WaitExit(t)

			s = testkit.Start(t, s.Data)
			demo.base = s.BaseURL
			if a := demo.send(t, http.MethodGet, "/customers/in-flight", ""); a.status != http.StatusOK {
				t.Errorf("what was answered while stopping is not there: %d %s", a.status, a.body)
			}
			s.Stop(t)
		})
	}
}

// TestStopIsBounded checks that a client that never finishes its request cannot keep a server from stopping.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	openPost(t, s.BaseURL, s.Key, "never")
	s.Stop(t)
	if !strings.Contains(s.Log(t), "requests were still in flight") {
		t.Error("the log does not tell that a request was cut off")
	}
}

// TestSecondSignal checks that an operator who does not want to wait need not.
func TestSecondSignal(t *testing.T) {
	p := start(t, nil, serve(filepath.Join(t.TempDir(), "data"))...)
	banner := p.banner(t)
	openPost(t, field(t, banner, "Base URL"), field(t, banner, "API key"), "never")
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, answerTimeout, "new connections are refused", refusesConnections(field(t, banner, "Base URL")))
	p.stop(t, os.Interrupt)
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("the program ended with %v, want it ended by the second signal", p.cmd.ProcessState)
	}
}
