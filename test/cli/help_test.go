package cli_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// help is what --help says of one command.
type help struct {
	usage    string
	about    string            // what stands between the usage and the first list
	commands map[string]string // with their descriptions
	args     map[string]string // with their descriptions
	flags    map[string]flag   // by name
}

// flag is what --help says of one flag. The first flag of every command is --help, which has nothing but a text.
type flag struct{ value, text, fallback, env string }

var (
	helpEntry = regexp.MustCompile(`^  ((?:-\w, |    )--)?([^\s=]+(?: [^\s=]+)*?)(=(\S+))?(?:  +(\S.*))?$`)
	helpNotes = regexp.MustCompile(`^(.*?) \((?:default (\S+), )?\$(GRAHAK_[A-Z_]+)\)\.$`)
)

// readHelp reads what a command's --help prints. Texts that go over several lines become one.
func readHelp(t *testing.T, command string) help {
	t.Helper()
	r := run(t, append(strings.Fields(command), "--help")...).done(t)
	h := help{commands: map[string]string{}, args: map[string]string{}, flags: map[string]flag{}}
	var section, name string
	for line := range strings.Lines(r.stdout) {
		line = strings.TrimRight(line, "\n")
		if len(line) > 80 {
			t.Errorf("%s --help has a line of %d columns: %s", command, len(line), line)
		}
		entry := helpEntry.FindStringSubmatch(line)
		switch usage, first := strings.CutPrefix(line, "Usage: grahak "); {
		case first:
			h.usage = usage
		case line == "Commands:" || line == "Arguments:" || line == "Flags:":
			section = line
		case line == "":
			name = ""
		case section == "":
			h.about += line + "\n"
		case entry != nil && !strings.HasPrefix(line, "       "):
			name = entry[2]
			switch section {
			case "Commands:":
				h.commands[name] = entry[5]
			case "Arguments:":
				h.args[name] = entry[5]
			default:
				h.flags[name] = flag{value: entry[4], text: entry[5]}
			}
		case name != "":
			more := " " + strings.TrimSpace(line)
			switch section {
			case "Commands:":
				h.commands[name] += more
			case "Arguments:":
				h.args[name] += more
			default:
				f := h.flags[name]
				f.text = strings.TrimSpace(f.text + more)
				h.flags[name] = f
			}
		}
	}
	for name, f := range h.flags {
		if notes := helpNotes.FindStringSubmatch(f.text); notes != nil {
			f.text, f.fallback, f.env = notes[1]+".", notes[2], notes[3]
			h.flags[name] = f
		}
	}
	return h
}

// readAllHelp reads the help of every command that can be reached from the program's own, that one under "".
func readAllHelp(t *testing.T) map[string]help {
	t.Helper()
	all := map[string]help{}
	var read func(command string)
	read = func(command string) {
		h := readHelp(t, command)
		all[command] = h
		for sub := range h.commands {
			read(sub)
		}
	}
	read("")
	return all
}

// The flags that commands share.
var (
	folderFlags = map[string]flag{
		"data":         {value: "DIR", fallback: "./grahak-data", env: "GRAHAK_DATA"},
		"database-url": {value: "URL", env: "GRAHAK_DATABASE_URL"},
	}
	dataFlags = with(folderFlags, map[string]flag{
		"master-key-file":    {value: "FILE", env: "GRAHAK_MASTER_KEY_FILE"},
		"master-key-command": {value: "CMD", env: "GRAHAK_MASTER_KEY_COMMAND"},
	})
	merchantFlags = with(dataFlags, map[string]flag{
		"merchant": {value: "ID", env: "GRAHAK_MERCHANT"},
	})
	jsonFlags   = map[string]flag{"json": {env: "GRAHAK_JSON"}}
	expiryFlags = map[string]flag{"expires-in": {value: "SPAN", env: "GRAHAK_EXPIRES_IN"}}
	keyFlags    = with(merchantFlags, expiryFlags, map[string]flag{
		"label": {value: "TEXT", env: "GRAHAK_LABEL"},
		"scope": {value: "read|write", fallback: "write", env: "GRAHAK_SCOPE"},
	})
	serverFlags = with(dataFlags, map[string]flag{
		"env":                  {value: "sandbox|production", fallback: "sandbox", env: "GRAHAK_ENV"},
		"listen":               {value: "ADDR", fallback: "127.0.0.1:8080", env: "GRAHAK_LISTEN"},
		"ops-listen":           {value: "ADDR", fallback: "127.0.0.1:8081", env: "GRAHAK_OPS_LISTEN"},
		"dashboard-listen":     {value: "ADDR", env: "GRAHAK_DASHBOARD_LISTEN"},
		"public-url":           {value: "URL", env: "GRAHAK_PUBLIC_URL"},
		"tls-cert":             {value: "FILE", env: "GRAHAK_TLS_CERT"},
		"tls-key":              {value: "FILE", env: "GRAHAK_TLS_KEY"},
		"tls-self-signed":      {env: "GRAHAK_TLS_SELF_SIGNED"},
		"trusted-proxies":      {value: "CIDR,...", env: "GRAHAK_TRUSTED_PROXIES"},
		"webhook-allow":        {value: "HOST,...", env: "GRAHAK_WEBHOOK_ALLOW"},
		"default-country-code": {value: "DIGITS", fallback: "91", env: "GRAHAK_DEFAULT_COUNTRY_CODE"},
		"idempotency-keep":     {value: "DURATION", fallback: "24h", env: "GRAHAK_IDEMPOTENCY_KEEP"},
		"events-catch-up":      {value: "SPAN", fallback: "90d", env: "GRAHAK_EVENTS_CATCH_UP"},
		"events-keep":          {value: "SPAN", fallback: "396d", env: "GRAHAK_EVENTS_KEEP"},
		"requests-keep":        {value: "SPAN", fallback: "30d", env: "GRAHAK_REQUESTS_KEEP"},
		"requests-size":        {value: "SIZE", fallback: "1GiB", env: "GRAHAK_REQUESTS_SIZE"},
		"max-connections":      {value: "N", fallback: "4096", env: "GRAHAK_MAX_CONNECTIONS"},
		"max-in-progress":      {value: "N", fallback: "0", env: "GRAHAK_MAX_IN_PROGRESS"},
		"database-connections": {value: "N", fallback: "16", env: "GRAHAK_DATABASE_CONNECTIONS"},
		"rate-limit-key":       {value: "N", fallback: "50000", env: "GRAHAK_RATE_LIMIT_KEY"},
		"rate-limit-merchant":  {value: "N", fallback: "100000", env: "GRAHAK_RATE_LIMIT_MERCHANT"},
		"rate-limit-failed":    {value: "N", fallback: "60", env: "GRAHAK_RATE_LIMIT_FAILED"},
		"log-format":           {value: "auto|text|json", fallback: "auto", env: "GRAHAK_LOG_FORMAT"},
		"log-level":            {value: "debug|info|warn|error", fallback: "info", env: "GRAHAK_LOG_LEVEL"},
	})
)

// with returns the flags of all sets.
func with(sets ...map[string]flag) map[string]flag {
	all := map[string]flag{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

// commandFlags is every command that does something, with the flags it takes.
var commandFlags = map[string]map[string]flag{
	"serve": serverFlags,
	"migrate": with(folderFlags, map[string]flag{
		"no-lock":    {env: "GRAHAK_NO_LOCK"},
		"distribute": {value: "citus", env: "GRAHAK_DISTRIBUTE"},
	}),
	"merchant create":  with(dataFlags, map[string]flag{"name": {value: "NAME", env: "GRAHAK_NAME"}}),
	"merchant list":    with(dataFlags, jsonFlags),
	"merchant disable": dataFlags,
	"key create":       with(keyFlags, jsonFlags),
	"key import":       keyFlags,
	"key list":         with(merchantFlags, jsonFlags),
	"key revoke":       merchantFlags,
	"key rotate":       with(merchantFlags, jsonFlags, expiryFlags, map[string]flag{"overlap": {value: "SPAN", fallback: "24h", env: "GRAHAK_OVERLAP"}}),
	"iplist add":       with(merchantFlags, map[string]flag{"label": {value: "TEXT", env: "GRAHAK_LABEL"}}),
	"iplist remove":    merchantFlags,
	"iplist list":      with(merchantFlags, jsonFlags),
	"iplist test":      merchantFlags,
	"iplist mode":      merchantFlags,
	"webhook create": with(merchantFlags, jsonFlags, map[string]flag{
		"url":   {value: "URL", env: "GRAHAK_URL"},
		"types": {value: "TYPE,...", env: "GRAHAK_TYPES"},
		"label": {value: "TEXT", env: "GRAHAK_LABEL"},
	}),
	"webhook list": with(merchantFlags, jsonFlags),
	"webhook log": with(merchantFlags, jsonFlags, map[string]flag{
		"failed": {env: "GRAHAK_FAILED"},
		"count":  {value: "N", fallback: "100", env: "GRAHAK_COUNT"},
	}),
	"webhook test": with(merchantFlags, jsonFlags, map[string]flag{"webhook-allow": {value: "HOST,...", env: "GRAHAK_WEBHOOK_ALLOW"}}),
	"webhook replay": with(merchantFlags, jsonFlags, map[string]flag{
		"event":  {value: "ID", env: "GRAHAK_EVENT"},
		"from":   {value: "POSITION", fallback: "0", env: "GRAHAK_FROM_POSITION"},
		"to":     {value: "POSITION", fallback: "0", env: "GRAHAK_TO_POSITION"},
		"failed": {env: "GRAHAK_FAILED"},
	}),
	"webhook disable":       merchantFlags,
	"webhook enable":        merchantFlags,
	"webhook rotate-secret": with(merchantFlags, jsonFlags, map[string]flag{"overlap": {value: "SPAN", fallback: "24h", env: "GRAHAK_OVERLAP"}}),
	"operator create": with(merchantFlags, map[string]flag{
		"merchant":      {value: "ID,...", env: "GRAHAK_MERCHANT"},
		"all-merchants": {env: "GRAHAK_ALL_MERCHANTS"},
		"role":          {value: "owner|admin|viewer", fallback: "owner", env: "GRAHAK_ROLE"},
		"url":           {value: "URL", env: "GRAHAK_DASHBOARD_URL"},
	}),
	"operator list": with(dataFlags, jsonFlags),
	"operator role": with(merchantFlags, map[string]flag{
		"merchant":      {value: "ID,...", env: "GRAHAK_MERCHANT"},
		"all-merchants": {env: "GRAHAK_ALL_MERCHANTS"},
		"role":          {value: "owner|admin|viewer", env: "GRAHAK_ROLE"},
		"remove":        {env: "GRAHAK_REMOVE"},
	}),
	"operator reset":   with(dataFlags, map[string]flag{"url": {value: "URL", env: "GRAHAK_DASHBOARD_URL"}}),
	"operator link":    with(dataFlags, map[string]flag{"url": {value: "URL", env: "GRAHAK_DASHBOARD_URL"}}),
	"operator disable": dataFlags,
	"operator enable":  dataFlags,
	"operator unlock":  dataFlags,
	"customer get":     with(merchantFlags, jsonFlags),
	"customer list": with(merchantFlags, jsonFlags, map[string]flag{
		"count":  {value: "N", fallback: "10", env: "GRAHAK_COUNT"},
		"offset": {value: "N", fallback: "0", env: "GRAHAK_OFFSET"},
		"after":  {value: "CURSOR", env: "GRAHAK_AFTER"},

		"reference":      {value: "TEXT", env: "GRAHAK_REFERENCE"},
		"email":          {value: "ADDRESS", env: "GRAHAK_EMAIL"},
		"mobile":         {value: "DIGITS", env: "GRAHAK_MOBILE"},
		"country-code":   {value: "DIGITS", env: "GRAHAK_COUNTRY_CODE"},
		"created-after":  {value: "TIME", env: "GRAHAK_CREATED_AFTER"},
		"created-before": {value: "TIME", env: "GRAHAK_CREATED_BEFORE"},
	}),
	"customer export": merchantFlags,
	"customer erase":  with(merchantFlags, map[string]flag{"yes": {env: "GRAHAK_YES"}}),
	"seal status":     with(folderFlags, jsonFlags, map[string]flag{"merchant": {value: "ID", env: "GRAHAK_MERCHANT"}}),
	"seal rotate": with(merchantFlags, map[string]flag{
		"all":     {env: "GRAHAK_ALL"},
		"no-wait": {env: "GRAHAK_NO_WAIT"},
	}),
	"seal rewrap":  with(dataFlags, map[string]flag{"yes": {env: "GRAHAK_YES"}}),
	"audit verify": with(merchantFlags, jsonFlags, map[string]flag{"anchor": {value: "POSITION:HASH", env: "GRAHAK_ANCHOR"}}),
	"audit events": with(dataFlags, jsonFlags, map[string]flag{
		"merchant": {value: "ID", env: "GRAHAK_MERCHANT"},
		"type":     {value: "TYPE", env: "GRAHAK_TYPE"},
		"after":    {value: "POSITION", fallback: "0", env: "GRAHAK_AFTER"},
		"since":    {value: "TIME", env: "GRAHAK_SINCE"},
	}),
	"import": with(merchantFlags, jsonFlags, map[string]flag{
		"format":               {value: "csv|ndjson", env: "GRAHAK_FORMAT"},
		"on-duplicate":         {value: "skip|update|fail", fallback: "fail", env: "GRAHAK_ON_DUPLICATE"},
		"dry-run":              {env: "GRAHAK_DRY_RUN"},
		"rejected":             {value: "FILE", env: "GRAHAK_REJECTED"},
		"ignore-unknown":       {env: "GRAHAK_IGNORE_UNKNOWN"},
		"restart":              {env: "GRAHAK_RESTART"},
		"default-country-code": {value: "DIGITS", fallback: "91", env: "GRAHAK_DEFAULT_COUNTRY_CODE"},
	}),
	"export": with(merchantFlags, map[string]flag{
		"format": {value: "csv|ndjson", fallback: "csv", env: "GRAHAK_FORMAT"},
		"output": {value: "FILE", env: "GRAHAK_OUTPUT"},
		"gzip":   {env: "GRAHAK_GZIP"},
	}),
	"copy": with(jsonFlags, map[string]flag{
		"from": {value: "URL", env: "GRAHAK_FROM"},
		"to":   {value: "URL", env: "GRAHAK_TO"},
	}),
	"backup":  with(folderFlags, jsonFlags),
	"restore": with(dataFlags, jsonFlags, map[string]flag{"verify-only": {env: "GRAHAK_VERIFY_ONLY"}}),
	"doctor":  serverFlags,
	"version": jsonFlags,
}

// TestHelp checks that --help of every command tells what it does, and of every flag what it is for, its default and
// its environment variable.
func TestHelp(t *testing.T) {
	got := map[string]map[string]flag{}
	for command, h := range readAllHelp(t) {
		if h.usage == "" || h.about == "" {
			t.Errorf("grahak %s --help says neither how it is used nor what it does", command)
		}
		texts := maps.Clone(h.commands)
		maps.Copy(texts, h.args)
		for name, f := range h.flags {
			texts["--"+name] = f.text
		}
		for name, text := range texts {
			if len(strings.Fields(text)) < 3 || !strings.HasSuffix(text, ".") {
				t.Errorf("grahak %s --help says of %s no more than %q", command, name, text)
			}
		}
		if len(h.commands) > 0 {
			continue
		}
		flags := map[string]flag{}
		for name, f := range h.flags {
			if name != "help" {
				f.text = ""
				flags[name] = f
			}
		}
		got[command] = flags
	}
	if diff := cmp.Diff(commandFlags, got, cmp.AllowUnexported(flag{})); diff != "" {
		t.Errorf("commands and flags (-want +got):\n%s", diff)
	}
	if args := readHelp(t, "iplist mode").args; !slices.Equal(slices.Collect(maps.Keys(args)), []string{"<mode>"}) {
		t.Errorf("grahak iplist mode --help tells of the arguments %v, want <mode>", args)
	}
}

// TestHelpTeaches checks what a first-time reader needs beyond the single flags.
func TestHelpTeaches(t *testing.T) {
	for command, words := range map[string][]string{
		"":                {"grahak serve", "grahak merchant create acme", "grahak key create --merchant acme", "GRAHAK_*", "the flag wins", "Exit status"},
		"serve":           {"openssl rand -base64 32", "grahak serve --env production --master-key-file", "SIGTERM or Ctrl-C", "GRAHAK_MASTER_KEY", "GRAHAK_DATABASE_URL=postgres://", "grahak migrate", "the same master key"},
		"migrate":         {"grahak migrate --database-url postgres://", "before you start a newer Grahak", "--distribute citus"},
		"merchant create": {"grahak merchant create acme"},
		"key import":      {"standard input", "grahak key import --merchant acme <key.txt", "16 to 256"},
		"key rotate":      {"--overlap 7d"},
		"customer export": {"umask 077", "SHA-256"},
		"import":          {"--dry-run", "--rejected rejected.csv", "metadata.KEY", "goes on where it has ended", "--on-duplicate skip", "no master key", "exit status is 1"},
		"export":          {"--gzip --output acme.csv.gz", "grahak import acme.csv.gz", "personal data in clear", "grahak customer export"},
		"customer erase":  {"--yes", "grahak seal rotate --merchant acme", "grahak seal rewrap", "events stay"},
		"seal":            {"grahak seal rotate --all", "grahak seal rewrap"},
		"seal rotate":     {"grahak seal rotate --merchant acme", "A running server does that", "interrupted at any time"},
		"seal rewrap":     {"openssl rand -base64 32", "on a line above the old one", "grahak seal rewrap --master-key-file master.key", "GRAHAK_MASTER_KEY", "--yes"},
		"audit verify":    {"grahak audit verify --merchant acme --anchor", "removed together", "Without the master key"},
		"audit events":    {"grahak audit events --merchant acme --type customer.erased", "no values"},
		"copy":            {"grahak copy --from sqlite:///", "--to postgres://", "goes on where it was", "pg_dump"},
		"backup":          {"grahak restore --verify-only", "beside a running server", "keep that apart"},
		"restore":         {"--data new --master-key-file master.key", "must not exist, or be empty", "erase them again"},
		"webhook":         {"grahak webhook create --url https://", "at least once", "Standard Webhooks"},
		"webhook test":    {"from this machine"},
		"operator":        {"grahak operator create asha --merchant acme --role owner", "owners", "admins", "viewers"},
		"operator create": {"/dashboard/setup", "grahak operator create asha --merchant acme --url https://", "never change", "master key"},
		"webhook replay":  {"--failed --merchant acme", "webhook-id"},
		"iplist":          {"grahak iplist add", "grahak iplist mode report", "grahak iplist mode enforce"},
		"doctor":          {"beside a running server"},
	} {
		r := run(t, append(strings.Fields(command), "--help")...).done(t)
		text := strings.Join(strings.Fields(r.stdout), " ")
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("grahak %s --help does not tell of %q", command, word)
			}
		}
	}
}
