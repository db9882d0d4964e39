package sealed_test

import (
	"database/sql" //nolint:depguard // This test does what somebody does who can write the database file.
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/seal"
	"grahak/internal/sqlstore"
	"grahak/internal/testkit"
)

// alteration changes the database of a server that is stopped.
type alteration struct {
	t    *testing.T
	db   *sql.DB
	own  *town // whose rows are altered
	twin *town // another merchant, whose rows it may take
}

// exec runs a statement, which must change something.
func (x *alteration) exec(query string, args ...any) {
	x.t.Helper()
	result, err := x.db.ExecContext(x.t.Context(), query, args...)
	if err != nil {
		x.t.Fatalf("%s: %v", query, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		x.t.Fatalf("%s: changed %d rows (%v)", query, n, err)
	}
}

// column returns a column of bytes of one row.
func (x *alteration) column(query string, args ...any) (value []byte) {
	x.t.Helper()
	if err := x.db.QueryRowContext(x.t.Context(), query, args...).Scan(&value); err != nil {
		x.t.Fatalf("%s: %v", query, err)
	}
	return value
}

// MustOpenDatabase opens the database file itself.
func MustOpenDatabase(t *testing.T, data string) *sql.DB {
	t.Helper()
	// The driver is sqlstore's.
	db, err := sql.Open("sqlite", "file:"+database(data)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// outcome is what somebody gets who asks.
type outcome string

const (
	right   outcome = "right"   // what was acknowledged
	missing outcome = "missing" // as if it were not there
	fault   outcome = "fault"   // 500, which says nothing
	down    outcome = "down"    // 503
	// A rotation is stuck when a customer does not open, and refused if no key can
	// be made; under way is one that goes on for ever.
	stuck    outcome = "stuck"
	refused  outcome = "refused"
	underWay outcome = "under way"
)

// rule is what may come of requests whose names match a pattern.
type rule struct {
	pattern string
	allowed []outcome
}

// get returns a rule.
func get(pattern string, allowed ...outcome) rule { return rule{pattern, allowed} }

// altered is one thing that is altered, at a merchant of its own.
type altered struct {
	alter func(x *alteration)
	twin  bool // it takes another merchant's rows
	// rules are for what is not right, the first that matches. Requests about the
	// merchant whose rows were taken have names that begin with "twin ".
	rules []rule
	// says are patterns of errors in the log, with VICTIM, SECOND, MERCHANT and TWIN
	// for ids.
	says []string
	// audit is a pattern of what grahak audit verify says of the merchant, and
	// twinAudit of the twin; empty if all is well.
	audit, twinAudit string
}

// The people of each merchant.
const (
	victim = iota
	second
	bystander
	fourth
	created // while the altered database is served
)

var names = []string{"victim", "second", "bystander", "fourth", "new"}

// town is a merchant of a test of alterations, with its people.
type town struct {
	name   string // of what is altered
	prefix string // of its requests
	altered
	id     grahak.MerchantID
	key    string
	twin   *town // nil without one
	of     *town // whose twin it is, nil if it is none
	people []customer
	missed map[int]bool // people who are erased
	client *client
	faults []answer
}

// allowed returns what may come of a request.
func (w *town) allowed(request string) []outcome {
	for _, r := range w.rules {
		if regexp.MustCompile("^(" + r.pattern + ")$").MatchString(w.prefix + request) {
			return r.allowed
		}
	}
	switch {
	case strings.HasPrefix(request, "gone "):
		return []outcome{missing}
	}
	return []outcome{right}
}

// judge fails the test unless what has come of a request is allowed.
func (w *town) judge(t *testing.T, when, request string, got outcome, a answer) {
	t.Helper()
	if got == fault {
		w.faults = append(w.faults, a)
	}
	if allowed := w.allowed(request); !slices.Contains(allowed, got) {
		t.Errorf("%s, %s: %s%s: %s, want %v: %d %.200s", w.name, when, w.prefix, request, got, allowed, a.status, a.body)
	}
}

// ask sends a request and returns what has come of it, if that is an outage, a
// fault or an error; otherwise nothing.
func (w *town) ask(t *testing.T, cases map[string]wireCase, method, path string, fields url.Values) (answer, outcome) {
	t.Helper()
	a, err := w.client.do(t.Context(), method, path, fields)
	switch {
	case err != nil:
		return a, outcome("not answered: " + err.Error())
	case a.is(cases["internal_error"]):
		return a, fault
	case a.is(cases["unavailable"]) && a.header.Get("Retry-After") != "":
		return a, down
	case a.status >= 500:
		return a, "an error with another body"
	}
	return a, ""
}

// seek asks for one customer.
func (w *town) seek(t *testing.T, cases map[string]wireCase, way way, want customer) (answer, outcome) {
	t.Helper()
	a, got := w.ask(t, cases, http.MethodGet, way.path, nil)
	if got != "" {
		return a, got
	}
	found, err := a.found(way)
	switch {
	case err != nil:
		return a, outcome("wrong: " + err.Error())
	case found == nil:
		return a, missing
	case !cmp.Equal(*found, want):
		return a, outcome("wrong: another customer:\n" + cmp.Diff(want, *found))
	}
	return a, right
}

// see asks for everybody, in every way.
func (w *town) see(t *testing.T, cases map[string]wireCase, when string) {
	t.Helper()
	for i, c := range w.people {
		who, ways := names[i], map[string]way{"id": byID(c), "reference": byReference(c)}
		for j, by := range []string{"search reference", "search number", "search email"} {
			ways[by] = bySearch(c)[j]
		}
		if w.missed[i] {
			who = "gone " + who
		}
		for by, way := range ways {
			a, got := w.seek(t, cases, way, c)
			w.judge(t, when, who+" "+by, got, a)
		}
	}
	if len(w.missed) == 0 {
		w.list(t, cases, when, "list")
	} else {
		w.list(t, cases, when, "last list")
	}
	if w.of != nil {
		stranger := w.of.people[victim]
		a, got := w.seek(t, cases, byID(stranger), stranger)
		if got == right {
			got = "shown to another merchant"
		}
		w.judge(t, when, "gone stranger", got, a)
	}
}

// list asks for the list.
func (w *town) list(t *testing.T, cases map[string]wireCase, when, request string) {
	t.Helper()
	a, got := w.ask(t, cases, http.MethodGet, "/customers?count=100", nil)
	if got == "" {
		page, err := a.page()
		got = right
		if err != nil {
			got = outcome("wrong: " + err.Error())
		}
		there := make(map[string]customer)
		for i, c := range w.people {
			if !w.missed[i] {
				there[c.ID] = c
			}
		}
		for _, c := range page.List {
			if !cmp.Equal(there[c.ID], c) {
				got = outcome("wrong: it has " + c.ID)
			}
			delete(there, c.ID)
		}
		if got == right && len(there) > 0 {
			got = missing
		}
	}
	w.judge(t, when, request, got, a)
}

// write creates a customer, who is a new one then, and changes the victim.
func (w *town) write(t *testing.T, cases map[string]wireCase) {
	t.Helper()
	fields := form(created)
	blank := made(customer{}, fields)
	a, got := w.ask(t, cases, http.MethodPost, "/customers", fields)
	if got == "" {
		c, err := a.customer()
		if got = right; err != nil || a.status != http.StatusOK || !blank.same(c) {
			got = "wrong"
		}
		w.people = append(w.people, c)
	}
	w.judge(t, "written", "create", got, a)

	fields = url.Values{"email_address": {"changed@example.com"}, "first_name": {"Changed"}}
	changed := made(w.people[victim], fields)
	a, got = w.ask(t, cases, http.MethodPost, byID(changed).path, fields)
	if got == "" {
		c, err := a.customer()
		switch {
		case a.is(cases["customer_not_found"]):
			got = missing
		case err == nil && a.status == http.StatusOK && changed.same(c):
			got, w.people[victim] = right, c
		default:
			got = "wrong"
		}
	}
	w.judge(t, "written", "victim update", got, a)
}

// erase erases the victim, by reference if that does, and the second.
func (w *town) erase(t *testing.T, cases map[string]wireCase) {
	t.Helper()
	try := func(who int, by string, way way) bool {
		t.Helper()
		c := w.people[who]
		a, got := w.ask(t, cases, http.MethodDelete, way.path, nil)
		if got == "" {
			switch {
			case a.is(cases["customer_not_found"]):
				got = missing
			case a.body == fmt.Sprintf(`{"id":%q,"object":"customer","deleted":true}`, c.ID):
				got = right
			default:
				got = "wrong"
			}
		}
		w.judge(t, "erased", names[who]+" erase "+by, got, a)
		if got == right {
			w.missed[who] = true
		}
		return got == right
	}
	if !try(victim, "reference", byReference(w.people[victim])) {
		try(victim, "id", byID(w.people[victim]))
	}
	try(second, "id", byID(w.people[second]))
}

// region is the towns of a test, in one data folder.
type region struct {
	t      *testing.T
	data   string
	server *testkit.Server
	towns  []*town // twins, too
	cases  map[string]wireCase
	secret *scanner // of everything that may not be in the log
}

// settle makes the towns and their people, with the look-up index of each in
// several runs, and stops the server.
func settle(t *testing.T, list map[string]altered) *region {
	t.Helper()
	r := &region{t: t, data: filepath.Join(t.TempDir(), "data"), cases: MustWireCases(t), secret: newScanner()}
	r.server = testkit.Start(t, r.data)
	store := MustOpen(t, r.data)
	defer store.Close()
	service := r.service(store)
	found := func(w *town) {
		t.Helper()
		w.missed = make(map[int]bool)
		c := grahak.Operator(w.id, "test")
		if _, err := service.CreateMerchant(t.Context(), c, "A merchant"); err != nil {
			t.Fatal(err)
		}
		var err error
		if _, w.key, err = service.CreateKey(t.Context(), c, grahak.KeySpec{Scope: grahak.ScopeWrite}); err != nil {
			t.Fatal(err)
		}
		w.client = newClient(r.server.BaseURL, w.key)
	}
	for i, name := range slices.Sorted(maps.Keys(list)) {
		w := &town{name: name, altered: list[name], id: grahak.MerchantID(fmt.Sprintf("town%02d", i))}
		found(w)
		r.towns = append(r.towns, w)
		if w.altered.twin {
			w.twin = &town{name: name, prefix: "twin ", altered: altered{rules: w.rules, audit: w.twinAudit}, id: "twin-of-" + w.id, of: w}
			found(w.twin)
			r.towns = append(r.towns, w.twin)
		}
	}
	for _, wave := range [][]int{{victim, bystander}, {second}, {fourth}} {
		r.each(func(w *town) {
			w.people = append(w.people, make([]customer, fourth+1-len(w.people))...)
			for _, n := range wave {
				a, err := w.client.do(t.Context(), http.MethodPost, "/customers", form(n))
				if err == nil {
					w.people[n], err = a.customer()
				}
				if err != nil || a.status != http.StatusOK {
					t.Errorf("create: %d %s (%v)", a.status, a.body, err)
				}
			}
		})
		r.ordered(store, nil)
	}
	for n := range created + 1 {
		for name, values := range form(n) {
			r.secret.plant(fmt.Sprintf("the %s of %s", name, names[n]), values[0])
		}
	}
	r.secret.plant("the changed address", "changed@example.com")
	r.stop()
	return r
}

// service returns the use cases over a store, without a server.
func (r *region) service(store *sqlstore.SQLite) *grahak.Service {
	r.t.Helper()
	masters := seal.NewMasterKeys(seal.FileKeys(filepath.Join(r.data, keyFile)), 0)
	r.t.Cleanup(masters.Close)
	service, err := grahak.NewService(grahak.Config{
		Store: store, Sealer: seal.NewSealer(masters, store), Environment: grahak.Sandbox, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return service
}

// each does something for each town, several at a time.
func (r *region) each(work func(w *town)) {
	var working sync.WaitGroup
	next := make(chan *town)
	for range 8 {
		working.Go(func() {
			for w := range next {
				work(w)
			}
		})
	}
	for _, w := range r.towns {
		next <- w
	}
	close(next)
	working.Wait()
}

// ordered waits until the events of all merchants are in order, but for those
// where something is altered that may keep them from it.
func (r *region) ordered(store *sqlstore.SQLite, except map[grahak.MerchantID]bool) {
	r.t.Helper()
	eventually(r.t, "events are in order", func() bool {
		pending, err := store.Unordered(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		return !slices.ContainsFunc(pending, func(m grahak.MerchantID) bool { return !except[m] })
	})
}

func (r *region) start() {
	r.t.Helper()
	r.server = testkit.Start(r.t, r.data)
	for _, w := range r.towns {
		w.client = newClient(r.server.BaseURL, w.key)
	}
}

func (r *region) stop() {
	r.t.Helper()
	for _, w := range r.towns {
		w.client.close()
	}
	r.server.Stop(r.t)
}

// live serves the altered data: everybody is looked for, changed, sealed anew and
// erased, and everybody else is as they were all the while.
func (r *region) live() {
	t := r.t
	t.Helper()
	db := MustOpenDatabase(t, r.data)
	for _, w := range r.towns {
		if w.alter != nil {
			w.alter(&alteration{t, db, w, w.twin})
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	see := func(when string) {
		t.Helper()
		r.each(func(w *town) { w.see(t, r.cases, when) })
	}
	see("served")
	r.each(func(w *town) { w.write(t, r.cases) })
	see("written")
	store := MustOpen(t, r.data)
	except := make(map[grahak.MerchantID]bool)
	for _, w := range r.towns {
		except[w.id] = !slices.Equal(w.allowed("order"), []outcome{right})
	}
	r.ordered(store, except)
	see("ordered")
	r.rotate(store, "rotation")
	see("rotated")
	r.each(func(w *town) { w.erase(t, r.cases) })
	see("erased")
	r.rotate(store, "last rotation")
	r.ordered(store, except)
	see("rotated again")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	c := newClient(r.server.OpsURL, "")
	defer c.close()
	if a, err := c.get(t.Context(), "x"); err != nil || a.status != http.StatusNotFound {
		t.Errorf("the operations listener: %d %s (%v)", a.status, a.body, err)
	}
	r.stop()
	r.readLog()
	r.audit()
}

// rotate makes new keys and waits until the server has done with that what it
// can.
func (r *region) rotate(store *sqlstore.SQLite, request string) {
	t := r.t
	t.Helper()
	service := r.service(store)
	var rotating []*town
	for _, w := range r.towns {
		_, _, err := service.RotateSeal(t.Context(), grahak.Operator(w.id, "test"))
		switch {
		case err != nil:
			w.judge(t, "rotated", request, refused, answer{body: err.Error()})
		case !slices.Contains(w.allowed(request), underWay):
			rotating = append(rotating, w)
		}
	}
	for _, w := range rotating {
		eventually(t, w.name+": the rotation ends", func() bool {
			state, err := store.SealState(t.Context(), w.id)
			if err != nil {
				t.Fatal(err)
			}
			got := right
			switch {
			case state.Complete():
			case !state.Walking && state.Unopened > 0:
				got = stuck
			default:
				return false
			}
			w.judge(t, "rotated", request, got, answer{body: fmt.Sprint(state.Unopened)})
			return true
		})
	}
}

// logLine is a line of the server's log.
type logLine struct {
	Level   string
	Msg     string
	Error   string
	Request string `json:"request_id"`
}

// readLog fails the test unless the log tells the operator what the clients were
// not told, and nothing of anybody.
func (r *region) readLog() {
	t := r.t
	t.Helper()
	log := r.server.Log(t)
	r.secret.wantNothing(t, "the log", []byte(log))
	faults := make(map[string]string) // lines by request
	var all strings.Builder
	for text := range strings.Lines(log) {
		var line logLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v in the line %s", err, text)
		}
		if line.Level == "ERROR" {
			faults[line.Request] = text
			all.WriteString(line.Msg + ": " + line.Error + "\n")
		}
	}
	for _, w := range r.towns {
		ids := strings.NewReplacer("VICTIM", w.people[victim].ID, "SECOND", w.people[second].ID, "MERCHANT", string(w.id), "TWIN", "twin-of-"+string(w.id))
		for _, pattern := range w.says {
			if pattern = ids.Replace(pattern); !regexp.MustCompile("(?m)" + pattern).MatchString(all.String()) {
				t.Errorf("%s: the log does not say %s", w.name, pattern)
			}
		}
		for _, a := range w.faults {
			if line := faults[a.header.Get("X-Request-Id")]; !strings.Contains(line, string(w.id)) || !strings.Contains(line, `"error":"`) {
				t.Errorf("%s: the log says of a fault at merchant %s only %s", w.name, w.id, line)
				break
			}
		}
	}
}

// audit compares what audit verify says of each merchant.
func (r *region) audit() {
	t := r.t
	t.Helper()
	for _, w := range r.towns {
		got := run(t, "audit", "verify", "--merchant", string(w.id), "--data", r.data)
		text := got.out + got.stderr
		switch {
		case w.altered.audit == "" && got.status != 0:
			t.Errorf("%s: audit verify: exit status %d, %s", w.name, got.status, text)
		case w.altered.audit != "" && (got.status != 1 || !regexp.MustCompile(w.altered.audit).MatchString(text)):
			t.Errorf("%s: audit verify: exit status %d, %s, want 1 and %s", w.name, got.status, text, w.altered.audit)
		}
	}
}
