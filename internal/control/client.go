package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"grahak"
)

// ErrGone is in the chain of an error after which it is not known whether the
// server has done what it was asked for, because it ended or cannot be reached.
var ErrGone = errors.New("the server has stopped, or does not answer")

// Client asks the server behind a socket. It is safe for concurrent use, and does
// nothing before it is asked to.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the server whose socket is at path.
func NewClient(path string) *Client { return newClient(path, 0) }

// newClient returns a client with at most so many connections, 0 for any number.
func newClient(path string, connections int) *Client {
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
		DisableCompression: true,
		MaxConnsPerHost:    connections,
	}}}
}

// Close drops the connections that are not in use.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Ping returns nil if there is a server that takes connections.
func (c *Client) Ping(ctx context.Context) error {
	conn, err := dial(ctx, c.path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// ask sends a request and returns what was answered.
func (c *Client) ask(ctx context.Context, path string, request any) (answer, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://grahak"+version+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	// Only what may be done twice may be sent twice.
	req.GetBody = nil
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		return answer{}, fmt.Errorf("%w (%w)", ErrGone, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		return answer{}, fmt.Errorf("%w (%w)", ErrGone, err)
	}
	var a answer
	switch err := json.Unmarshal(text, &a); {
	case res.StatusCode == http.StatusOK && err == nil:
		return a, nil
	case res.StatusCode == http.StatusUnprocessableEntity && err == nil && a.Error != nil:
		return answer{State: a.State}, a.Error.unpack()
	}
	return answer{}, fmt.Errorf("the server does not understand this command (status %d), so it is of another version: use one version for both", res.StatusCode)
}

// ImportState is [grahak.Service.ImportState].
func (c *Client) ImportState(ctx context.Context, by grahak.Caller, id string) (grahak.ImportState, error) {
	a, err := c.ask(ctx, "/import/state", stateRequest{who{by.Merchant, by.Actor}, id})
	return a.State.unpack(), err
}

// ImportCustomers is [grahak.Service.ImportCustomers].
func (c *Client) ImportCustomers(ctx context.Context, by grahak.Caller, chunk grahak.ImportChunk) (grahak.ImportState, []grahak.ImportFault, error) {
	a, err := c.ask(ctx, "/import/chunk", chunkRequest{
		who: who{by.Merchant, by.Actor}, Import: chunk.Import, After: chunk.After, Rows: packRows(chunk.Rows),
		OnDuplicate: chunk.OnDuplicate, Last: chunk.Last, Restart: chunk.Restart, Unnoted: chunk.Unnoted,
	})
	return a.State.unpack(), unpackFaults(a.Faults), err
}

// Check is a dry run, as [grahak.ImportCheck] is one.
type Check struct {
	client *Client
	by     grahak.Caller
	rule   grahak.OnDuplicate
	state  grahak.ImportState
}

// NewImportCheck begins a dry run. It lives as long as its connection.
func (c *Client) NewImportCheck(by grahak.Caller, rule grahak.OnDuplicate) *Check {
	return &Check{client: newClient(c.path, 1), by: by, rule: rule}
}

// Rows is [grahak.ImportCheck.Rows].
func (k *Check) Rows(ctx context.Context, rows []grahak.ImportRow) ([]grahak.ImportFault, error) {
	a, err := k.client.ask(ctx, "/import/check", checkRequest{who: who{k.by.Merchant, k.by.Actor}, After: k.state.Rows, Rows: packRows(rows), OnDuplicate: k.rule})
	if err != nil {
		return nil, err
	}
	k.state = a.State.unpack()
	return unpackFaults(a.Faults), nil
}

// State is [grahak.ImportCheck.State].
func (k *Check) State() grahak.ImportState { return k.state }
