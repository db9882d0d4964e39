// The official client, expresscheckout-nodejs, against a running Grahak over TLS on the default port, the only
// way this client can be pointed elsewhere. It reads name and version from the package.json of the working folder.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Juspay, APIError, AuthenticationError, AuthorizationError, InvalidRequestError } from 'expresscheckout-nodejs';
import {
  setting, baseUrl, merchantId, apiKey, errors, reference, assertJSON, assertCustomer,
} from './contract.js';

// Without a logger of ours the client makes a folder named logs in the working folder and writes personal data there.
Juspay.customLogger = Juspay.silentLogger;

const { customer, order } = new Juspay({ merchantId, apiKey, baseUrl, timeout: 20_000 });
const withToken = { 'options.get_client_auth_token': true };

// body splits off what the client adds to an answer, and checks the status and the headers that every answer of
// the contract carries.
function body({ http, ...rest }) {
  assert.equal(http.statusCode, 200);
  assert.match(http.headers['content-type'], /^application\/json(; *charset=utf-8)?$/i);
  assert.equal(http.headers['x-jp-merchant-id'], merchantId);
  assert.match(http.headers['x-response-id'] ?? '', /^[A-Za-z0-9._-]{1,64}$/);
  assert.match(http.headers['x-request-id'] ?? '', /^[A-Za-z0-9._-]{1,64}$/);
  return rest;
}

// rejected awaits a call that must fail with exactly this class of the client and this body. The client keeps the
// body in `raw`, copies some of its keys, and gives neither the status nor the headers of a failed call.
async function rejected(call, Class, { body: want }) {
  const error = await call.then(
    (answer) => assert.fail(`the call succeeded: ${JSON.stringify(answer)}`),
    (reason) => reason,
  );
  assert.equal(error.constructor, Class, `the client threw ${error.name}: ${error.message}`);
  assert.ok(error instanceof APIError);
  assertJSON(error.raw, want);
  assert.equal(error.status, want.status);
  assert.equal(error.error_code, want.error_code);
  assert.equal(error.error_message, want.error_message);
  assert.equal(error.user_message, want.user_message);
  assertJSON(error.error_info, want.error_info);
}

test('create returns the customer, without a token', async () => {
  const given = {
    object_reference_id: reference(),
    mobile_number: '9988776655',
    mobile_country_code: '44',
    email_address: 'asha.rao+news@example.com',
    first_name: 'Asha Devi',
    last_name: 'राव',
  };
  assertCustomer(body(await customer.create(given)), given);
});

test('create needs no optional field, and a number may be a JavaScript number', async () => {
  const object_reference_id = reference();
  const got = body(await customer.create({ object_reference_id, mobile_number: 9988776655 }));
  assertCustomer(got, { object_reference_id, mobile_number: '9988776655' });
});

test('create with options.get_client_auth_token returns a token', async () => {
  const given = { object_reference_id: reference(), mobile_number: '0098877665' };
  const got = body(await customer.create({ ...given, ...withToken }));
  assertCustomer(got, given, { token: true });
});

test('create bears the strings that the client makes of undefined and null', async () => {
  const given = { object_reference_id: reference(), mobile_number: '9988776655' };
  const got = body(await customer.create({
    ...given,
    email_address: undefined,
    mobile_country_code: null,
    first_name: undefined,
    last_name: null,
    'options.get_client_auth_token': undefined,
  }));
  // In names the strings are kept, for there are people called Null.
  assertCustomer(got, { ...given, first_name: 'undefined', last_name: 'null' });
});

test('get by own id and by object_reference_id return the same customer', async () => {
  const made = body(await customer.create({ object_reference_id: reference(), mobile_number: '9988776655' }));
  assertJSON(body(await customer.get(made.id)), made);
  assertJSON(body(await customer.get(made.object_reference_id)), made);
  assertJSON(body(await customer.get(encodeURIComponent(made.object_reference_id))), made);
  assertJSON(body(await customer.get(`${made.id}/`)), made);
});

test('get finds references that are no plain path segments', async () => {
  for (const name of ['asha+tag', 'sp ace/slash', 'dot..dot//slash', 'आशा', "o'hara(1)*!~"]) {
    const object_reference_id = reference(name);
    const made = body(await customer.create({ object_reference_id, mobile_number: '9988776655' }));
    assertJSON(body(await customer.get(object_reference_id)), made);
    assertJSON(body(await customer.get(encodeURIComponent(object_reference_id))), made);
  }
  const object_reference_id = reference('100%?#&=');
  const made = body(await customer.create({ object_reference_id, mobile_number: '9988776655' }));
  assertJSON(body(await customer.get(encodeURIComponent(object_reference_id))), made);
});

test('get with options.get_client_auth_token returns a fresh token each time', async () => {
  const given = { object_reference_id: reference(), mobile_number: '9988776655' };
  const made = body(await customer.create(given));
  const first = body(await customer.get(made.id, withToken));
  const second = body(await customer.get(given.object_reference_id, withToken));
  assertCustomer(first, given, { token: true });
  assertCustomer(second, given, { token: true });
  assert.notEqual(first.juspay.client_auth_token, second.juspay.client_auth_token);
  assert.equal(second.last_updated, made.last_updated);
});

test('update changes the fields sent and no other', async () => {
  const given = {
    object_reference_id: reference(),
    mobile_number: '9988776655',
    email_address: 'asha@example.com',
    first_name: 'Asha',
    last_name: 'Rao',
  };
  const made = body(await customer.create(given));
  const updated = body(await customer.update(made.id, { mobile_number: '9000000001', last_name: 'Rao Iyer' }));
  const want = { ...given, mobile_number: '9000000001', last_name: 'Rao Iyer' };
  assertCustomer(updated, want);
  assert.equal(updated.id, made.id);
  assert.equal(updated.date_created, made.date_created);
  assertJSON(body(await customer.get(made.id)), updated);

  const cleared = body(await customer.update(given.object_reference_id, { first_name: '', ...withToken }));
  assertCustomer(cleared, { ...want, first_name: null }, { token: true });
});

test('update with nothing in it, or with undefined and null, changes nothing', async () => {
  const made = body(await customer.create({
    object_reference_id: reference(), mobile_number: '9988776655', email_address: 'asha@example.com',
  }));
  assertJSON(body(await customer.update(made.id)), made);
  assertJSON(body(await customer.update(made.id, {})), made);
  assertJSON(body(await customer.update(made.id, { email_address: undefined, mobile_country_code: null })), made);
  assertJSON(body(await customer.update(made.id, { object_reference_id: reference() })), made);
});

test('headers with personal data are borne, and each answer has its own x-response-id', async () => {
  const given = { object_reference_id: reference(), mobile_number: '9988776655' };
  const headers = {
    'x-routing-id': given.object_reference_id,
    'x-customerid': given.object_reference_id,
    'x-request-id': 'clients-test.1_a',
  };
  const first = await customer.create(given, { headers });
  const second = await customer.get(given.object_reference_id, undefined, { headers });
  assertCustomer(body(first), given);
  assertJSON(body(second), body(first));
  assert.equal(first.http.headers['x-request-id'], 'clients-test.1_a');
  assert.notEqual(first.http.headers['x-response-id'], second.http.headers['x-response-id']);
});

test('calls at the same time each get their own answer', async () => {
  const references = Array.from({ length: 20 }, () => reference());
  const answers = await Promise.all(
    references.map((object_reference_id) => customer.create({ object_reference_id, mobile_number: '9988776655' })),
  );
  assert.deepEqual(answers.map((answer) => body(answer).object_reference_id), references);
});

test('a second customer with the same reference is refused', async () => {
  const given = { object_reference_id: reference(), mobile_number: '9988776655' };
  await customer.create(given);
  await rejected(customer.create({ ...given, mobile_number: '9000000002' }), InvalidRequestError, errors.duplicate_reference);
});

test('a bad mobile number is refused on create and on update', async () => {
  const want = errors.wrong_mobile_number;
  for (const mobile_number of ['-9988776655', '+919988776655', '99887 76655', 'none', '', undefined, '12345678901234567']) {
    await rejected(customer.create({ object_reference_id: reference(), mobile_number }), InvalidRequestError, want);
  }
  await rejected(customer.create({ object_reference_id: reference() }), InvalidRequestError, want);
  const made = body(await customer.create({ object_reference_id: reference(), mobile_number: '9988776655' }));
  await rejected(customer.update(made.id, { mobile_number: '-1' }), InvalidRequestError, want);
  assertJSON(body(await customer.get(made.id)), made);
});

test('an empty object_reference_id is refused', async () => {
  const want = errors.wrong_object_reference_id;
  await rejected(customer.create({ object_reference_id: '', mobile_number: '9988776655' }), InvalidRequestError, want);
  await rejected(customer.create({ mobile_number: '9988776655' }), InvalidRequestError, want);
});

test('an unknown customer is not found on get and on update', async () => {
  const want = errors.customer_not_found;
  await rejected(customer.get('cst_aaaaaaaaaaaaaaaa'), InvalidRequestError, want);
  await rejected(customer.get(reference('nobody')), InvalidRequestError, want);
  await rejected(customer.update(reference('nobody'), { first_name: 'Asha' }), InvalidRequestError, want);
});

test('a wrong key, a wrong merchant and another merchant\'s key are refused alike', async () => {
  const want = errors.invalid_api_key;
  const call = (override) => customer.create({ object_reference_id: reference(), mobile_number: '9988776655' }, override);
  await rejected(call({ apiKey: `${apiKey}x` }), AuthenticationError, want);
  await rejected(call({ apiKey: 'wrong' }), AuthenticationError, want);
  await rejected(call({ merchantId: `${merchantId}x` }), AuthenticationError, want);
  await rejected(call({ apiKey: setting('TEST_REFUSED_API_KEY') }), AuthenticationError, want);
});

test('a caller whose address is not on the merchant\'s list is refused', async () => {
  const refused = { merchantId: setting('TEST_REFUSED_MERCHANT'), apiKey: setting('TEST_REFUSED_API_KEY') };
  const want = errors.ip_not_whitelisted;
  const given = { object_reference_id: reference(), mobile_number: '9988776655' };
  await rejected(customer.create(given, refused), AuthorizationError, want);
  await rejected(customer.get('cst_aaaaaaaaaaaaaaaa', undefined, refused), AuthorizationError, want);
});

test('what Grahak does not serve is JSON too', async () => {
  // An answer that is not JSON would be an InternalServerError here.
  await rejected(order.status('order-1'), InvalidRequestError, errors.not_found);
});
