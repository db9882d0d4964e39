'use strict';

// What both client scripts assert about the wire, whatever the client. The Go test that starts the server
// sets the environment read here; a script refuses to start without it.

const assert = require('node:assert/strict');
const fs = require('node:fs');

function setting(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: run these scripts through "go test ./test/clients/"`);
  }
  return value;
}

const baseUrl = setting('TEST_BASE_URL');
const merchantId = setting('TEST_MERCHANT');
const apiKey = setting('TEST_API_KEY');

// errors holds the literal and the decided error bodies by name: {status, body}.
const cases = JSON.parse(fs.readFileSync(setting('TEST_WIRE_CASES'), 'utf8'));
const errors = { ...cases.literal, ...cases.ours };

const CUSTOMER_KEYS = [
  'id', 'object', 'object_reference_id', 'mobile_country_code', 'mobile_number',
  'email_address', 'first_name', 'last_name', 'date_created', 'last_updated',
];
const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

let serial = 0;

// reference returns an e-mail-like object_reference_id that no other test of this process uses.
function reference(name = 'asha.rao') {
  serial += 1;
  return `${name}.${serial}@example.com`;
}

// assertJSON compares two bodies with their order of keys.
function assertJSON(got, want) {
  assert.equal(JSON.stringify(got, null, 1), JSON.stringify(want, null, 1));
}

// assertRecent checks that a date has the wire's form and lies within two minutes of now plus `offset` seconds.
function assertRecent(date, offset = 0) {
  assert.match(date, DATE);
  const drift = Math.abs(Date.parse(date) - Date.now() - offset * 1000);
  assert.ok(drift < 120_000, `${date} is ${drift / 1000} s away from what was expected`);
}

// assertCustomer checks every key of a customer, their order, and that there is no key beyond them but
// `juspay`, which stands last exactly when `token` says that a token was asked for. `want` holds the six
// fields a merchant gives; the ones it leaves out must be unset.
function assertCustomer(got, want, { token = false } = {}) {
  assert.deepEqual(Object.keys(got), token ? [...CUSTOMER_KEYS, 'juspay'] : CUSTOMER_KEYS);
  assert.match(got.id, /^cst_[a-z0-9]{16}$/);
  assert.equal(got.object, 'customer');
  const given = {
    object_reference_id: got.object_reference_id,
    mobile_country_code: got.mobile_country_code,
    mobile_number: got.mobile_number,
    email_address: got.email_address,
    first_name: got.first_name,
    last_name: got.last_name,
  };
  assert.deepEqual(given, {
    mobile_country_code: '91', email_address: null, first_name: null, last_name: null, ...want,
  });
  assertRecent(got.date_created);
  assertRecent(got.last_updated);
  assert.ok(got.last_updated >= got.date_created, 'last_updated lies before date_created');
  if (token) {
    assert.deepEqual(Object.keys(got.juspay), ['client_auth_token', 'client_auth_token_expiry']);
    assert.match(got.juspay.client_auth_token, /^tkn_[0-9a-f]{32}$/);
    assertRecent(got.juspay.client_auth_token_expiry, 900);
  }
}

module.exports = { setting, baseUrl, merchantId, apiKey, errors, reference, assertJSON, assertCustomer };
