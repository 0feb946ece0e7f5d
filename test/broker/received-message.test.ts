/** What comes can be read as text, as JSON and as bytes; what is sent may be text, and needs no headers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { ownMessage } from '../../src/broker/message/message-check.ts';
import { Received } from '../../src/broker/message/received-message.ts';
import { fc } from '../helpers/property.ts';

const origin = { topic: 'orders', id: '17-0' };

function received(body: string | Uint8Array, headers: Record<string, string> = {}) {
  return new Received(ownMessage({ headers, body }, true), origin);
}

test('any text that is well-formed comes back from text() as it was given', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      assert.equal(received(text).text(), text);
    }),
  );
  assert.equal(received('\ufeffmarked').text(), '\ufeffmarked');
});

test('any value with a form in JSON comes back from json()', () => {
  fc.assert(
    fc.property(fc.json(), (json) => {
      assert.deepEqual(received(json).json(), JSON.parse(json));
    }),
  );
  assert.deepEqual(received('\ufeff[1]').json(), [1]);
});

test('any bytes are JSON, or DECODING_FAILED that names the message and does not quote it', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const message = received(bytes);
      assert.deepEqual(message.bytes(), Buffer.from(bytes));
      for (const read of [() => message.text(), () => message.json()]) {
        try {
          read();
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'DECODING_FAILED');
          assert.match((error as Error).message, /^message 17-0 of orders /);
        }
      }
    }),
  );
  const secret = received('{"card": 4111111', { 'Content-Type': 'application/json' });
  assert.throws(() => secret.json(), {
    code: 'DECODING_FAILED',
    message: 'message 17-0 of orders is not JSON (16 bytes, Content-Type "application/json")',
  });
  assert.throws(() => received('').json(), {
    code: 'DECODING_FAILED',
    message: /its body is empty/,
  });
  assert.throws(() => received(Buffer.from([0xff])).text(), { message: /is not UTF-8/ });
});

test('a message is any text or bytes, or INVALID_ARGUMENT', () => {
  fc.assert(
    fc.property(
      fc.record(
        {
          body: fc.oneof(fc.anything(), fc.string({ unit: 'binary' }), fc.uint8Array()),
          headers: fc.oneof(fc.anything(), fc.dictionary(fc.string(), fc.string())),
          key: fc.oneof(fc.anything(), fc.string()),
        },
        { requiredKeys: [] },
      ),
      (message) => {
        try {
          const own = ownMessage(message, true);
          assert.ok(own.body instanceof Uint8Array);
          for (const value of Object.values(own.headers)) assert.equal(typeof value, 'string');
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT');
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('bytes of another realm are bytes', () => {
  const { body } = ownMessage({ body: runInNewContext('new Uint8Array([65, 66])') }, false);
  assert.ok(body instanceof Uint8Array);
  assert.equal(Buffer.from(body).toString(), 'AB');
});

test('a body that is longer than a text can be says so', () => {
  const { body } = ownMessage({ body: Buffer.alloc(0) }, false);
  const huge = new Received({ headers: {}, body }, origin);
  Object.defineProperty(huge, 'body', { value: new Uint8Array(2 ** 29 + 8).fill(97) });
  assert.throws(() => huge.text(), { code: 'DECODING_FAILED', message: /too long for a text/ });
});

test('a received message can be published again as it is', () => {
  const own = ownMessage({ body: 'x', key: 'k', headers: { a: 'b' } }, true);
  const message = new Received(own, { topic: 't' });
  assert.deepEqual({ ...message }, own);
  assert.deepEqual(ownMessage(message, true), own);
  const bare = new Received(ownMessage({ body: 'x' }, true), { topic: 't' });
  assert.ok(!('key' in bare));
});
