package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
)

type sealCmd struct {
	Status sealStatusCmd `cmd:"" help:"Show which key versions merchants' customers are sealed under, and what is left to re-seal."`
	Rotate sealRotateCmd `cmd:"" help:"Make a new sealing key and seal all customers under it."`
	Rewrap sealRewrapCmd `cmd:"" help:"Change the master key."`
}

// Help is what `grahak seal --help` says above the commands.
func (sealCmd) Help() string {
	return `Every merchant's customers are sealed under a key of that merchant, and that key under the master key:

  grahak seal rotate --all   new keys for the merchants' customers
  grahak seal rewrap         a new master key for the merchants' keys

Once both are done, nothing that was copied from the data folder before can be read any more by whoever does not hold the old master key.`
}

// sealing is how far a merchant's re-sealing is, for people.
func sealing(s grahak.SealState, total int64) string {
	switch {
	case s.Complete():
		return "complete"
	case stuck(s):
		return fmt.Sprintf("stuck: %d do not open", s.Unopened)
	case s.Seen == 0 && total == 0:
		return "no customers to re-seal"
	}
	return fmt.Sprintf("re-sealing %d of about %d", s.Seen, max(s.Seen, total))
}

// stuck reports whether a re-sealing has looked at all customers and some do
// not open.
func stuck(s grahak.SealState) bool { return !s.Complete() && !s.Walking && s.Unopened > 0 }

// stuckHint says what to do about it.
func stuckHint(s grahak.SealState, data string) string {
	do, them := "do", "them"
	if s.Unopened == 1 {
		do, them = "does", "it"
	}
	return fmt.Sprintf("%s of merchant %s %s not open under any key, so the old key is kept: restore %s from a backup or erase %s by id (the log names %s), then run %s seal rotate --merchant %s%s",
		count(s.Unopened, "customer"), s.Merchant, do, them, them, them, programName(), s.Merchant, data)
}

// customersOf counts a merchant's customers.
func customersOf(ctx context.Context, d *app.Data, m grahak.MerchantID) (int64, error) {
	_, total, err := d.Store.Customers(ctx, m, grahak.CustomerRange{}, 1, 0)
	return total, err
}

type sealStatusCmd struct {
	Merchant string `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Show this merchant only."`
	config.Data
	jsonFlag
}

// Run shows the states. It needs no master key.
func (c sealStatusCmd) Run(ctx context.Context, std Streams) error {
	return target{Data: c.Data}.with(ctx, std, func(d *app.Data) error {
		states, err := c.states(ctx, d)
		if err != nil {
			return err
		}
		rows := make([][]string, len(states))
		var hints []string
		for i, s := range states {
			total, err := customersOf(ctx, d, s.Merchant)
			if err != nil {
				return err
			}
			if c.JSON {
				if err := printJSON(std.Out, toSealJSON(s, total)); err != nil {
					return err
				}
				continue
			}
			rows[i] = []string{string(s.Merchant), fmt.Sprint(s.Version), stamp(s.RotatedAt), s.MasterKeyID, sealing(s, total)}
			switch {
			case stuck(s):
				hints = append(hints, stuckHint(s, dataFlag(c.Data)))
			case !s.Complete():
				hints = append(hints, fmt.Sprintf("merchant %s goes on while a server runs, or with %s seal rotate --merchant %s%s", s.Merchant, programName(), s.Merchant, dataFlag(c.Data)))
			}
		}
		if c.JSON {
			return nil
		}
		if err := table(std.Out, []string{"MERCHANT", "VERSION", "SINCE", "MASTER KEY", "STATE"}, rows); err != nil {
			return err
		}
		for _, hint := range hints {
			fmt.Fprintf(std.Out, "\n%s\n", hint)
		}
		return nil
	})
}

// states returns the states that were asked for.
func (c sealStatusCmd) states(ctx context.Context, d *app.Data) ([]grahak.SealState, error) {
	if c.Merchant == "" {
		return d.Service.SealStates(ctx)
	}
	state, err := d.Store.SealState(ctx, grahak.MerchantID(c.Merchant))
	return []grahak.SealState{state}, err
}

// sealJSON is the state of a merchant's keys for programs.
type sealJSON struct {
	Merchant  grahak.MerchantID `json:"merchant"`
	Version   int64             `json:"version"`
	Oldest    int64             `json:"oldest_version"`
	Since     *string           `json:"since"`
	MasterKey string            `json:"master_key"`
	State     string            `json:"state"`
	Seen      int64             `json:"seen"`
	Unopened  int64             `json:"unopened"`
	Customers int64             `json:"customers"`
}

func toSealJSON(s grahak.SealState, total int64) sealJSON {
	state := "resealing"
	switch {
	case s.Complete():
		state = "complete"
	case stuck(s):
		state = "stuck"
	}
	return sealJSON{
		Merchant: s.Merchant, Version: s.Version, Oldest: s.Oldest, Since: jsonTime(s.RotatedAt), MasterKey: s.MasterKeyID,
		State: state, Seen: s.Seen, Unopened: s.Unopened, Customers: total,
	}
}

type sealRotateCmd struct {
	Merchant string `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Rotate the key of this merchant."`
	All      bool   `env:"GRAHAK_ALL" help:"Rotate the keys of all merchants."`
	NoWait   bool   `name:"no-wait" env:"GRAHAK_NO_WAIT" help:"Return as soon as the new keys are made."`
	target
}

// Help is what `grahak seal rotate --help` says above the flags.
func (sealRotateCmd) Help() string {
	return `What is written from then on is sealed under the new key at once. The customers that are there are sealed anew in small batches, while requests are served, and then the old key is destroyed. A running server does that, or else this command, during which no server can start; on PostgreSQL this command and the servers do it together. It may be interrupted at any time: it goes on while a server runs, or when it is run again. If a rotation is under way already, that is ended first, and then the new key is made: afterwards no key is left under which anybody was sealed who was erased before the command began.

  grahak seal rotate --merchant acme

The keys that customers are found by (reference, e-mail address, mobile number) stay.`
}

// Run makes new keys, and waits until everything is sealed under them.
func (c sealRotateCmd) Run(ctx context.Context, std Streams) error {
	switch {
	case c.Merchant == "" && !c.All:
		return wrongUse("give --merchant ID, or --all")
	case c.Merchant != "" && c.All:
		return wrongUse("--all and --merchant (or GRAHAK_MERCHANT) exclude each other")
	}
	return c.with(ctx, std, func(d *app.Data) error {
		err := c.rotate(ctx, std, d)
		if ctx.Err() != nil {
			return errors.New("interrupted: what was begun goes on while a server runs, or when this command is run again")
		}
		return err
	})
}

func (c sealRotateCmd) rotate(ctx context.Context, std Streams, d *app.Data) error {
	merchants, err := chainsOf(ctx, d, c.Merchant)
	if err != nil {
		return err
	}
	made := make([]bool, len(merchants))
	for i, m := range merchants {
		if made[i], err = c.begin(ctx, std, d, m); err != nil {
			return err
		}
	}
	if c.NoWait {
		if slices.Contains(made, false) {
			// Who was erased meanwhile may have been sealed under that key before.
			fmt.Fprintln(std.Out, "If customers were erased since that key was made, run this again once it has ended: only the next key makes what is left of them unreadable.")
		}
		fmt.Fprintf(std.Out, "Customers are sealed anew while a server runs. See how far it is: %s seal status%s\n", programName(), c.flags())
		return nil
	}
	var failed error
	for i, m := range merchants {
		state, err := awaitReseal(ctx, std, d, m)
		for err == nil && state.Complete() && !made[i] {
			if made[i], err = c.begin(ctx, std, d, m); err == nil {
				state, err = awaitReseal(ctx, std, d, m)
			}
		}
		switch {
		case err != nil:
			return about(m, err)
		case state.Complete():
			fmt.Fprintf(std.Out, "All customers of merchant %s are sealed under version %d, and no older key is kept.\n", m, state.Version)
		default:
			failed = errors.Join(failed, errors.New(stuckHint(state, c.flags())))
		}
	}
	return failed
}

// begin makes a merchant's new key, or lets a rotation that is under way go on,
// and reports whether it made one.
func (c sealRotateCmd) begin(ctx context.Context, std Streams, d *app.Data, m grahak.MerchantID) (bool, error) {
	state, made, err := d.Service.RotateSeal(ctx, operator(string(m)))
	switch {
	case err != nil:
		return false, about(m, err)
	case made:
		fmt.Fprintf(std.Out, "Made version %d of merchant %s's sealing key. What is written from now on is sealed under it.\n", state.Version, m)
	case c.NoWait:
		fmt.Fprintf(std.Out, "Version %d of merchant %s's sealing key was made at %s already, and the re-sealing goes on.\n", state.Version, m, stamp(state.RotatedAt))
	default:
		fmt.Fprintf(std.Out, "Version %d of merchant %s's sealing key was made at %s already, and the re-sealing goes on; the next key is made after it.\n", state.Version, m, stamp(state.RotatedAt))
	}
	return made, nil
}

const (
	// resealPoll is how often it is looked how far a server is.
	resealPoll = 200 * time.Millisecond
	// takeOverAfter is how long there must have been no server before a command
	// does its work: one that restarts must find the data folder free.
	takeOverAfter = 5 * time.Second
	// resealPatience is how long a server may re-seal nothing before the user is
	// told.
	resealPatience = 30 * time.Second
)

// awaitReseal waits for the end of a merchant's re-sealing, and does it where no
// server does. It returns the state at the end, which is complete or stuck.
func awaitReseal(ctx context.Context, std Streams, d *app.Data, m grahak.MerchantID) (state grahak.SealState, err error) {
	total, err := customersOf(ctx, d, m)
	if err != nil {
		return state, err
	}
	bar := newProgress(std, "Re-sealing "+string(m))
	defer bar.finish()
	show := func(s grahak.SealState) { bar.set(s.Seen, max(s.Seen, total)) }
	poll := time.NewTicker(resealPoll)
	defer poll.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	slow := time.NewTimer(resealPatience)
	defer slow.Stop()
	for served := false; ; {
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-look.C:
			release, free, err := d.TakeOver()
			switch {
			case err != nil:
				return state, err
			case !free:
				served = true
			case served:
				served = false
				if err := release(); err != nil {
					return state, err
				}
			default:
				state, err = d.Service.Reseal(ctx, operator(string(m)), show)
				return state, errors.Join(err, release())
			}
			look.Reset(takeOverAfter)
		case <-poll.C:
			seen := state.Seen
			if state, err = d.Store.SealState(ctx, m); err != nil || state.Complete() || stuck(state) {
				return state, err
			}
			show(state)
			if state.Seen != seen {
				slow.Reset(resealPatience)
			}
		case <-slow.C:
			bar.finish()
			fmt.Fprintf(std.Err, "The server has re-sealed nothing for %d seconds: see its log for the reason.\n", int(resealPatience.Seconds()))
		}
	}
}

type sealRewrapCmd struct {
	Yes bool `env:"GRAHAK_YES" help:"Do not ask whether a server that runs has both keys."`
	target
}

// Help is what `grahak seal rewrap --help` says above the flags.
func (sealRewrapCmd) Help() string {
	return `It wraps the keys of all merchants under the newest master key that is configured; customers are not touched. In a sandbox that keeps its own master key it makes a new one, and removes the old one from the data folder, so that older backups cannot be read any more.

Where you give the master key, put the new one on a line above the old one, where the server and this command read it, run this, and then remove the old line:

  (umask 077; openssl rand -base64 32 >new; cat master.key >>new)
  mv new master.key
  grahak seal rewrap --master-key-file master.key

A running server reads its file or command again by itself. One that has its master key from GRAHAK_MASTER_KEY must have been started anew with both lines before, or else it answers 503 until it is; where this command has its key from there and a server runs (or may, on PostgreSQL), it asks first, or needs --yes. Of several servers each needs both lines until the old one is removed everywhere. A backup can be read only with the master key of its time.`
}

// Run wraps all keysets under the newest master key.
func (c sealRewrapCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := c.confirm(ctx, std, d); err != nil {
			return err
		}
		var from, to string
		err := d.RenewMasterKey(ctx, func(ctx context.Context) (err error) {
			from, to, err = d.Service.RewrapKeysets(ctx, operator("").Actor)
			return err
		})
		if err != nil {
			return c.explain(ctx, d, err)
		}
		out := func(format string, args ...any) { fmt.Fprintf(std.Out, format+"\n", args...) }
		if from == to {
			out("The merchants' keys are wrapped under master key %s already, which is the newest one configured.", to)
			out("To change it, make another (openssl rand -base64 32), put it on a line above the old one%s, and run this again.", c.where())
			return nil
		}
		out("The keys of all merchants are wrapped under master key %s, and no longer under %s.", to, from)
		switch {
		case c.Given() && c.Postgres():
			out("Servers read a file or command again by themselves. Each that has its key from GRAHAK_MASTER_KEY must have been started with both lines; one that was not answers 503 now: restart it with both.")
		case c.Given() && app.Served(c.Data):
			out("The server that runs reads a file or command again by itself. If it has its key from GRAHAK_MASTER_KEY, it must have been started with both lines; if it was not, it answers 503 now: restart it with both.")
		}
		if c.Given() {
			out("Remove the line of %s%s. Backups made until now, and what else was copied, can be read with that key only: keep it apart for as long as you may need one of them, and then destroy it wherever it is.", from, c.where())
		} else {
			out("The old key is no longer in %s: backups made until now cannot be read any more, unless you have a copy of it.", c.GeneratedMasterKey())
		}
		return nil
	})
}

// confirm asks whether the server that runs has both keys, if that is not known
// to take care of itself and there is a change to make.
func (c sealRewrapCmd) confirm(ctx context.Context, std Streams, d *app.Data) error {
	if c.Yes || c.Text == "" || !app.Served(c.Data) {
		return nil
	}
	named, err := d.Store.MasterKeyID(ctx, "")
	if err != nil {
		return err
	}
	if newest, err := d.MasterKeys.Newest(ctx); err != nil || newest.ID() == named {
		return nil //nolint:nilerr // The work that follows fails of the same, and says what to do.
	}
	if _, err := d.MasterKeys.Key(ctx, named); err != nil {
		return nil //nolint:nilerr // The same.
	}
	why := "A server uses this data folder. If it has its master key from GRAHAK_MASTER_KEY, too, it must have been started with both lines in it, or else it answers 503 from now on until it is restarted with them"
	if c.Postgres() {
		why = "Servers may be using this database. Each that has its master key from GRAHAK_MASTER_KEY, too, must have been started with both lines in it, or else it answers 503 from now on until it is restarted with them"
	}
	if !isTerminal(std.In) {
		return wrongUse("%s%s: see to that, and give --yes", strings.ToLower(why[:1]), why[1:])
	}
	fmt.Fprintln(std.Err, why+".")
	answer, err := ask(ctx, std, "Type yes if it was: ")
	if err == nil && answer != "yes" {
		err = errors.New("nothing was changed: what was typed is not yes")
	}
	return err
}

// where names the place that the master key comes from.
func (c sealRewrapCmd) where() string {
	switch {
	case c.File != "":
		return " in " + c.File
	case c.Text != "":
		return " in GRAHAK_MASTER_KEY"
	case c.Command != "":
		return " in what --master-key-command prints"
	}
	return ""
}

// explain returns err with what a rewrap needs, if it failed for the lack of the
// old master key.
func (c sealRewrapCmd) explain(ctx context.Context, d *app.Data, err error) error {
	if grahak.CodeOf(err) != grahak.CodeUnavailable || !c.Given() {
		return err
	}
	named, nameErr := d.Store.MasterKeyID(ctx, "")
	newest, newestErr := d.MasterKeys.Newest(ctx)
	if nameErr != nil || newestErr != nil || newest.ID() == named {
		return err
	}
	if _, keyErr := d.MasterKeys.Key(ctx, named); keyErr == nil {
		return err
	}
	return fmt.Errorf("the merchants' keys are wrapped under master key %s, which is not configured, only %s is: put the old key on a line below the new one%s, because both are needed", named, newest.ID(), c.where())
}
