package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"grahak/internal/app"
	"grahak/internal/config"
	"grahak/internal/telemetry"
	"grahak/internal/tlscert"
)

type serveCmd struct {
	config.Server
}

// Help is what `grahak serve --help` says above the flags.
func (serveCmd) Help() string {
	return `With no flags it starts a sandbox on this machine: it makes its data folder, a demo merchant and an API key, and prints a curl that creates a customer.

In production it makes nothing by itself and needs a master key, under which all personal data is sealed; it names whatever is missing:

  (umask 077; openssl rand -base64 32 >master.key)
  grahak serve --env production --master-key-file master.key

Any number of servers may share a PostgreSQL database. Then all of them need the same master key, and in production the schema is made before they start:

  export GRAHAK_DATABASE_URL=postgres://grahak@db.example.com/grahak
  grahak migrate
  grahak serve --env production --master-key-file master.key

Then make merchants and keys with grahak merchant create and grahak key create while it runs. A sandbox has a dashboard below /dashboard/; production has one only with --dashboard-listen, and grahak operator create lets somebody in. Keep the master key apart from the data and its backups: without it no customer can be read.

SIGTERM or Ctrl-C stops it: it accepts nothing more, finishes what is in flight, and exits 0.`
}

// Run runs the server until the context ends.
func (c serveCmd) Run(ctx context.Context, std Streams, warn warning) error {
	if err := c.Check(); err != nil {
		return wrongUse("%w", err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return wrongUse("%w", err)
	}
	text := c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(std.Err)
	log := telemetry.NewLog(std.Err, text, level)
	defer func() { _ = log.Close() }()
	if warn != "" {
		log.Warn(string(warn))
	}
	server, err := app.Start(ctx, c.Server, app.Options{Logger: log.Logger, Version: version()})
	if err != nil {
		return err
	}
	c.banner(std, server)
	if !c.Postgres() {
		tuneProcs()
	}
	go tuneGC()
	return server.Run(ctx)
}

// banner tells a person how to use the server that has just started.
func (c serveCmd) banner(std Streams, server *app.Server) {
	base := server.URL(server.APIAddr())
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	place := c.Folder()
	if c.Postgres() {
		place = c.DatabaseURL.String()
	}
	line("Grahak %s, %s, data in %s", version(), c.Environment, place)
	line("")
	line("Base URL     %s", base)
	if server.HasDashboard() {
		link := server.URL(server.DashboardAddr())
		if server.LoginPath != "" {
			line("Dashboard    %s%s  (one use, 15 minutes)", link, server.LoginPath)
		} else {
			line("Dashboard    %s%s", link, app.DashboardPath)
		}
	}
	line("Operations   http://%s (health, metrics; keep it private)", server.OpsAddr())
	curl := "curl"
	if c.TLSSelfSigned {
		ca := filepath.Join(c.TLSDir(), tlscert.CAFile)
		// The client that is to trust it runs in a folder of its own.
		if absolute, err := filepath.Abs(ca); err == nil {
			ca = absolute
		}
		ca = shellWord(ca)
		line("Trust        %s: curl --cacert %s, or NODE_EXTRA_CA_CERTS=%s", ca, ca, ca)
		curl = "curl --cacert " + ca
	}
	if server.DemoKey != "" {
		line("Merchant id  %s", app.DemoMerchant)
		line("API key      %s  (shown only this once)", server.DemoKey)
	}
	line("")
	data := dataFlag(c.Data)
	switch fault := server.Fault(); {
	case fault != nil:
		line("CUSTOMERS CANNOT BE SERVED, every such request is answered 503: %s", sentence(fault))
	case c.Production():
		master := ""
		switch {
		case c.File != "":
			master = " --master-key-file " + shellWord(c.File)
		case c.Command != "" && c.Command != os.Getenv("GRAHAK_MASTER_KEY_COMMAND"):
			// From the environment it may hold what is nobody else's business.
			master = " --master-key-command " + shellWord(c.Command)
		}
		line("Make merchants, with the same master key, and keys while it runs:")
		line("")
		line("  %s merchant create ID%s%s", programName(), data, master)
		line("  %s key create --merchant ID%s", programName(), data)
		if server.HasDashboard() {
			line("")
			line("Somebody who may log in to the dashboard:")
			line("")
			line("  %s operator create NAME --all-merchants%s%s", programName(), data, master)
		}
	case server.DemoKey == "":
		line("Keys were shown when they were made. For a new one of the demo merchant:")
		line("")
		line("  %s key create --merchant %s%s", programName(), app.DemoMerchant, data)
	default:
		line("Create a customer:")
		line("")
		line(`  %s %s/customers -u %s: \`, curl, base, server.DemoKey)
		line(`    -d object_reference_id=customer@example.com -d mobile_number=9988776655 \`)
		line(`    -d email_address=customer@example.com -d first_name=Asha -d last_name=Rao`)
	}
	line("")
	_, _ = std.Out.Write([]byte(b.String()))
}

// programName is how the user called this program: `go run` leaves a path that
// is gone afterwards.
func programName() string {
	if strings.Contains(filepath.ToSlash(os.Args[0]), "/go-build") {
		return "go run ./cmd/grahak"
	}
	return shellWord(os.Args[0])
}
