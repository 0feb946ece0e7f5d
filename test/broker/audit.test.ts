/** The audit: an intent before each action, an outcome after it, and no action without an intent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AUDIT_TOPIC, Audit, type AuditEntry, type AuditedAction } from '../../src/broker/audit.ts';
import type { Message } from '../../src/broker/message/message.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { until } from '../helpers/until.ts';

const action: AuditedAction = {
  user: 'slack:U1',
  address: 'D1',
  verb: 'bot.call',
  target: 'greeter Say.Hello',
  count: 1,
  reason: '',
};

function audit(append: (message: Message) => Promise<unknown>, reports: string[] = []) {
  let number = 0;
  return new Audit({
    append,
    uniqueName: () => `a${++number}`,
    report: (text) => reports.push(text),
  });
}

test('the intent is stored before the work begins, and the outcome after it has ended', async () => {
  const broker = await openBroker('memory:');
  const seen: AuditEntry[] = [];
  await broker.subscribe(AUDIT_TOPIC, (delivery) => seen.push(delivery.json()), {
    from: 'earliest',
  });
  const writer = audit((message) => broker.publish(AUDIT_TOPIC, message));
  await writer.record(action, async () => {
    await until(() => seen.length > 0);
    assert.deepEqual(seen, [{ ...action, phase: 'intent', action: 'a1', error: '' }]);
  });
  const failing = writer.record(action, () => Promise.reject(new Error('out of paper')));
  await assert.rejects(failing, { message: 'out of paper' });
  await writer.note(action, 'refused', 'no operator');
  await until(() => seen.length >= 5);
  assert.deepEqual(
    seen.map(({ phase, action: id, error }) => [phase, id, error]),
    [
      ['intent', 'a1', ''],
      ['done', 'a1', ''],
      ['intent', 'a2', ''],
      ['failed', 'a2', 'out of paper'],
      ['refused', 'a3', 'no operator'],
    ],
  );
  await broker.disconnect();
});

test('an action whose intent cannot be stored is refused and does nothing', async () => {
  const writer = audit(() => Promise.reject(new Error('the disk is full')));
  let runs = 0;
  await assert.rejects(
    writer.record(action, async () => runs++),
    (error: Error & { code: string }) => {
      assert.equal(error.code, 'UNAVAILABLE');
      assert.match(error.message, /nothing was done.*_rivulet\.audit.*the disk is full/);
      return true;
    },
  );
  assert.equal(runs, 0);
});

test('an outcome that cannot be stored is reported, and the result of the work is kept', async () => {
  const reports: string[] = [];
  let entries = 0;
  const append = async () => {
    if (++entries > 1) throw new Error('the disk is full');
  };
  assert.equal(await audit(append, reports).record(action, async () => 7), 7);
  assert.match(
    reports.join(),
    /misses bot\.call greeter Say\.Hello by slack:U1: done: the disk is/,
  );
});

test('no text of an entry is longer than 512 characters', async () => {
  const bodies: string[] = [];
  const writer = audit(async ({ body }) => bodies.push(String(body)));
  await writer.note({ ...action, target: 'x'.repeat(1_000_000) }, 'done');
  assert.equal(JSON.parse(bodies[0] ?? '').target.length, 512);
});
