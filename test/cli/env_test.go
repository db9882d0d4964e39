package cli_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
	"grahak/internal/testkit/postgres"
)

// long is too long for any name or label.
var long = strings.Repeat("x", 200)

// environment says for every variable a command that fails because of the value that the variable has, in words that
// match says, and succeeds although it has it when the flag says otherwise.
var environment = map[string]struct{ bad, says, command, flag string }{
	"GRAHAK_DATA":                 {"nowhere", `there is no data in "nowhere"`, "merchant list", "--data=data"},
	"GRAHAK_DATABASE_URL":         {"nowhere", "--database-url: this is not the URL of a database", "merchant list", "--database-url="},
	"GRAHAK_DATABASE_CONNECTIONS": {"x", `--database-connections: "x" is not a whole number`, "doctor", "--database-connections=8"},
	"GRAHAK_NO_LOCK":              {"maybe", `--no-lock: "maybe" is neither true nor false (from GRAHAK_NO_LOCK)`, "migrate", "--no-lock=false"},
	"GRAHAK_DISTRIBUTE":           {"x", `--distribute must be one of "citus" `, "migrate", "--distribute="},
	"GRAHAK_FORMAT":               {"xml", `--format must be one of "csv","ndjson" `, "export -m demo", "--format=ndjson"},
	"GRAHAK_ON_DUPLICATE":         {"keep", "--on-duplicate must be one of", "import rows.csv -m demo --dry-run", "--on-duplicate=skip"},
	"GRAHAK_DRY_RUN":              {"maybe", `--dry-run: "maybe" is neither true nor false (from GRAHAK_DRY_RUN)`, "import rows.csv -m demo --on-duplicate skip", "--dry-run"},
	"GRAHAK_REJECTED":             {"nowhere/x", "the folder nowhere does not exist: make it first", "import rows.csv -m demo --restart --on-duplicate skip", "--rejected=rejected.csv"},
	"GRAHAK_IGNORE_UNKNOWN":       {"false", `unknown columns "shoe"`, "import shoe.csv -m demo", "--ignore-unknown"},
	"GRAHAK_RESTART":              {"maybe", `--restart: "maybe" is neither true nor false (from GRAHAK_RESTART)`, "import rows.csv -m demo --on-duplicate skip", "--restart"},
	"GRAHAK_OUTPUT":               {"nowhere/x", "the folder nowhere does not exist: make it first", "export -m demo", "--output=out.csv"},
	"GRAHAK_GZIP":                 {"maybe", `--gzip: "maybe" is neither true nor false (from GRAHAK_GZIP)`, "export -m demo", "--gzip"},
	"GRAHAK_FROM":                 {"nowhere", "--from: this is not the URL of a database", "copy --to DATABASE", "--from=FOLDER"},
	"GRAHAK_TO":                   {"nowhere", "--to: this is not the URL of a database", "copy --from FOLDER", "--to=DATABASE"},
	"GRAHAK_MASTER_KEY_FILE":      {"nowhere", "the master key file nowhere cannot be used", "merchant create e1", "--master-key-file=data/master.key"},
	"GRAHAK_MASTER_KEY_COMMAND":   {"exit 5", "--master-key-command gave no master key: the command failed: exit status 5", "merchant create e3", "--master-key-command=cat data/master.key"},
	"GRAHAK_ENV":                  {"production", "production needs a master key", "doctor", "--env=sandbox"},
	"GRAHAK_LISTEN":               {"nowhere", `--listen "nowhere" is not an address`, "doctor", "--listen=127.0.0.1:0"},
	"GRAHAK_OPS_LISTEN":           {"nowhere", `--ops-listen "nowhere" is not an address`, "doctor", "--ops-listen=127.0.0.1:0"},
	"GRAHAK_PUBLIC_URL":           {"nowhere", "--public-url is not where an API can be", "doctor", "--public-url=https://api.example.com"},
	"GRAHAK_DASHBOARD_LISTEN":     {"nowhere", `--dashboard-listen "nowhere" is not an address`, "doctor", "--dashboard-listen=127.0.0.1:0"},
	"GRAHAK_TLS_CERT":             {"nowhere", "--tls-cert and --tls-key go together", "doctor", "--tls-cert="},
	"GRAHAK_TLS_KEY":              {"nowhere", "--tls-cert and --tls-key go together", "doctor", "--tls-key="},
	"GRAHAK_TLS_SELF_SIGNED":      {"maybe", `--tls-self-signed: "maybe" is neither true nor false (from GRAHAK_TLS_SELF_SIGNED)`, "doctor", "--tls-self-signed"},
	"GRAHAK_TRUSTED_PROXIES":      {"10.0.0.0/8,nowhere", `--trusted-proxies: "nowhere"`, "doctor", "--trusted-proxies=10.0.0.0/8,192.0.2.1"},
	"GRAHAK_DEFAULT_COUNTRY_CODE": {"x", "--default-country-code has 1 to 4 digits", "doctor", "--default-country-code=44"},
	"GRAHAK_IDEMPOTENCY_KEEP":     {"1s", "--idempotency-keep is at least 1m0s", "doctor", "--idempotency-keep=48h"},
	"GRAHAK_EVENTS_CATCH_UP":      {"0d", "--events-catch-up is more than 0", "doctor", "--events-catch-up=60d"},
	"GRAHAK_EVENTS_KEEP":          {"29d", "--events-keep is at least 30d", "doctor", "--events-keep=90d"},
	"GRAHAK_REQUESTS_KEEP":        {"soon", `"soon" is not a duration`, "doctor", "--requests-keep=7d"},
	"GRAHAK_REQUESTS_SIZE":        {"1kB", "--requests-size is at least 1MiB", "doctor", "--requests-size=64MiB"},
	"GRAHAK_MAX_CONNECTIONS":      {"0", "--max-connections is at least 1", "doctor", "--max-connections=1"},
	"GRAHAK_MAX_IN_PROGRESS":      {"1", "--max-in-progress is 0 or at least 2", "doctor", "--max-in-progress=2"},
	"GRAHAK_RATE_LIMIT_KEY":       {"-1", "--rate-limit-key is from 0 to 1000000", "doctor", "--rate-limit-key=0"},
	"GRAHAK_RATE_LIMIT_MERCHANT":  {"1000001", "--rate-limit-merchant is from 0 to 1000000", "doctor", "--rate-limit-merchant=1000000"},
	"GRAHAK_RATE_LIMIT_FAILED":    {"-60", "--rate-limit-failed is from 0 to 1000000", "doctor", "--rate-limit-failed=60"},
	"GRAHAK_LOG_FORMAT":           {"xml", "--log-format must be one of", "doctor", "--log-format=text"},
	"GRAHAK_LOG_LEVEL":            {"loud", "--log-level must be one of", "doctor", "--log-level=debug"},
	"GRAHAK_NAME":                 {long, "a merchant's name has at most 128 characters", "merchant create e2", "--name=Acme"},
	"GRAHAK_MERCHANT":             {"nobody", `there is no merchant "nobody"`, "key list", "--merchant=demo"},
	"GRAHAK_LABEL":                {long, "a key's label has at most 64 characters", "key create -m demo", "--label=x"},
	"GRAHAK_SCOPE":                {"admin", "--scope must be one of", "key create -m demo", "--scope=read"},
	"GRAHAK_EXPIRES_IN":           {"5x", `--expires-in: "5x" is not a duration`, "key create -m demo", "--expires-in=5d"},
	"GRAHAK_JSON":                 {"maybe", `--json: "maybe" is neither true nor false (from GRAHAK_JSON)`, "key create -m demo", "--json"},
	"GRAHAK_OVERLAP":              {"5x", `--overlap: "5x" is not a duration`, "key rotate -m demo KEY", "--overlap=5d"},
	"GRAHAK_COUNT":                {"0", "--count is from 1 to 100", "customer list -m demo", "--count=1"},
	"GRAHAK_OFFSET":               {"-1", "--offset is from 0", "customer list -m demo", "--offset=1"},
	"GRAHAK_VERIFY_ONLY":          {"maybe", `--verify-only: "maybe" is neither true nor false (from GRAHAK_VERIFY_ONLY)`, "restore backup", "--verify-only"},
	"GRAHAK_REFERENCE":            {long, "--reference has 1 to 128 characters", "customer list -m demo", "--reference=x"},
	"GRAHAK_EMAIL":                {"x", "--email is not an e-mail address", "customer list -m demo", "--email=asha@example.com"},
	"GRAHAK_MOBILE":               {"x", "--mobile has 1 to 16 digits", "customer list -m demo", "--mobile=1"},
	"GRAHAK_COUNTRY_CODE":         {"x", "--country-code has 1 to 4 digits", "customer list -m demo --mobile 1", "--country-code=91"},
	"GRAHAK_CREATED_AFTER":        {"x", `--created-after: "x" is not a time`, "customer list -m demo", "--created-after=2026-03-17"},
	"GRAHAK_CREATED_BEFORE":       {"x", `--created-before: "x" is not a time`, "customer list -m demo", "--created-before=2026-03-17"},
	"GRAHAK_YES":                  {"maybe", `--yes: "maybe" is neither true nor false (from GRAHAK_YES)`, "customer erase gone -m demo", "--yes"},
	"GRAHAK_ALL":                  {"maybe", `--all: "maybe" is neither true nor false (from GRAHAK_ALL)`, "seal rotate", "--all"},
	"GRAHAK_NO_WAIT":              {"maybe", `--no-wait: "maybe" is neither true nor false (from GRAHAK_NO_WAIT)`, "seal rotate -m demo", "--no-wait"},
	"GRAHAK_ANCHOR":               {"x", `--anchor: "x" is not an anchor`, "audit verify -m demo", "--anchor=HEAD"},
	"GRAHAK_AFTER":                {"x", "--after is not the cursor", "customer list -m demo", "--after="},
	"GRAHAK_TYPE":                 {"x", "--type must be one of", "audit events", "--type=customer.erased"},
	"GRAHAK_WEBHOOK_ALLOW":        {"hooks.internal,http://x", `--webhook-allow: "http://x" is neither a host name`, "doctor", "--webhook-allow=hooks.internal,10.0.0.0/8"},
	"GRAHAK_URL":                  {"nowhere", "the URL is not one that events can be sent to", "webhook create -m demo", "--url=https://hooks.example.com/"},
	"GRAHAK_TYPES":                {"customer.erased,x", `events of the type "x" are not sent`, "webhook create -m demo --url https://hooks.example.com/", "--types=customer.erased,customer.created"},
	"GRAHAK_FAILED":               {"maybe", `--failed: "maybe" is neither true nor false (from GRAHAK_FAILED)`, "webhook log -m demo WEBHOOK", "--failed"},
	"GRAHAK_EVENT":                {"evt_x", "the merchant has no event evt_x", "webhook replay -m demo WEBHOOK", "--event=EVENT"},
	"GRAHAK_FROM_POSITION":        {"x", `--from: "x" is not a whole number`, "webhook replay -m demo WEBHOOK --to 9", "--from=1"},
	"GRAHAK_TO_POSITION":          {"x", `--to: "x" is not a whole number`, "webhook replay -m demo WEBHOOK --from 1", "--to=9"},
	"GRAHAK_ALL_MERCHANTS":        {"maybe", `--all-merchants: "maybe" is neither true nor false (from GRAHAK_ALL_MERCHANTS)`, "operator create e4", "--all-merchants"},
	"GRAHAK_ROLE":                 {"king", "--role must be one of", "operator create e5 -m demo", "--role=viewer"},
	"GRAHAK_REMOVE":               {"maybe", `--remove: "maybe" is neither true nor false (from GRAHAK_REMOVE)`, "operator role sandbox --all-merchants", "--remove"},
	"GRAHAK_DASHBOARD_URL":        {"nowhere", "--url is not where a dashboard can be", "operator create e6 -m demo", "--url=https://pay.example.com"},
	"GRAHAK_SINCE":                {"x", `--since: "x" is not a time`, "audit events", "--since=2026-03-17"},
}

// TestEnvironment checks that every flag of every command can be set by its variable, and that the flag wins.
func TestEnvironment(t *testing.T) {
	var documented []string
	for _, h := range readAllHelp(t) {
		for _, f := range h.flags {
			if f.env != "" {
				documented = append(documented, f.env)
			}
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(slices.Compact(documented), slices.Sorted(maps.Keys(environment))); diff != "" {
		t.Fatalf("variables (-documented +tested):\n%s", diff)
	}

	folder := t.TempDir()
	t.Chdir(folder)
	s := testkit.Start(t, "data")
	caller{base: s.BaseURL, key: s.Key}.create(t, "gone")
	settle(t, "data")
	s.Stop(t)
	_, head, _ := strings.Cut(strings.TrimSpace(run(t, "audit", "verify", "-m", "demo", "--data", "data").done(t).stdout), ", head ")
	key := createKey(t, "data", "demo")
	run(t, "backup", "backup", "--data", "data").done(t)
	var hook, event struct{ ID string }
	for into, args := range map[any]string{
		&hook:  "webhook create --url https://hooks.example.com/ --json",
		&event: "audit events --type customer.created --json",
	} {
		if err := json.Unmarshal([]byte(run(t, append(strings.Fields(args), "-m", "demo", "--data", "data")...).done(t).stdout), into); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"rows.csv": "object_reference_id,mobile_number\nrow@example.com,9988776655\n",
		"shoe.csv": "object_reference_id,mobile_number,shoe\nshoe@example.com,9988776655,44\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range environment {
		t.Run(name, func(t *testing.T) {
			words := []string{"WEBHOOK", hook.ID, "EVENT", event.ID, "KEY", key.ID, "HEAD", head, "FOLDER", "sqlite://" + filepath.Join(folder, "data")}
			if strings.HasPrefix(v.command, "copy") {
				words = append(words, "DATABASE", postgres.Shared(t).Database(t))
			}
			known := strings.NewReplacer(words...)
			args := strings.Fields(known.Replace(v.command))
			env := []string{name + "=" + v.bad}
			if name != "GRAHAK_DATA" {
				env = append(env, "GRAHAK_DATA=data")
			}
			r := runEnv(t, env, args...)
			if r.status == 0 || !strings.Contains(r.stdout+r.stderr, v.says) {
				t.Errorf("with %s: exit status %d\nstdout: %s\nstderr: %s\nwant a failure that says %q", env[0], r.status, r.stdout, r.stderr, v.says)
			}
			runEnv(t, env, append(args, known.Replace(v.flag))...).done(t)
		})
	}
}

// TestMasterKeyInEnvironment checks the one setting that is a variable only.
func TestMasterKeyInEnvironment(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	testkit.Start(t, data).Stop(t)
	path := filepath.Join(data, "master.key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	args := []string{"merchant", "create", "acme", "--data", data}
	run(t, args...).refused(t, 1, "there is no master key in .*: put the file back, or give the key with --master-key-file, --master-key-command or GRAHAK_MASTER_KEY; customers are sealed under it and cannot be read without it$")
	runEnv(t, []string{"GRAHAK_MASTER_KEY=nonsense"}, args...).refused(t, 1, "GRAHAK_MASTER_KEY is not a master key: a master key is the base64 of 32 random bytes")
	runEnv(t, []string{"GRAHAK_MASTER_KEY=" + string(key)}, append(args, "--master-key-file", "nowhere")...).
		refused(t, 2, `^--master-key-file and GRAHAK_MASTER_KEY exclude each other\. See grahak merchant create --help\.$`)
	runEnv(t, []string{"GRAHAK_MASTER_KEY=" + string(key)}, args...).done(t)
}
