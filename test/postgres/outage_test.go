package postgres_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"grahak/internal/testkit/postgres"
)

// A node whose database goes away says so, in time, to everybody, and serves again
// when it is back.
func TestOutages(t *testing.T) {
	t.Parallel()
	// Who is about to be refused holds a connection, too, which must be none of those
	// of the test.
	cluster := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "80", "superuser_reserved_connections": strconv.Itoa(80 - freeConnections)}})
	d := MustDeploy(t, cluster)
	w := MustWatch(t, d, d.node(t, ""))
	var squatters []net.Conn
	outages := map[string]outage{
		"killed":  {begin: func(t *testing.T) { cluster.Kill(t) }, end: func(t *testing.T) { cluster.Restart(t) }},
		"stopped": {begin: func(t *testing.T) { cluster.Stop(t) }, end: func(t *testing.T) { cluster.Restart(t) }},
		"paused":  {begin: func(t *testing.T) { cluster.Pause(t) }, end: func(t *testing.T) { cluster.Resume(t) }},
		"without a free connection": {
			begin: func(t *testing.T) { squatters = MustTakeConnections(t, d) },
			end: func(t *testing.T) {
				for _, s := range squatters {
					_ = s.Close()
				}
			},
		},
		"read-only": {
			begin:       func(t *testing.T) { cluster.Configure(t, map[string]string{"default_transaction_read_only": "on"}) },
			end:         func(t *testing.T) { cluster.Configure(t, map[string]string{"default_transaction_read_only": "off"}) },
			partlyReads: true,
		},
	}
	for range long(5) {
		for name, o := range outages {
			t.Run(name, func(t *testing.T) { w.through(t, o) })
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// freeConnections is how many connections the server of TestOutages has for those
// who are not superusers.
const freeConnections = 40

// MustTakeConnections has another program take every connection that the server
// has for those who are not superusers, also those of the node.
func MustTakeConnections(t *testing.T, d *deployment) (squatters []net.Conn) {
	t.Helper()
	await(t, "another program has all connections", recoveryBound, func() bool {
		d.query(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'grahak'")
		for len(squatters) < freeConnections {
			c := MustConnect(t, d.database)
			if c == nil {
				return false
			}
			squatters = append(squatters, c)
		}
		return true
	})
	return squatters
}

// MustConnect connects to a database that asks for no password, and returns nil if
// the server has no connection free.
func MustConnect(t *testing.T, database string) net.Conn {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", u.Host, answerBound)
	if err != nil {
		t.Fatal(err)
	}
	const version = 3 << 16
	words := strings.Join([]string{"user", u.User.Username(), "database", u.Path[1:], "application_name", "squatter", "", ""}, "\x00")
	hello := binary.BigEndian.AppendUint32(nil, uint32(8+len(words)))
	hello = append(binary.BigEndian.AppendUint32(hello, version), words...)
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewReader(c); ; {
		head := make([]byte, 5) // a message's type, and its length without that
		if _, err := io.ReadFull(in, head); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(in, message); err != nil {
			t.Fatal(err)
		}
		switch head[0] {
		case 'Z': // ready
			return c
		case 'E': // an error, in fields of which C is its code
			_ = c.Close()
			if !bytes.Contains(message, []byte("\x00C53300\x00")) {
				t.Fatalf("another program cannot connect: %q", message)
			}
			return nil
		}
	}
}

// A node whose database has no disk space left refuses what needs some, and goes on
// when there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cluster := postgres.Start(t, postgres.Options{Disk: 160})
	d := MustDeploy(t, cluster)
	w := MustWatch(t, d, d.node(t, ""))
	for range long(5) {
		w.through(t, outage{
			begin: func(t *testing.T) {
				cluster.FillDisk(t)
				c := newClient(t, w.node.BaseURL, w.merchant.Key)
				await(t, "the disk is full", time.Minute, func() bool {
					form := form(w.serial.Add(1))
					a, err := c.create(t.Context(), form)
					if err == nil && w.created(form, a) {
						return false
					}
					if err != nil || !a.is(w.cases["unavailable"]) {
						t.Fatalf("a create on a full disk is answered %d %s (%v)", a.status, a.body, err)
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					w.doubtful = append(w.doubtful, form)
					return true
				})
			},
			end: func(t *testing.T) {
				cluster.FreeDisk(t)
				select {
				case <-cluster.Exited():
					cluster.Restart(t)
				default:
				}
			},
			partly: true,
		})
		if t.Failed() {
			t.FailNow()
		}
	}
}

// A node that the network parts from its database.
func TestNetwork(t *testing.T) {
	t.Parallel()
	d := MustDeploy(t, postgres.Shared(t))
	proxy := d.cluster.Proxy(t)
	w := MustWatch(t, d, d.node(t, postgres.URL(d.database, proxy)))
	var stop, stopped chan struct{}
	outages := map[string]outage{
		"refused": {
			begin: func(t *testing.T) {
				proxy.Refuse(t)
				proxy.CutAll()
			},
			end: func(t *testing.T) { proxy.Accept(t) },
		},
		"silent": {
			begin: func(t *testing.T) {
				select {
				case <-proxy.HoldAnswers():
				case <-time.After(recoveryBound):
					t.Fatal("the node does not ask its database anything")
				}
			},
			end: func(*testing.T) { proxy.Release() },
		},
		"shaky": {
			begin: func(*testing.T) {
				stop, stopped = make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							proxy.CutAll()
						}
					}
				}()
			},
			end: func(*testing.T) {
				close(stop)
				<-stopped
			},
			partly: true,
		},
	}
	for range long(5) {
		for name, o := range outages {
			t.Run(name, func(t *testing.T) { w.through(t, o) })
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}
