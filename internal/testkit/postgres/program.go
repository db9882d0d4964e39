package postgres

import "path/filepath"

// What follows is for a program that is no test, as the benchmark: nothing ends by
// itself, and errors are returned.

// New makes a cluster as [Start] does. The caller ends it with [Cluster.Close].
func New(opts Options) (*Cluster, error) { return create(opts) }

// Close ends the server at once and removes the cluster's folder.
func (c *Cluster) Close() error { return c.remove() }

// Data returns the folder that the server keeps its data in.
func (c *Cluster) Data() string { return c.host.data }

// ProgramPath returns the path of one of PostgreSQL's programs beside the server's.
func (c *Cluster) ProgramPath(name string) string { return filepath.Join(c.host.programs, name) }

// NewDatabase makes a database of that name, a copy of another one that nobody uses
// meanwhile or, for no name, an empty one. It replaces a database of that name,
// whoever uses that. It returns its URL, postgres://grahak@127.0.0.1:PORT/NAME.
func (c *Cluster) NewDatabase(name, template string) (string, error) {
	if template == "" {
		template = "template1"
	}
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)",
		"CREATE DATABASE " + name + " OWNER " + role + " TEMPLATE " + template,
	} {
		if _, err := c.query("", sql); err != nil {
			return "", err
		}
	}
	return c.databaseURL(name), nil
}

// Query runs statements as a superuser, in the database that url names or, for
// none, in one that is always there, and returns all rows, each with | between its
// columns. They have three minutes.
func (c *Cluster) Query(url, sql string) ([]string, error) { return c.query(url, sql) }

// Processes returns the server's process and those that it has started.
func (c *Cluster) Processes() ([]int, error) {
	parent := c.server.cmd.Process.Pid
	list, err := children(parent)
	return append(list, parent), err
}

// NewProxy returns a new proxy for the cluster. It ends with the program.
func (c *Cluster) NewProxy() (*Proxy, error) {
	p := &Proxy{server: c.Addr(), links: make(map[*link]bool), gate: make(chan struct{})}
	close(p.gate)
	listener, err := listen()
	if err != nil {
		return nil, err
	}
	p.addr = listener.Addr().String()
	p.accept(listener)
	return p, nil
}
