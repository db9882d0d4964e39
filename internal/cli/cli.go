// Package cli is the command line. It parses flags, calls use cases and prints
// what came of them; it decides nothing itself.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFault = 1 // the command was understood and could not be done
	exitUsage = 2 // the command line is wrong
)

// Streams are the standard streams. Answers go to Out, everything else to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// commands is the whole command line.
type commands struct {
	Serve    serveCmd    `cmd:"" help:"Run the server."`
	Merchant merchantCmd `cmd:"" help:"Make, list and disable merchants."`
	Key      keyCmd      `cmd:"" help:"Make, import, list, revoke and rotate API keys."`
	IPList   ipListCmd   `cmd:"" name:"iplist" help:"Choose the addresses from which a merchant may call."`
	Customer customerCmd `cmd:"" help:"Look at a merchant's customers."`
	Doctor   doctorCmd   `cmd:"" help:"Check settings, data folder, disk, clock and database, and say how to mend what is wrong."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

const description = `A self-hosted customer service for payments that speaks Juspay's Customer API.

  grahak serve                      start a sandbox: a demo merchant and a key come with it
  grahak merchant create acme       make a merchant; works while the server runs
  grahak key create --merchant acme make a key for it

Every flag can also be set as a GRAHAK_* environment variable, named in brackets; the flag wins. Exit status: 0 done, 1 not done, 2 wrong command line.`

// Main runs the command line args, without the program's name, and returns the
// exit status.
func Main(args []string, std Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)

	// kong ends the program after --help by calling Exit, and the parse must not
	// go on after that.
	type exited struct{ status int }
	var status int
	var cmds commands
	run := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				e, ok := p.(exited)
				if !ok {
					panic(p)
				}
				status = e.status
			}
		}()
		parser, err := kong.New(&cmds,
			kong.Name("grahak"),
			kong.Description(description),
			kong.Writers(std.Out, std.Err),
			kong.Exit(func(s int) { panic(exited{s}) }),
			kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
			kong.BindTo(ctx, (*context.Context)(nil)),
			kong.Bind(std),
		)
		if err != nil {
			return err
		}
		parsed, err := parser.Parse(args)
		if err != nil {
			return usageError{err}
		}
		return parsed.Run()
	}
	err := run()
	if err == nil {
		return status
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(std.Err, "grahak: %s. See grahak %s.\n", strings.TrimSuffix(err.Error(), "."), helpFor(args))
		return exitUsage
	}
	fmt.Fprintf(std.Err, "grahak: %s\n", sentence(err))
	return exitFault
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// helpFor returns the help command for the subcommand that args name.
func helpFor(args []string) string {
	words := make([]string, 0, 3)
	for _, a := range args {
		if strings.HasPrefix(a, "-") || len(words) == 2 {
			break
		}
		words = append(words, a)
	}
	// A word that is no command has no help of its own.
	known := map[string]bool{"serve": true, "merchant": true, "key": true, "iplist": true, "customer": true, "doctor": true, "version": true}
	if len(words) == 0 || !known[words[0]] {
		return "--help"
	}
	return words[0] + " --help"
}

// sentence is err for a person: the message of the domain without its cause's
// details when there is one, otherwise the whole text.
func sentence(err error) string {
	var known *grahak.Error
	text := err.Error()
	if errors.As(err, &known) && known.Message != "" {
		text = known.Message
		if known.Code == grahak.CodeUnavailable && known.Err != nil {
			text = known.Error()
		}
	}
	// Joined errors stand on lines of their own.
	return strings.ReplaceAll(text, "\n", "; ")
}

// target is the flags of every command that works on a data folder.
type target struct {
	config.Data
	config.MasterKey
}

// open opens the data folder. The caller closes it.
func (t target) open(ctx context.Context, std Streams) (*app.Data, error) {
	log := slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return app.OpenData(ctx, t.Data, t.MasterKey, log)
}

// with opens the data folder for the duration of fn.
func (t target) with(ctx context.Context, std Streams, fn func(*app.Data) error) error {
	data, err := t.open(ctx, std)
	if err != nil {
		return err
	}
	return errors.Join(fn(data), data.Close())
}

// merchantFlag is the flag of every command that works on one merchant.
type merchantFlag struct {
	Merchant string `required:"" short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"The merchant."`
}

// caller is the operator at work on the merchant.
func (f merchantFlag) caller() grahak.Caller { return operator(f.Merchant) }

// operator returns the caller for this user's work on a merchant.
func operator(merchant string) grahak.Caller {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return grahak.Operator(grahak.MerchantID(merchant), "cli:"+name)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
