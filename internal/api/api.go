// Package api is the wire: Juspay's Customer API over HTTP, as existing clients
// speak it. It is the only package that knows Juspay's names, paths and bodies.
//
// The rules come from the wire contract, whose sections the comments name
// (wire.md §1 operations, §2 authentication and headers, §3 fields, §4 the
// customer object, §5 errors); docs/juspay-compat.md says where they were ours
// to decide.
package api

import (
	"net/http"
	"strconv"
	"strings"

	openapi "grahak/api"

	"grahak"
	"grahak/internal/web"
)

// Edge answers API requests with a [grahak.Service]. It implements [web.Edge]
// and is safe for concurrent use.
type Edge struct {
	service *grahak.Service
}

var _ web.Edge = (*Edge)(nil)

// New returns the API of service.
func New(service *grahak.Service) *Edge { return &Edge{service: service} }

// Serve implements [web.Edge]. The order of its checks is that of wire.md §2:
// a caller without a valid key learns nothing of the paths below /customers.
// /events, which the contract does not know, is one of them in this.
func (e *Edge) Serve(x *web.Exchange) error {
	path := rawPath(x.Request.URL)
	if strings.TrimSuffix(path, "/") == "/openapi.yaml" {
		return e.description(x)
	}
	t, ok := parsePath(path)
	if !ok {
		return errNotFound
	}
	x.Route = t.route.pattern()
	caller, err := e.authenticate(x)
	if err == nil {
		err = x.Admit()
	}
	if err != nil {
		return err
	}
	switch t.route {
	case routeCustomers:
		switch x.Request.Method {
		case http.MethodGet:
			return e.list(x, caller)
		case http.MethodPost:
			return e.create(x, caller)
		}
		return methodNotAllowed(x, "GET, POST")
	case routeCustomersV2:
		if x.Request.Method == http.MethodPost {
			return e.create(x, caller)
		}
		return methodNotAllowed(x, "POST")
	case routeEvents:
		if x.Request.Method == http.MethodGet {
			return e.events(x, caller)
		}
		return methodNotAllowed(x, "GET")
	case routeEnsure:
		if x.Request.Method == http.MethodPost {
			return e.ensure(x, caller, t.id)
		}
		return methodNotAllowed(x, "POST")
	case routeCustomer:
		switch x.Request.Method {
		case http.MethodGet:
			return e.read(x, caller, t.id)
		case http.MethodPost:
			return e.update(x, caller, t.id)
		case http.MethodDelete:
			return e.erase(x, caller, t.id)
		}
		return methodNotAllowed(x, "GET, POST, DELETE")
	}
	return errNotFound
}

func methodNotAllowed(x *web.Exchange, allow string) error {
	x.Header()["Allow"] = []string{allow}
	return errMethodNotAllowed
}

var yamlType = []string{"application/yaml"}

// description answers with the OpenAPI description of this API.
func (e *Edge) description(x *web.Exchange) error {
	x.Route = "/openapi.yaml"
	if x.Request.Method != http.MethodGet {
		return methodNotAllowed(x, "GET")
	}
	x.Send(http.StatusOK, yamlType, openapi.YAML)
	return nil
}

func (e *Edge) create(x *web.Exchange, caller grahak.Caller) error {
	body, err := readRequest(x)
	if err != nil {
		return err
	}
	result, err := e.service.CreateCustomer(x.Request.Context(), caller, body.customer, writeOptions(x, body.token))
	if err != nil {
		return err
	}
	sendCustomer(x, result)
	return nil
}

func (e *Edge) read(x *web.Exchange, caller grahak.Caller, id string) error {
	result, err := e.service.Customer(x.Request.Context(), caller, id, queryFlag(x, paramToken))
	if err != nil {
		return err
	}
	sendCustomer(x, result)
	return nil
}

func (e *Edge) update(x *web.Exchange, caller grahak.Caller, id string) error {
	body, err := readRequest(x)
	if err != nil {
		return err
	}
	result, err := e.service.UpdateCustomer(x.Request.Context(), caller, id, body.customer, writeOptions(x, body.token))
	if err != nil {
		return err
	}
	sendCustomer(x, result)
	return nil
}

// ensure fetches the customer with a reference, or makes it.
func (e *Edge) ensure(x *web.Exchange, caller grahak.Caller, reference string) error {
	body, err := readRequest(x)
	if err != nil {
		return err
	}
	result, err := e.service.EnsureCustomer(x.Request.Context(), caller, reference, body.customer, body.update, writeOptions(x, body.token))
	if err != nil {
		return err
	}
	x.Header()["X-Customer-Created"] = []string{strconv.FormatBool(result.Created)}
	sendCustomer(x, result)
	return nil
}

// erase deletes a customer. A body says nothing more, so it is not read.
func (e *Edge) erase(x *web.Exchange, caller grahak.Caller, id string) error {
	erased, err := e.service.EraseCustomer(x.Request.Context(), caller, id, writeOptions(x, false))
	if err != nil {
		return err
	}
	x.Customer = erased.Customer
	markReplayed(x, erased.Replayed)
	x.Buf = appendErased(x.Buf[:0], erased.Customer)
	x.JSON(http.StatusOK, x.Buf)
	return nil
}

func (e *Edge) list(x *web.Exchange, caller grahak.Caller) error {
	q := parseListQuery(x.Request.URL.RawQuery)
	page, err := e.service.Customers(x.Request.Context(), caller, q)
	if err != nil {
		return err
	}
	x.Buf = appendPage(x.Buf[:0], page, q.Offset)
	x.JSON(http.StatusOK, x.Buf)
	return nil
}

func sendCustomer(x *web.Exchange, result grahak.CustomerResult) {
	x.Customer, x.Created = result.Customer.ID, result.Created && !result.Replayed
	x.Header()["Etag"] = []string{entityTag(result.Customer.Version())}
	markReplayed(x, result.Replayed)
	x.Buf = appendResult(x.Buf[:0], result)
	x.JSON(http.StatusOK, x.Buf)
}

// markReplayed says that an answer is one to a request that was repeated.
func markReplayed(x *web.Exchange, replayed bool) {
	if replayed {
		x.Header()["Idempotent-Replayed"] = []string{"true"}
	}
}
