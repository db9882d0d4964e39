package dashboard

import (
	"encoding/base64"
	"io"
	"sync"
)

// maxFormTokens is how many used tokens of forms are remembered. They are those of forms
// that make secrets, so it takes long to fill.
const maxFormTokens = 4096

// formTokens remembers which forms have been sent. It is safe for concurrent use. Each
// server has its own: with several behind one address a form could be sent once to each,
// which a person does not do by reloading, because the connection stays.
type formTokens struct {
	mu    sync.Mutex
	used  map[string]bool
	order []string
}

// take reports whether a token had not been used, and uses it.
func (t *formTokens) take(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used[token] {
		return false
	}
	if t.used == nil {
		t.used = make(map[string]bool)
	}
	if len(t.order) == maxFormTokens {
		delete(t.used, t.order[0])
		t.order = t.order[1:]
	}
	t.used[token] = true
	t.order = append(t.order, token)
	return true
}

// token returns the value of the `once` field of a form whose answer shows a secret.
func (p *page) token() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(p.edge.cfg.Random, b[:]); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// claim returns an error unless the form with this `once` field is sent for the first
// time. Who shows the form again gives it a new token.
func (p *page) claim() error {
	token := p.field("once")
	if len(token) != 22 {
		return errMalformedForm
	}
	if !p.edge.tokens.take(string(p.Visitor.Session.ID) + " " + token) {
		return errFormUsed
	}
	return nil
}
