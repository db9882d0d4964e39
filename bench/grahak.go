package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// grahak is a running `grahak serve` with its defaults but for the ports and
// flags.
type grahak struct {
	*server
	program, dir string
	flags        []string
	ops          string
}

// buildGrahak builds the program as it is released.
func buildGrahak(ctx context.Context, root, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/grahak")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/grahak: %w\n%s", err, out)
	}
	return nil
}

// startGrahak starts program with its data folder under dir. Requests are sent
// with the demo merchant's key; it is printed where there is no data yet, and is
// to be given otherwise.
func startGrahak(ctx context.Context, name, program, dir, key string, flags ...string) (*grahak, error) {
	g := &grahak{program: program, dir: dir, flags: flags}
	var base string
	words := map[string]*string{"Base URL": &base, "Operations": &g.ops}
	if key == "" {
		words["API key"] = &key
	}
	var err error
	g.server, err = startServer(ctx, name, g.log(), func(line string) bool {
		for label, value := range words {
			if rest, ok := strings.CutPrefix(line, label); ok {
				*value, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
			}
		}
		return key != "" && g.ops != ""
	}, program, g.args("127.0.0.1:0")...)
	if err != nil {
		return nil, err
	}
	g.url, g.key = base, key
	return g, nil
}

func (g *grahak) log() string { return filepath.Join(g.dir, "grahak.log") }

func (g *grahak) data() string { return filepath.Join(g.dir, "data") }

func (g *grahak) args(listen string) []string {
	return append([]string{"serve", "--data", g.data(), "--listen", listen, "--ops-listen", "127.0.0.1:0"}, g.flags...)
}

// metrics is what Grahak counts of itself.
type metrics map[string]float64

// metrics reads the figures, by name and labels.
func (g *grahak) metrics(ctx context.Context) (metrics, error) {
	answer, err := send(ctx, http.MethodGet, g.ops+"/metrics", g.key, "")
	if err != nil {
		return nil, err
	}
	m := metrics{}
	lines := bufio.NewScanner(strings.NewReader(string(answer.Body)))
	for lines.Scan() {
		name, text, ok := cutLast(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil {
			m[name] = value
		}
	}
	return m, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// since returns how much each figure has grown.
func (m metrics) since(before metrics) metrics {
	grown := metrics{}
	for name, value := range m {
		grown[name] = value - before[name]
	}
	return grown
}

// failures returns how many requests were answered with something else than
// 200. The log's 499 are not counted: wrk hangs up on the last request of each
// of its connections.
func (m metrics) failures() float64 {
	var n float64
	for name, value := range m {
		if strings.HasPrefix(name, "grahak_http_requests_total{") &&
			!strings.Contains(name, `status="200"`) && !strings.Contains(name, `status="499"`) {
			n += value
		}
	}
	return n
}

// firstAnswers starts the program on g's data folder, which must be stopped,
// that many times, and returns how long each took from exec to the first 200
// of a read with the key, in milliseconds.
func (g *grahak) firstAnswers(ctx context.Context, id string, times int) ([]float64, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	took := make([]float64, 0, times)
	for range times {
		ms, err := g.firstAnswer(ctx, addr, id)
		if err != nil {
			return nil, err
		}
		took = append(took, ms)
	}
	return took, nil
}

func (g *grahak) firstAnswer(ctx context.Context, addr, id string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	log, err := os.OpenFile(g.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	s := &server{name: "grahak", cmd: exec.CommandContext(ctx, g.program, g.args(addr)...)}
	s.cmd.Stderr = log
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return 0, err
	}
	for {
		_, err := send(ctx, http.MethodGet, "http://"+addr+"/customers/"+id, g.key, "")
		took := time.Since(start)
		if err == nil {
			return float64(took.Microseconds()) / 1e3, s.stop()
		}
		// Until it listens the connection is refused; any answer but 200 is a
		// failure of the server.
		if errors.Is(err, errStatus) || ctx.Err() != nil {
			return 0, errors.Join(err, s.stop())
		}
		time.Sleep(time.Millisecond)
	}
}

// freeAddr returns a local address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// profile takes a CPU profile of g for that long, and leaves it in the file.
func (g *grahak) profile(ctx context.Context, file string, d time.Duration) (*profile.Profile, error) {
	answer, err := send(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", g.ops, int(d.Seconds())), g.key, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, answer.Body, 0o600); err != nil {
		return nil, err
	}
	return profile.ParseData(answer.Body)
}
