package postgres

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// Standby makes a copy of the cluster that follows it, and returns when it is
// synchronous: from then on the cluster acknowledges no commit that is not on
// the disks of all its standbys. The standby answers reads only, until
// [Cluster.Promote]. It has the cluster's settings, with those of opts over
// them, and its password.
func (c *Cluster) Standby(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	c.alone(tb)
	h, err := newHost(opts.Disk)
	if err != nil {
		tb.Fatal(err)
	}
	opts.Password = c.password
	settings := maps.Clone(c.given)
	maps.Copy(settings, opts.Settings)
	opts.Settings = settings
	s := newCluster(h, opts)
	s.Locale = c.Locale
	s.endWith(tb)

	name := fmt.Sprintf("standby_%d", len(c.standbys)+1)
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	source := fmt.Sprintf("host=%s port=%d user=%s application_name=%s", c.host.dir, c.port, superuser, name)
	if err := run(h.command(ctx, "pg_basebackup", "-d", source, "-D", h.data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")); err != nil {
		tb.Fatal(err)
	}
	if err := s.startFirst(); err != nil {
		tb.Fatal(err)
	}
	c.standbys = append(c.standbys, name)
	c.Configure(tb, map[string]string{
		"synchronous_standby_names": fmt.Sprintf("%d (%s)", len(c.standbys), strings.Join(c.standbys, ", ")),
	})
	c.await(tb, "the standby is synchronous", func() bool {
		state := c.QueryText(tb, "", "SELECT sync_state FROM pg_stat_replication WHERE application_name = "+quote(name))
		return len(state) == 1 && state[0] == "sync"
	})
	return s
}

// Promote makes a standby a server of its own, and returns when it takes
// writes.
func (c *Cluster) Promote(tb testing.TB) {
	tb.Helper()
	if got := c.QueryText(tb, "", fmt.Sprintf("SELECT pg_promote(true, %d)", int(commandTimeout.Seconds()))); got[0] != "t" {
		tb.Fatalf("the standby is not promoted within %v", commandTimeout)
	}
}
