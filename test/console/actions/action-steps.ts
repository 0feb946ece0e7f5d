/**
 * Actions as a test takes them: the dry run, the second step, both; and a group with pending messages.
 */
import assert from 'node:assert/strict';
import type {
  ActionOutcome,
  ActionPlan,
  Job,
  PendingPage,
  Verb,
} from '../../../src/console/api-types.ts';
import { until } from '../../helpers/until.ts';
import type { Answer, Ask, OpenConsole } from '../fixture.ts';

export const ROOT = { headers: { authorization: 'Bearer root' } };

export function post(
  console: OpenConsole,
  verb: Verb,
  body: object,
  as: Ask = {},
): Promise<Answer> {
  return console.ask(`actions/${verb}`, { ...as, method: 'POST', body });
}

export async function plan(console: OpenConsole, verb: Verb, body: object, as: Ask = {}) {
  const answer = await post(console, verb, { ...body, dryRun: true }, as);
  assert.equal(answer.status, 200, answer.text);
  return answer.json<ActionPlan>();
}

export async function act(console: OpenConsole, verb: Verb, body: object, as: Ask = {}) {
  const { token, confirm } = await plan(console, verb, body, as);
  const second = { token, reason: 'because', ...(confirm === null ? {} : { confirm }) };
  const answer = await post(console, verb, second, as);
  assert.equal(answer.status, 200, answer.text);
  return answer.json<ActionOutcome>();
}

/** The job once it has ended. */
export async function finished(console: OpenConsole, id: string | undefined, as: Ask = {}) {
  const read = () => console.get<Job>(`jobs/${id}`, as);
  let job = await read();
  await until(async () => {
    if (job.state === 'running') job = await read();
    return job.state !== 'running';
  });
  return job;
}

export async function withPending(console: OpenConsole, count = 3): Promise<string[]> {
  const { client } = console;
  for (let i = 1; i <= count; i++)
    await client.call('XADD', 'orders', `${i}-0`, 'body', `{"n":${i}}`);
  await client.call('XGROUP', 'CREATE', 'orders', 'g', '0');
  const policy = ['ACKWAIT', 30_000, 'MAXDELIVERIES', 9, 'DEADLETTER', 'orders.dead'];
  await client.call('XGROUP', 'SETPOLICY', 'orders', 'g', ...policy);
  await client.call('XREADGROUP', 'GROUP', 'g', 'ann', 'COUNT', count, 'STREAMS', 'orders', '>');
  return Array.from({ length: count }, (_, i) => `${i + 1}-0`);
}

export const pending = (console: OpenConsole) =>
  console.get<PendingPage>('topics/orders/groups/g/pending?limit=1000');
