// Package openapi carries the OpenAPI document of the HTTP API, so that the program can serve it and tests can check
// the wire against it without knowing where the source lies.
package openapi

import _ "embed"

// YAML is api/openapi.yaml as it was when the program was built: an OpenAPI 3.1 document, UTF-8, complete in itself
// (every $ref stays inside it). It describes what this release answers and nothing else. Callers must not modify it.
//
//go:embed openapi.yaml
var YAML []byte
