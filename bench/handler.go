package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// handlerCommand is the first argument that makes this program the handler
// that Grahak is compared with.
const handlerCommand = "handler"

// serveHandler answers every request with the reply in a file, after parsing
// the form, and does nothing else. It prints its URL and runs until it is
// killed.
func serveHandler(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var answer reply
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "http://%s\n", l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		header := w.Header()
		for name, values := range answer.Header {
			header[name] = values
		}
		_, _ = w.Write(answer.Body)
	}))
}

// startHandler runs this program again as the handler that answers with the
// headers and the body of answer. Requests to it are sent with the key.
func startHandler(ctx context.Context, dir, key string, answer *reply) (*server, error) {
	same := *answer
	same.Header = answer.Header.Clone()
	// net/http writes the date itself.
	same.Header.Del("Date")
	raw, err := json.Marshal(same)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "answer.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var url string
	s, err := startServer(ctx, "empty handler", filepath.Join(dir, "handler.log"), func(line string) bool {
		url = strings.TrimSpace(line)
		return true
	}, program, handlerCommand, file)
	if err != nil {
		return nil, err
	}
	s.url, s.key = url, key
	return s, nil
}
