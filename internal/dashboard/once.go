package dashboard

import (
	"encoding/base64"
	"io"
)

// once returns the field of a form whose answer shows a secret, by which [page.claim]
// knows the form again.
func (p *page) once() (hidden, error) {
	var b [16]byte
	if _, err := io.ReadFull(p.edge.cfg.Random, b[:]); err != nil {
		return hidden{}, err
	}
	return hidden{"once", base64.RawURLEncoding.EncodeToString(b[:])}, nil
}

// claim returns an error unless the form with this `once` field is sent for the first
// time. Who shows the form again gives it a new token.
func (p *page) claim() error {
	token := p.field("once")
	if len(token) != 22 {
		return errMalformedForm
	}
	first, err := p.edge.service.ClaimForm(p.ctx(), p.Visitor, token)
	if err == nil && !first {
		return errFormUsed
	}
	return err
}
