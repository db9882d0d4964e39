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
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

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
	Webhook  webhookCmd  `cmd:"" help:"Have events sent to a merchant's other systems."`
	Operator operatorCmd `cmd:"" help:"Choose who may use the dashboard, and for what."`
	Customer customerCmd `cmd:"" help:"Find a customer, print all that is held on one, and erase one."`
	Import   importCmd   `cmd:"" help:"Read a merchant's customers from a CSV or NDJSON file."`
	Export   exportCmd   `cmd:"" help:"Write all customers of a merchant as CSV or NDJSON."`
	Seal     sealCmd     `cmd:"" help:"Change the keys that customers are sealed under."`
	Audit    auditCmd    `cmd:"" help:"List the events, and check that none was altered or removed."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the schema of the database up to date."`
	Copy     copyCmd     `cmd:"" help:"Move everything from a data folder to PostgreSQL."`
	Backup   backupCmd   `cmd:"" help:"Write everything into one file, while the server runs."`
	Restore  restoreCmd  `cmd:"" help:"Make a data folder out of a backup, or check one."`
	Doctor   doctorCmd   `cmd:"" help:"Check settings, data folder, disk, clock and database, and say how to mend what is wrong."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

const description = `A self-hosted customer service for payments that speaks Juspay's Customer API.

  grahak serve                       start a sandbox with a merchant and a key
  grahak merchant create acme        make a merchant
  grahak key create --merchant acme  make a key for it
  grahak doctor                      see what is wrong, and how to mend it

All commands work while servers run on the same data folder or database, which see what they change within 2 seconds. Every flag can also be set as the GRAHAK_* environment variable that is named after it in brackets; the flag wins. Exit status: 0 done, 1 not done, 2 wrong command line.`

// Main runs the command line args, without the program's name, and returns the
// exit status.
func Main(args []string, std Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)

	err := run(ctx, args, std)
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(std.Err, "grahak: %s. See %s.\n", withoutPasswords(strings.TrimRight(wrong.Error(), ".?")), wrong.help)
		return exitUsage
	}
	fmt.Fprintf(std.Err, "grahak: %s\n", withoutPasswords(sentence(err)))
	return exitFault
}

// urlPassword is a password in a URL, however wrong the URL is otherwise.
var urlPassword = regexp.MustCompile(`(\w://[^\s/:@]*:)[^\s"']*@`)

// withoutPasswords is an error's text without the passwords of URLs. None should be
// in it, but a URL in the wrong place of the command line is shown as it was
// given.
func withoutPasswords(text string) string { return urlPassword.ReplaceAllString(text, "$1***@") }

// run parses the command line and runs its command. A command line that cannot
// be understood is a usageError.
func run(ctx context.Context, args []string, std Streams) (err error) {
	// kong ends the program after --help by calling Exit, and the parse must not
	// go on after that.
	type exited struct{}
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(exited); !ok {
				panic(p)
			}
		}
	}()
	var cmds commands
	parser, err := kong.New(&cmds,
		kong.Name("grahak"),
		kong.Description(description),
		kong.Writers(std.Out, std.Err),
		kong.Exit(func(int) { panic(exited{}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ValueFormatter(describe),
		kong.Vars{"eventTypes": eventTypes},
		// Only where there is a resolver does kong let a flag win over a variable
		// that cannot be read.
		kong.Resolvers(kong.ResolverFunc(func(*kong.Context, *kong.Path, *kong.Flag) (any, error) { return nil, nil })),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(habitual(args))
	if err != nil {
		return misparsed(err)
	}
	help := parsed.Selected().FullPath() + " --help"
	var warn warning
	for _, given := range parsed.Path {
		if given.Flag == nil {
			continue
		}
		if given.Flag.Name == "master-key" {
			return usageError{errors.New("--master-key would show the key to every user of this machine: set GRAHAK_MASTER_KEY, or give --master-key-file or --master-key-command"), help}
		}
		if url, ok := given.Flag.Target.Interface().(config.DatabaseURL); ok && url.HasPassword() {
			warn = warning("the password in --" + given.Flag.Name + " can be seen by every user of this machine while this runs: set " + given.Flag.Envs[0] + " instead, or PGPASSWORD, or keep it in a password file (~/.pgpass)")
		}
	}
	if name := parsed.Selected().Name; warn != "" && name != "serve" && name != "doctor" {
		fmt.Fprintf(std.Err, "grahak: warning: %s\n", warn)
	}
	parsed.Bind(warn)
	err = parsed.Run()
	var wrong usageError
	switch {
	case errors.As(err, &wrong):
		return usageError{wrong.error, help}
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		// What the work failed of is that the user ended it, and nothing else.
		return errors.New("interrupted")
	}
	return err
}

// warning is what is wrong with a command line that is carried out all the same,
// empty for nothing. The server says it in its log, and the doctor as a finding.
type warning string

// habitual turns what people try first into the commands there are.
func habitual(args []string) []string {
	switch {
	case len(args) > 0 && args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) == 1 && args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// describe is a flag's or argument's help with its default and its environment
// variable.
func describe(v *kong.Value) string {
	var notes []string
	if v.HasDefault && v.Default != "" {
		notes = append(notes, "default "+v.Default)
	}
	for _, env := range v.Tag.Envs {
		notes = append(notes, "$"+env)
	}
	if len(notes) == 0 {
		return v.Help
	}
	return strings.TrimSuffix(v.Help, ".") + " (" + strings.Join(notes, ", ") + ")."
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
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\n", "; "), ".")
	// It stands after the program's name, so it begins small unless its first
	// word is a name.
	if first, size := utf8.DecodeRuneInString(text); len(text) > size && (text[size] == ' ' || unicode.IsLower(rune(text[size]))) {
		text = string(unicode.ToLower(first)) + text[size:]
	}
	return text
}

// target is the flags of every command that works on a data folder or database.
type target struct {
	config.Data
	config.MasterKey
}

// check returns an error if the flags contradict each other.
func (t target) check() error {
	if err := errors.Join(t.Data.Check(), t.MasterKey.Check()); err != nil {
		return wrongUse("%s", sentence(err))
	}
	return nil
}

// flags is what a further command needs to work on the same data.
func (t target) flags() string { return dataFlag(t.Data) }

// dataFlag is the flags that name the data, with a space before each, or nothing
// for the default and for what is in the environment. A password is left out: who
// copies the line puts it in.
func dataFlag(d config.Data) (flags string) {
	if url := d.DatabaseURL; url.Secret() != os.Getenv("GRAHAK_DATABASE_URL") {
		flags = " --database-url " + shellWord(url.String())
	}
	if d.Dir != config.DefaultDir {
		flags += " --data " + shellWord(d.Dir)
	}
	return flags
}

// open opens the data folder or database. The caller closes it.
func (t target) open(ctx context.Context, std Streams) (*app.Data, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return app.OpenData(ctx, t.Data, t.MasterKey, warnings(std))
}

// warnings is the log of a command: warnings and errors only.
func warnings(std Streams) *slog.Logger {
	return slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// with opens the data folder or database for the duration of fn.
func (t target) with(ctx context.Context, std Streams, fn func(*app.Data) error) error {
	data, err := t.open(ctx, std)
	if err != nil {
		return err
	}
	return errors.Join(fn(data), data.Close())
}

// merchantFlag is the flag of every command that works on one merchant.
type merchantFlag struct {
	Merchant string `required:"" short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Id of the merchant, as in grahak merchant list."`
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

// merchantsOf returns the merchant that was named, or all if none was.
func merchantsOf(ctx context.Context, d *app.Data, named string) ([]grahak.MerchantID, error) {
	if named != "" {
		m, err := d.Store.Merchant(ctx, grahak.MerchantID(named))
		return []grahak.MerchantID{m.ID}, err
	}
	list, err := d.Service.Merchants(ctx)
	ids := make([]grahak.MerchantID, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	return ids, err
}

// about is err with the merchant it is about, as one sentence. That the user
// ended the work is about nobody.
func about(m grahak.MerchantID, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("merchant %s: %s", m, sentence(err))
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
