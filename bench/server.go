package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// server is a process that answers HTTP.
type server struct {
	name string
	url  string
	key  string // that requests are sent with
	// authorization is the header that requests are sent with in place of key's; empty
	// for none.
	authorization string

	banner string // what it printed before it answered
	cmd    *exec.Cmd

	stopped bool
}

// startTimeout and stopTimeout bound how long a server may take.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
)

// startServer runs program and reads its standard output up to the line that
// ready accepts. Its standard error goes to the file log.
func startServer(ctx context.Context, name, log string, ready func(line string) bool, program string, args ...string) (*server, error) {
	stderr, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }()
	s := &server{name: name, cmd: exec.CommandContext(ctx, program, args...)}
	s.cmd.Stderr = stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	slow := time.AfterFunc(startTimeout, func() { _ = s.cmd.Process.Kill() })
	defer slow.Stop()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		s.banner += lines.Text() + "\n"
		if ready(lines.Text()) {
			// The pipe stays open, because a server may say more.
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return s, nil
		}
	}
	_ = s.cmd.Process.Kill()
	return nil, fmt.Errorf("%s did not start (%w); see %s\n%s", name, s.cmd.Wait(), log, s.banner)
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server as an operator does, unless that was done before.
func (s *server) stop() error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	slow := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	defer slow.Stop()
	err := s.cmd.Wait()
	if state, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && state.Signal() == syscall.SIGTERM {
		return nil
	}
	return err
}

func basicAuth(key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"))
}

// client is for the requests that are not measured.
var client = &http.Client{
	Timeout:   2 * time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// reply is one whole answer.
type reply struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
	// size is the answer's length on the wire.
	size int
}

// errStatus is returned for an answer that is not 200.
var errStatus = errors.New("the answer is not 200")

// send sends one request with the key, as a form if there is one.
func send(ctx context.Context, method, url, key, form string) (*reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", basicAuth(key))
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	// Otherwise Go's client asks for compression, which wrk does not.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	head, err := httputil.DumpResponse(resp, false)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s %s: %s: %s", errStatus, method, url, resp.Status, body)
	}
	return &reply{Header: resp.Header, Body: body, size: len(head) + len(body)}, nil
}
