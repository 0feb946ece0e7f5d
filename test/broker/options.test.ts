/** Options: any value of any type resolves to something usable, or is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import {
  checkNackOptions,
  checkPendingQuery,
  checkPublishOptions,
  checkRedriveOptions,
  checkRequestOptions,
  checkRespondOptions,
} from '../../src/broker/options/option-rows.ts';
import {
  backoffMs,
  resolveBrokerOptions,
  resolveSubscribeOptions,
} from '../../src/broker/options/options.ts';
import { RivuletError } from '../../src/errors.ts';
import { fc } from '../helpers/property.ts';

const any = fc.oneof(
  fc.anything(),
  fc.constantFrom(0, 1, 2, 2.5, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 53),
  fc.constantFrom('g', '', 'auto', 'manual', 'none', 'strict', 'key', 'new', null, undefined),
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

test('options and values that were renamed are refused with their new names', () => {
  const renamed: [() => unknown, RegExp][] = [
    [() => resolveBrokerOptions({ idWindowMs: 5 } as never), /dedupWindowMs/],
    [() => checkPublishOptions({ id: 'x' } as never), /dedupId/],
    [() => resolveSubscribeOptions({ ordered: 'no' as never }), /"none"/],
    [() => resolveSubscribeOptions({ ordered: 'by-key' as never }), /"key"/],
    [() => resolveSubscribeOptions({ ordered: 'strictly' as never }), /"strict"/],
  ];
  for (const [call, message] of renamed) {
    assert.throws(call, { code: 'INVALID_ARGUMENT', message });
  }
  // The nearest name is never one that was renamed.
  assert.throws(
    () => checkPublishOptions({ Id: 'x' } as never),
    (error: Error) => {
      return !/did you mean id\?/.test(error.message);
    },
  );
});

/** Every check of options that is not a subscription's, with the names that it knows. */
const checks: [name: string, check: (given: never) => unknown, names: string[]][] = [
  [
    'broker',
    resolveBrokerOptions,
    [
      ...['addresses', 'clientName', 'publishTimeoutMs', 'maxPendingPublishes', 'reconnect'],
      ...['connectTimeoutMs', 'drainTimeoutMs', 'maxBodyBytes', 'dedupWindowMs', 'goMicro'],
      ...['scheduler', 'client', 'idWindowMs'],
    ],
  ],
  [
    'publish',
    checkPublishOptions,
    ['dedupId', 'delayMs', 'deliverAt', 'maxLength', 'signal', 'id'],
  ],
  ['request', checkRequestOptions, ['timeoutMs', 'signal']],
  ['respond', checkRespondOptions, ['group', 'concurrency', 'signal']],
  ['pending', checkPendingQuery, ['consumer', 'minIdleMs', 'limit', 'after']],
  ['redrive', checkRedriveOptions, ['from', 'limit']],
  ['nack', checkNackOptions, ['delayMs', 'reason']],
];

for (const [name, check, names] of checks) {
  test(`${name} options of any kind are in range, or INVALID_ARGUMENT`, () => {
    // `undefined` is made an empty object by those who call it.
    const something = fc.anything().filter((given) => given !== undefined);
    const bag = fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string()), any);
    fc.assert(
      fc.property(fc.oneof(bag, bag, something), (given) => {
        try {
          check(given as never);
        } catch (error) {
          assert.equal((error as RivuletError).code, 'INVALID_ARGUMENT', String(error));
          return;
        }
        for (const [option, value] of Object.entries(given ?? {})) {
          assert.ok(names.includes(option), `${option} is unknown, and was taken`);
          if (typeof value !== 'number') continue;
          const isAll = option === 'limit' && value === Number.POSITIVE_INFINITY;
          assert.ok(isAll || (Number.isFinite(value) && value >= 0), `${option}: ${value}`);
        }
      }),
      { numRuns: 2000 },
    );
  });
}

test('options that are no object are refused when a broker is opened', async () => {
  for (const options of [null, 5, 'text', [], true, () => {}]) {
    await assert.rejects(openBroker('memory:', options as never), { code: 'INVALID_ARGUMENT' });
  }
});
