package postgres

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
)

// link is one client's connection through a proxy.
type link struct {
	proxy  *Proxy
	client net.Conn
	gone   context.Context // done when the link is cut
	cut    context.CancelFunc

	mu          sync.Mutex
	server      net.Conn // nil until it is there
	outstanding int      // the answers that the server owes, each of which ends with ReadyForQuery
	loss        *loss    // what becomes of one of them, if it is not to arrive

	// What only the goroutine of the requests knows: the text of prepared
	// statements and of bound portals, and what is run by the batch so far.
	statements, portals map[string]string
	batch               []string
}

// loss is an answer that does not reach the client.
type loss struct {
	cut    *cut
	sql    []string
	ahead  int // the answers before it, which do
	answer []string
}

func newLink(p *Proxy, client net.Conn) *link {
	gone, cut := context.WithCancel(context.Background())
	return &link{
		proxy: p, client: client, gone: gone, cut: cut,
		statements: make(map[string]string), portals: make(map[string]string),
	}
}

// close cuts the link.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut()
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

// run carries messages both ways until one side or the test ends that.
func (l *link) run() {
	defer func() {
		l.close()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	client := bufio.NewReader(l.client)
	first, err := l.greet(client)
	if err != nil {
		return
	}
	var dialer net.Dialer
	server, err := dialer.DialContext(l.gone, "tcp", l.proxy.server)
	if err != nil {
		return
	}
	l.mu.Lock()
	l.server = server
	l.outstanding = 1 // A connection's start ends with ReadyForQuery, too.
	l.mu.Unlock()
	if l.gone.Err() != nil { // It may have been cut before it had a server.
		_ = server.Close()
		return
	}
	if _, err := server.Write(first); err != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_ = l.answers(bufio.NewReader(server))
		l.close()
	})
	if binary.BigEndian.Uint32(first[4:]) != cancelRequest {
		_ = l.requests(client, server)
		l.close()
	}
	answers.Wait()
}

// The codes that a connection's first message may have instead of a version.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

// greet reads what a client begins with: a message that starts a connection, or
// one that cancels a statement of another. Encryption is refused before that.
func (l *link) greet(client io.Reader) ([]byte, error) {
	for {
		message := make([]byte, 8)
		if _, err := io.ReadFull(client, message); err != nil {
			return nil, err
		}
		length, code := binary.BigEndian.Uint32(message), binary.BigEndian.Uint32(message[4:])
		if length < 8 || length > 1<<20 {
			return nil, errMalformed
		}
		message = append(message, make([]byte, length-8)...)
		if _, err := io.ReadFull(client, message[8:]); err != nil {
			return nil, err
		}
		if code != sslRequest && code != gssRequest {
			return message, nil
		}
		if _, err := l.client.Write([]byte("N")); err != nil {
			return nil, err
		}
	}
}

var errMalformed = errors.New("a message that is not PostgreSQL's")

// read returns a message's type, and all of it: type, length and body.
func read(from *bufio.Reader) (kind byte, message []byte, err error) {
	message = make([]byte, 5)
	if _, err := io.ReadFull(from, message); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(message[1:])
	if length < 4 || length > 1<<30 {
		return 0, nil, errMalformed
	}
	message = append(message, make([]byte, length-4)...)
	_, err = io.ReadFull(from, message[5:])
	return message[0], message, err
}

// requests carries what the client says to the server, a batch at a time, until
// the link is cut.
func (l *link) requests(client *bufio.Reader, server io.Writer) error {
	var waiting []byte // what of the batch was not sent yet
	for {
		kind, message, err := read(client)
		if err != nil {
			return err
		}
		waiting = append(waiting, message...)
		l.note(kind, message[5:])
		switch kind {
		case 'P', 'B', 'D', 'E', 'C': // Parse, Bind, Describe, Execute, Close: more of the batch follows.
			continue
		case 'S', 'Q', 'F', 'H': // Sync, Query, FunctionCall, Flush: the client wants an answer.
			l.proxy.roundTrips.Add(1)
			ended := kind != 'H'
			c := l.proxy.takeCut(l.batch, ended)
			if c != nil && !c.after {
				l.close()
				c.done <- Cut{SQL: l.batch}
				return nil
			}
			if ended {
				l.expect(c)
				l.batch = nil
			}
		}
		if _, err := server.Write(waiting); err != nil {
			return err
		}
		waiting = waiting[:0]
	}
}

// note remembers what a client's message says of the statements that the server
// is to run.
func (l *link) note(kind byte, body []byte) {
	word := func() string {
		text, rest, _ := bytes.Cut(body, []byte{0})
		body = rest
		return string(text)
	}
	switch kind {
	case 'P': // Parse: the statement's name, its text.
		name := word()
		l.statements[name] = word()
	case 'B': // Bind: the portal's name, the statement's.
		portal := word()
		l.portals[portal] = l.statements[word()]
	case 'E': // Execute: the portal's name.
		l.batch = append(l.batch, l.portals[word()])
	case 'Q': // Query: its text.
		l.batch = append(l.batch, word())
	}
}

// expect notes that the server will owe one more answer, which c is for unless
// that is nil.
func (l *link) expect(c *cut) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil {
		l.loss = &loss{cut: c, sql: l.batch, ahead: l.outstanding}
	}
	l.outstanding++
}

// answers carries what the server says to the client, until the link is cut.
func (l *link) answers(server *bufio.Reader) error {
	client := bufio.NewWriter(l.client)
	for {
		kind, message, err := read(server)
		if err != nil {
			l.lose()
			return err
		}
		lost, ended := l.answered(kind, message[5:])
		if !lost {
			l.proxy.pass(l.gone.Done())
			if _, err := client.Write(message); err != nil {
				return err
			}
		}
		if lost || server.Buffered() == 0 {
			if err := client.Flush(); err != nil {
				return err
			}
		}
		if lost && ended {
			l.lose()
			return nil
		}
	}
}

// lose cuts the link and tells of the answer that does not arrive, if there is
// one.
func (l *link) lose() {
	l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loss != nil {
		l.loss.cut.done <- Cut{SQL: l.loss.sql, Answer: l.loss.answer}
		l.loss = nil
	}
}

// answered notes a message of the server, and reports whether it is part of an
// answer that does not reach the client, and whether an answer ends with it.
func (l *link) answered(kind byte, body []byte) (lost, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended = kind == 'Z' // ReadyForQuery
	if ended {
		l.outstanding--
	}
	if l.loss == nil {
		return false, ended
	}
	if l.loss.ahead > 0 {
		if ended {
			l.loss.ahead--
		}
		return false, ended
	}
	switch kind {
	case 'C': // CommandComplete: its tag.
		l.loss.answer = append(l.loss.answer, string(bytes.TrimRight(body, "\x00")))
	case 'E': // ErrorResponse: fields, each a type and a text.
		for field := range strings.SplitSeq(string(body), "\x00") {
			if code, ok := strings.CutPrefix(field, "C"); ok {
				l.loss.answer = append(l.loss.answer, "ERROR "+code)
			}
		}
	}
	return true, ended
}
