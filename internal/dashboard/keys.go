package dashboard

import (
	"cmp"
	"slices"
	"time"

	"grahak"
)

var keyRoutes = []route{
	get(atMerchant+"keys", member, keys),
	post(atMerchant+"keys", member, createKey),
	get(atMerchant+"keys/{key}/rotate", member, showRotateKey),
	post(atMerchant+"keys/{key}/rotate", member, rotateKey),
	get(atMerchant+"keys/{key}/revoke", member, showRevokeKey),
	post(atMerchant+"keys/{key}/revoke", member, revokeKey),
}

const (
	// keyExpiresSoon is how long before its end a key is warned of.
	keyExpiresSoon = 14 * 24 * time.Hour
	// endedKeys is how many keys that have ended are listed.
	endedKeys = 50
	// keyUnused is after how long without use a key is warned of.
	keyUnused = 90 * 24 * time.Hour
)

// keysView is a merchant's API keys.
type keysView struct {
	place
	Keys     []keyRow
	Empty    empty
	Create   keyForm
	Warnings int
	// More is how many others have ended.
	More int
}

// keyRow is an API key in the list.
type keyRow struct {
	grahak.APIKey
	State badge
	// Warning says what to look after, if there is something.
	Warning string
	Active  bool
}

// keyForm is the form that makes a key.
type keyForm struct {
	Label, Scope, Expiry formField
	Once                 hidden
	Error                string
}

// keyMadeView shows a key, once.
type keyMadeView struct {
	place
	Key    grahak.APIKey
	Title  string
	Secret secretBox
	Try    copyable
	// Old is the key that a rotation replaces, and OldUntil until when it can be used.
	Old      grahak.APIKey
	OldUntil time.Time
}

// keyChangeView asks before a key is rotated or revoked.
type keyChangeView struct {
	place
	keyRow
	URL             string
	Overlap, Expiry formField
	Once            hidden
	Error           string
}

// expiresSoon reports whether a key that is active at a time is to be warned of.
func expiresSoon(k grahak.APIKey, now time.Time) bool {
	return !k.ExpiresAt.IsZero() && k.ExpiresAt.Sub(now) <= keyExpiresSoon
}

// keyName is what people call a key.
func keyName(k grahak.APIKey) string { return cmp.Or(k.Label, k.Prefix+"…") }

// newKeyRow returns a key as the list shows it at a time.
func newKeyRow(k grahak.APIKey, now time.Time) keyRow {
	row := keyRow{APIKey: k, State: badge{"ok", "active"}, Active: k.ActiveAt(now)}
	used := k.LastUsedAt
	if used.IsZero() {
		used = k.CreatedAt
	}
	switch {
	case !k.RevokedAt.IsZero():
		row.State = badge{"plain", "revoked"}
	case !row.Active:
		row.State = badge{"plain", "expired"}
	case expiresSoon(k, now):
		row.State, row.Warning = badge{"warn", "expires soon"}, "Rotate it, or let it end if nothing needs it."
	case now.Sub(used) >= keyUnused:
		row.State, row.Warning = badge{"warn", "unused"}, "Not used for 90 days: revoke it if nothing needs it."
	}
	return row
}

func (p *page) keysView() (keysView, error) {
	list, err := p.edge.service.Keys(p.ctx(), p.Caller)
	if err != nil {
		return keysView{}, err
	}
	view := keysView{place: p.place(), Empty: empty{
		Title: "No API keys yet", Text: "A program needs a key to call the API. Make one below: it is shown once, with a command to try it.",
	}}
	now := p.edge.cfg.Clock.Now()
	for _, k := range slices.Backward(list) {
		row := newKeyRow(k, now)
		if row.Warning != "" {
			view.Warnings++
		}
		view.Keys = append(view.Keys, row)
	}
	slices.SortStableFunc(view.Keys, func(a, b keyRow) int { return cmp.Compare(ended(a), ended(b)) })
	if first := slices.IndexFunc(view.Keys, func(k keyRow) bool { return !k.Active }); first >= 0 {
		view.More = max(0, len(view.Keys)-first-endedKeys)
		view.Keys = view.Keys[:len(view.Keys)-view.More]
	}
	if view.Create.Once, err = p.once(); err != nil {
		return keysView{}, err
	}
	view.Create.Label = formField{
		Name: "label", Label: "Label", Value: p.field("label"), MaxLength: grahak.MaxName, Autocomplete: "off",
		Hint: "Which program holds it, such as checkout or nightly export.",
	}
	view.Create.Scope = formField{
		Name: "scope", Label: "It may", Options: choices(cmp.Or(p.field("scope"), string(grahak.ScopeWrite)),
			option{Value: string(grahak.ScopeWrite), Label: "Read and write"}, option{Value: string(grahak.ScopeRead), Label: "Read only"}),
	}
	view.Create.Expiry = p.expiryField()
	return view, nil
}

// ended is 1 for a key that opens nothing any more, which comes behind the others.
func ended(k keyRow) int {
	if k.Active {
		return 0
	}
	return 1
}

// expiries are the choices of how long a key can be used.
var expiries = []struct {
	value, label string
	time         time.Duration
}{
	{"", "Never", 0},
	{"30d", "In 30 days", 30 * 24 * time.Hour},
	{"90d", "In 90 days", 90 * 24 * time.Hour},
	{"180d", "In 180 days", 180 * 24 * time.Hour},
	{"365d", "In a year", 365 * 24 * time.Hour},
}

func (p *page) expiryField() formField {
	f := formField{Name: "expires", Label: "It expires"}
	for _, e := range expiries {
		f.Options = append(f.Options, option{Value: e.value, Label: e.label, Selected: e.value == p.field("expires")})
	}
	return f
}

// expiry returns when the key expires that the form asks for, zero for never.
func (p *page) expiry() (time.Time, error) {
	for _, e := range expiries {
		if e.value != p.field("expires") {
			continue
		}
		if e.time == 0 {
			return time.Time{}, nil
		}
		return p.edge.cfg.Clock.Now().Add(e.time), nil
	}
	return time.Time{}, errMalformedForm
}

// overlaps are the choices of how long an old secret holds beside a new one.
var overlaps = []struct {
	value, label string
	time         time.Duration
}{
	{"24h", "24 hours", 24 * time.Hour},
	{"0", "Not at all: the old one stops now", 0},
	{"1h", "1 hour", time.Hour},
	{"7d", "7 days", 7 * 24 * time.Hour},
}

func (p *page) overlapField(label string) formField {
	f := formField{Name: "overlap", Label: label, Hint: "Both work for that long, so that programs can change over without a failure."}
	for _, o := range overlaps {
		f.Options = append(f.Options, option{Value: o.value, Label: o.label, Selected: o.value == p.field("overlap")})
	}
	return f
}

// overlap returns the choice that the form was sent with.
func (p *page) overlap() (time.Duration, error) {
	for _, o := range overlaps {
		if o.value == p.field("overlap") {
			return o.time, nil
		}
	}
	return 0, errMalformedForm
}

func keys(p *page) error {
	view, err := p.keysView()
	if err != nil {
		return err
	}
	return p.render("keys", "API keys", view)
}

func createKey(p *page) error {
	expires, err := p.expiry()
	if err != nil {
		return err
	}
	if err := p.claim(); err != nil {
		return err
	}
	key, secret, err := p.edge.service.CreateKey(p.ctx(), p.Caller, grahak.KeySpec{
		Label: p.field("label"), Scope: grahak.Scope(p.field("scope")), ExpiresAt: expires,
	})
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		view, err := p.keysView()
		if err != nil {
			return err
		}
		view.Create.Label.Error = message
		return p.refuse("keys", "API keys", view)
	}
	if err != nil {
		return err
	}
	return p.showKey(keyMadeView{place: p.place(), Title: "The new API key", Key: key}, secret)
}

// showKey answers with a key that was made.
func (p *page) showKey(view keyMadeView, secret string) error {
	view.Secret = secretBox{Label: "API key", Value: secret, Note: "It is not kept and cannot be shown again. Put it where the program reads its secrets, and nowhere else."}
	view.Try = copyable{Label: "command", Text: "curl -u " + secret + ": '" + p.apiURL() + "/customers?count=1'"}
	return p.render("keymade", view.Title, view)
}

// apiURL returns where the API is, as far as the pages know.
func (p *page) apiURL() string { return cmp.Or(p.edge.cfg.API, p.ownURL("")) }

// key returns the key of the path. Code: [grahak.CodeKeyNotFound].
func (p *page) key() (grahak.APIKey, error) {
	list, err := p.edge.service.Keys(p.ctx(), p.Caller)
	if err != nil {
		return grahak.APIKey{}, err
	}
	i := slices.IndexFunc(list, func(k grahak.APIKey) bool { return string(k.ID) == p.value("key") })
	if i < 0 {
		return grahak.APIKey{}, grahak.Errorf(grahak.CodeKeyNotFound, "There is no such key.")
	}
	return list[i], nil
}

// keyChangeView returns what is asked before a change of the path's key.
func (p *page) keyChangeView(change string) (keyChangeView, error) {
	k, err := p.key()
	if err != nil {
		return keyChangeView{}, err
	}
	view := keyChangeView{
		place: p.place(), keyRow: newKeyRow(k, p.edge.cfg.Clock.Now()), URL: p.base() + "/keys/" + string(k.ID) + "/" + change,
		Overlap: p.overlapField("The old key goes on working for"), Expiry: p.expiryField(),
	}
	view.Once, err = p.once()
	return view, err
}

func showRotateKey(p *page) error {
	view, err := p.keyChangeView("rotate")
	if err != nil {
		return err
	}
	return p.render("keyrotate", "Rotate an API key", view)
}

func rotateKey(p *page) error {
	expires, err := p.expiry()
	if err != nil {
		return err
	}
	overlap, err := p.overlap()
	if err != nil {
		return err
	}
	old, err := p.key()
	if err != nil {
		return err
	}
	if err := p.claim(); err != nil {
		return err
	}
	key, secret, err := p.edge.service.RotateKey(p.ctx(), p.Caller, old.ID, overlap, expires)
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		view, err := p.keyChangeView("rotate")
		if err != nil {
			return err
		}
		view.Error = message
		return p.refuse("keyrotate", "Rotate an API key", view)
	}
	if err != nil {
		return err
	}
	return p.showKey(keyMadeView{
		place: p.place(), Title: "The key that takes over", Key: key, Old: old, OldUntil: key.CreatedAt.Add(overlap),
	}, secret)
}

func showRevokeKey(p *page) error {
	view, err := p.keyChangeView("revoke")
	if err != nil {
		return err
	}
	return p.render("keyrevoke", "Revoke an API key", view)
}

func revokeKey(p *page) error {
	k, err := p.key()
	if err != nil {
		return err
	}
	if err := p.edge.service.RevokeKey(p.ctx(), p.Caller, k.ID); err != nil {
		return err
	}
	return p.redirect(p.base()+"/keys", flash{Text: "The key " + k.Prefix + "… is revoked: what still uses it is refused."})
}
