'use strict';

// BetterCommerce's client, bc-juspay-sdk, against a running Grahak over plain http on any port. It joins no colon
// to its key, so that its users give the key with one.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { JuspayEnv, ExpressCheckout } = require('bc-juspay-sdk');
const { baseUrl, merchantId, apiKey, errors, reference, assertJSON, assertCustomer } = require('./contract.js');

const { Customer, CustomerList } = ExpressCheckout;

// The first init sets the vendor's base URL, each call runs init again and leaves ours alone.
JuspayEnv.init();
JuspayEnv.withCredentials(merchantId, `${apiKey}:`, baseUrl);

// Without this option the client swallows every error and the call results in undefined.
const parseError = { parseError: true };

// rejected checks the status and the body of a call made with parseError.
function rejected({ error }, want) {
  assert.equal(error?.status, want.status);
  assertJSON(error.data, want.body);
}

test('create returns the customer', async () => {
  const given = {
    object_reference_id: reference('jon.smith'),
    mobile_number: '2233556644',
    email_address: 'jon+shop@example.com',
    first_name: 'Jon',
    last_name: 'Smith Ünal',
  };
  const got = await Customer.create({ ...given, mobile_country_code: '+1' });
  assertCustomer(got, { ...given, mobile_country_code: '1' });
});

test('create with options.get_client_auth_token returns a token', async () => {
  const given = { object_reference_id: reference('jon.smith'), mobile_number: '2233556644' };
  const got = await Customer.create({ ...given, 'options.get_client_auth_token': true });
  assertCustomer(got, given, { token: true });
});

test('create bears the empty strings that the client makes of undefined and null', async () => {
  const given = { object_reference_id: reference('jon.smith'), mobile_number: '2233556644' };
  const got = await Customer.create({
    ...given, email_address: undefined, first_name: null, last_name: undefined, mobile_country_code: null,
  });
  assertCustomer(got, given);
});

test('get by own id and by object_reference_id return the same customer', async () => {
  for (const name of ['jon.smith', 'jon+tag', 'sp ace/slash', 'जॉन']) {
    const made = await Customer.create({ object_reference_id: reference(name), mobile_number: '2233556644' });
    assertJSON(await Customer.get(made.id), made);
    assertJSON(await Customer.get(encodeURIComponent(made.object_reference_id)), made);
    if (name !== 'जॉन') { // Node refuses a request line beyond Latin-1, and this client escapes nothing.
      assertJSON(await Customer.get(made.object_reference_id), made);
    }
  }
});

test('update changes the fields sent and no other', async () => {
  const given = {
    object_reference_id: reference('jon.smith'), mobile_number: '2233556644', email_address: 'jon@example.com', first_name: 'Jon',
  };
  const made = await Customer.create(given);
  const updated = await Customer.update(made.id, { first_name: 'Jonathan', email_address: '' });
  assertCustomer(updated, { ...given, first_name: 'Jonathan', email_address: null });
  assert.equal(updated.id, made.id);
  assert.equal(updated.date_created, made.date_created);
  assertJSON(await Customer.get(given.object_reference_id), updated);
  assertJSON(await Customer.update(made.id, {}), updated);
});

test('listAll pages through the customers, newest first', async () => {
  const made = [];
  for (let i = 0; i < 3; i += 1) {
    made.unshift(await Customer.create({ object_reference_id: reference('listed'), mobile_number: '2233556644' }));
  }
  const all = await Customer.listAll();
  assert.deepEqual(Object.keys(all), ['object', 'list', 'count', 'offset', 'total', 'next']);
  assert.equal(all.object, 'list');
  assert.equal(all.count, all.list.length);
  assert.equal(all.offset, 0);
  assert.ok(all.total >= made.length, `total is ${all.total}`);
  assert.equal(all.count, Math.min(all.total, 10));
  assertJSON(all.list.slice(0, 3), made);

  const page = await Customer.listAll({ count: 2, offset: 1 });
  assert.equal(page.count, 2);
  assert.equal(page.offset, 1);
  assert.equal(page.total, all.total);
  assertJSON(page.list, made.slice(1));

  // The client's own list class reads the answer, its dates included.
  const { list, total } = new CustomerList(page);
  assert.equal(total, all.total);
  assert.equal(list[0].objectReferenceId, made[1].object_reference_id);
  assert.equal(list[0].dateCreated.toISOString(), made[1].date_created.replace('Z', '.000Z'));
});

test('next pages without an offset', async () => {
  const first = await Customer.listAll({ count: 1 });
  assert.equal(typeof first.next, 'string');
  const second = await Customer.listAll({ count: 1, after: first.next });
  assert.equal(second.list.length, 1);
  assert.notEqual(second.list[0].id, first.list[0].id);
});

test('errors carry their status and body', async () => {
  const given = { object_reference_id: reference('jon.smith'), mobile_number: '2233556644' };
  await Customer.create(given);
  rejected(await Customer.create(given, parseError), errors.duplicate_reference);
  rejected(
    await Customer.create({ ...given, object_reference_id: reference(), mobile_number: '-1' }, parseError),
    errors.wrong_mobile_number,
  );
  rejected(await Customer.get('cst_aaaaaaaaaaaaaaaa', parseError), errors.customer_not_found);
  rejected(await Customer.update(reference('nobody'), { first_name: 'Jon' }, parseError), errors.customer_not_found);
});

test('a wrong key and a wrong merchant are refused', async (t) => {
  t.after(() => JuspayEnv.withCredentials(merchantId, `${apiKey}:`));
  JuspayEnv.withCredentials(merchantId, 'wrong:');
  rejected(await Customer.listAll(undefined, parseError), errors.invalid_api_key);
  JuspayEnv.withCredentials(`${merchantId}x`, `${apiKey}:`);
  rejected(await Customer.listAll(undefined, parseError), errors.invalid_api_key);
});

test('what Grahak does not serve is JSON too', async () => {
  const made = await Customer.create({ object_reference_id: reference('jon.smith'), mobile_number: '2233556644' });
  rejected(await Customer.get(`${made.id}/wallets`, parseError), errors.not_found);
});
