package dashboard

import (
	"errors"
	"net/http"
	"time"

	"grahak"
	"grahak/internal/web"
)

// Codes of pages themselves, which no use case returns.
const (
	codeNotFound         grahak.Code = "not_found"
	codeMethodNotAllowed grahak.Code = "method_not_allowed"
	codeMalformedForm    grahak.Code = "malformed_form"
	codeBodyTooLarge     grahak.Code = "body_too_large"
	codeCrossOrigin      grahak.Code = "cross_origin"
	codeFormUsed         grahak.Code = "form_used"
)

var (
	errNotFound         = &grahak.Error{Code: codeNotFound}
	errMethodNotAllowed = &grahak.Error{Code: codeMethodNotAllowed}
	errMalformedForm    = &grahak.Error{Code: codeMalformedForm}
	errBodyTooLarge     = &grahak.Error{Code: codeBodyTooLarge}
	errFormUsed         = &grahak.Error{Code: codeFormUsed}
	errNoSession        = &grahak.Error{Code: grahak.CodeNoSession}
)

// answer is how an error page looks: its status, what happened, and what to do.
type answer struct {
	status   int
	title    string
	whatToDo string
	// told has the error's own message be shown, which use cases write for people.
	told bool
}

var (
	gone    = answer{http.StatusNotFound, "There is nothing here", "It may be gone, or you may have no role at this merchant. Check the address, or begin at the first page.", false}
	refused = answer{http.StatusUnprocessableEntity, "That cannot be done", "Go back, change what the sentence above says, and try again.", true}
	stale   = answer{http.StatusConflict, "That has changed meanwhile", "Go back, load the page again, and look before you try once more.", true}
	fault   = answer{http.StatusInternalServerError, "Something went wrong here", "It is not your doing. Try again; if it stays, give the request id below to who runs this server.", false}
)

// answers holds an answer for every code that can reach a visitor. Any other is a fault
// of ours.
var answers = map[grahak.Code]answer{
	grahak.CodeUnavailable:           {http.StatusServiceUnavailable, "Not available right now", "Try again in a moment. If you were changing something, look first whether it took effect.", false},
	grahak.CodeInvalidField:          refused,
	grahak.CodeDuplicateReference:    stale,
	grahak.CodeCustomerNotFound:      gone,
	grahak.CodeInsufficientScope:     {http.StatusForbidden, "Your role does not allow that", "Ask an owner of the merchant to do it, or to give you a role that may.", false},
	grahak.CodeTooManyRequests:       {http.StatusTooManyRequests, "Too many tries", "Wait a while, and try again.", true},
	grahak.CodeTokenNotFound:         gone,
	grahak.CodeInvalidMerchant:       refused,
	grahak.CodeMerchantExists:        stale,
	grahak.CodeMerchantNotFound:      gone,
	grahak.CodeInvalidKey:            refused,
	grahak.CodeKeyExists:             stale,
	grahak.CodeKeyNotFound:           gone,
	grahak.CodeInvalidIPEntry:        refused,
	grahak.CodeIPEntryExists:         stale,
	grahak.CodeIPEntryNotFound:       gone,
	grahak.CodeIPListEmpty:           refused,
	grahak.CodeIPListFull:            refused,
	grahak.CodeNotConfirmed:          refused,
	grahak.CodeInvalidWebhook:        refused,
	grahak.CodeWebhookNotFound:       gone,
	grahak.CodeWebhooksFull:          refused,
	grahak.CodeWebhookDisabled:       stale,
	grahak.CodeEventsExpired:         {http.StatusGone, "That is no longer kept", "Events are kept for the time that the settings page names.", false},
	grahak.CodeInvalidOperator:       refused,
	grahak.CodeOperatorExists:        stale,
	grahak.CodeOperatorNotFound:      gone,
	grahak.CodeLastOwner:             refused,
	grahak.CodeLoginRefused:          {http.StatusForbidden, "That did not let you in", "Check what you entered, or ask for a new code.", false},
	grahak.CodeNoSession:             {http.StatusForbidden, "You are not logged in", "Log in and try again.", false},
	grahak.CodePreconditionFailed:    stale,
	grahak.CodeIdempotencyMismatch:   stale,
	grahak.CodeIdempotencyInProgress: stale,

	codeNotFound:         gone,
	codeMethodNotAllowed: {http.StatusMethodNotAllowed, "That is not how this page works", "Begin at the first page.", false},
	codeMalformedForm:    {http.StatusBadRequest, "The form could not be read", "Go back and send it again.", false},
	codeBodyTooLarge:     {http.StatusRequestEntityTooLarge, "The form is too large", "A form here has at most 64 KiB: enter less and send it again.", false},
	codeCrossOrigin:      {http.StatusForbidden, "This form came from another site", "If it was you, open the dashboard itself and try there. Behind a proxy, the Host header must be passed on as the browser sent it.", false},
	codeFormUsed:         {http.StatusConflict, "This form was sent already", "What it made was shown once. Look at the list: if you did not note the secret, remove it there and make another.", false},
}

// errorView is what the error page shows.
type errorView struct {
	Title, Message, WhatToDo, Code, RequestID string
}

// Fail implements [web.Edge].
func (e *Edge) Fail(x *web.Exchange, err error) {
	known := &grahak.Error{Code: grahak.CodeInternal}
	// As leaves known as it is if err is not one of ours.
	_ = errors.As(err, &known)
	a, ok := answers[known.Code]
	x.Code = string(known.Code)
	if !ok {
		a, x.Code = fault, string(grahak.CodeInternal)
	}
	if a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests {
		x.RetryAfter(max(known.RetryIn, time.Second))
	}
	view := errorView{Title: a.title, WhatToDo: a.whatToDo, Code: x.Code, RequestID: x.RequestID}
	if a.told {
		view.Message = known.Message
	}
	s := e.shell(a.title)
	var body []byte
	s.Main, err = renderMain("error", view)
	if err == nil {
		body, err = renderShell(s)
	}
	if err != nil {
		// The tests of templates leave no way to here but a lack of memory.
		body = []byte("<!doctype html><title>Error</title><p>Something went wrong.")
	}
	x.Send(a.status, htmlType, body)
}

// formError returns the sentence that a form shows for an error of a use case, and
// whether the error is one that belongs there: those that the person can mend in the
// form, or that have to be told beside it.
func formError(err error) (message string, ok bool) {
	known := new(grahak.Error)
	if !errors.As(err, &known) {
		return "", false
	}
	a, listed := answers[known.Code]
	if !listed || a.status == http.StatusServiceUnavailable || a.status == http.StatusForbidden || a.status == http.StatusNotFound {
		return "", false
	}
	if known.Message == "" {
		return a.title + ".", true
	}
	return known.Message, true
}
