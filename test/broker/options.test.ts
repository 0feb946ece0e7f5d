/** Options: any value of any type resolves to something usable, or is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  backoffMs,
  resolveBrokerOptions,
  resolveSubscribeOptions,
} from '../../src/broker/options.ts';
import { RivuletError } from '../../src/errors.ts';

const any = fc.oneof(
  fc.anything(),
  fc.constantFrom(0, 1, 2, 2.5, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 53),
  fc.constantFrom('g', '', 'auto', 'manual', 'strictly', 'by-key', 'new', null, undefined),
);

test('subscribe options of any kind are whole, finite and in range, or INVALID_ARGUMENT', () => {
  const names = ['group', 'ack', 'from', 'concurrency', 'maxInFlight', 'ordered', 'ackWaitMs'];
  const options = fc.record(
    Object.fromEntries([
      ...names.map((name) => [name, any]),
      [
        'retry',
        fc.oneof(
          any,
          fc.record(
            {
              attempts: any,
              backoff: fc.record({ minMs: any, maxMs: any, factor: any }, { requiredKeys: [] }),
            },
            { requiredKeys: [] },
          ),
        ),
      ],
      ['batch', fc.oneof(any, fc.record({ size: any, waitMs: any }, { requiredKeys: [] }))],
      ['deadLetter', any],
    ]),
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(options, (given) => {
      let resolved: ReturnType<typeof resolveSubscribeOptions>;
      try {
        resolved = resolveSubscribeOptions(given as never);
      } catch (error) {
        assert.ok(error instanceof RivuletError);
        assert.equal(error.code, 'INVALID_ARGUMENT');
        return;
      }
      const { concurrency, maxInFlight, attempts, batch, ackWaitMs, backoff } = resolved;
      for (const count of [concurrency, maxInFlight, attempts, batch.size]) {
        assert.ok(Number.isSafeInteger(count) && count >= 1);
      }
      for (const ms of [ackWaitMs, batch.waitMs, backoff.minMs, backoff.maxMs]) {
        assert.ok(Number.isFinite(ms) && ms >= 0 && ms < 2 ** 31);
      }
      assert.ok(backoff.minMs <= backoff.maxMs);
      for (const attempt of [1, 2, 50, attempts]) {
        const wait = backoffMs(backoff, attempt, 0.5);
        assert.ok(Number.isFinite(wait) && wait >= 0 && wait < 2 ** 31, `${wait}`);
      }
    }),
    { numRuns: 2000 },
  );
});

test('broker options: undefined is absent, a part of reconnect keeps the rest', () => {
  const resolved = resolveBrokerOptions({
    publishTimeoutMs: undefined as never,
    reconnect: { maxMs: 9000 } as never,
  });
  assert.equal(resolved.publishTimeoutMs, 10_000);
  assert.deepEqual(resolved.reconnect, { minMs: 50, maxMs: 9000, factor: 2, jitter: true });
});

test('broker options of a wrong kind are INVALID_ARGUMENT, and addresses are not shown', () => {
  const wrong: object[] = [
    { publishTimeoutMs: Number.POSITIVE_INFINITY },
    { maxPendingPublishes: 1.5 },
    { clientName: '' },
    { clientName: 'a b' },
    { reconnect: { minMs: 100, maxMs: 10 } },
    { scheduler: {} },
    { client: 5 },
    { goMicro: 'yes' },
    { maxBodyBites: 5 },
  ];
  for (const options of wrong) {
    assert.throws(() => resolveBrokerOptions(options as never), { code: 'INVALID_ARGUMENT' });
  }
  assert.throws(
    () => resolveBrokerOptions({ addresses: ['redis://:secret@host', 5 as never] }),
    (error: Error) => !error.message.includes('secret'),
  );
});
