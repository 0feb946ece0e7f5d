/**
 * A console over a broker by its address, asked by raw HTTP, and messages to look at.
 */
import assert from 'node:assert/strict';
import type { Broker } from '../../../src/broker/broker.ts';
import type { ActionOutcome, ActionPlan, Verb } from '../../../src/console/api-types.ts';
import { type ServeConsoleOptions, serveConsole } from '../../../src/console/index.ts';
import { type Ask, askAt } from '../fixture.ts';

export async function consoleFor(options: ServeConsoleOptions) {
  const console = await serveConsole({ port: 0, registry: 'memory:console-test', ...options });
  const ask = (path: string, how: Ask = {}) =>
    askAt(console.port, path.startsWith('/') ? path : `/console/api/v1/${path}`, how);
  return {
    ask,
    port: console.port,
    // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse gives it
    async get<T = any>(path: string): Promise<T> {
      const answer = await ask(path);
      assert.equal(answer.status, 200, `${path}: ${answer.text}`);
      return answer.json<T>();
    },
    /** Both steps of an action. */
    async act(verb: Verb, body: object): Promise<{ plan: ActionPlan; outcome: ActionOutcome }> {
      const path = `actions/${verb}`;
      const first = await ask(path, { method: 'POST', body: { ...body, dryRun: true } });
      assert.equal(first.status, 200, first.text);
      const plan = first.json<ActionPlan>();
      const second = { token: plan.token, reason: 'because', confirm: plan.confirm ?? '' };
      const done = await ask(path, { method: 'POST', body: second });
      assert.equal(done.status, 200, done.text);
      return { plan, outcome: done.json<ActionOutcome>() };
    },
    [Symbol.asyncDispose]: () => console.close(),
  };
}

/** Three messages, a group that holds one of them, one dead letter. */
export async function fill(broker: Broker): Promise<void> {
  for (let n = 1; n <= 3; n++)
    await broker.publish('orders', { body: `{"n":${n}}`, headers: { a: 'b' } });
  let held = 0;
  const both = deferred();
  await broker.subscribe(
    'orders',
    async (delivery) => {
      if (delivery.json().n === 1) await delivery.deadLetter('no use');
      if (++held === 3) both.resolve();
    },
    { group: 'billing', from: 'earliest', ack: 'manual', retry: { attempts: 3 } },
  );
  await both.promise;
}

function deferred() {
  let resolve!: (value?: unknown) => void;
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
