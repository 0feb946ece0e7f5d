/**
 * Every action through the API: dry run, token, outcome, refusal, audit; jobs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type {
  ActionOutcome,
  AuditPage,
  EntriesPage,
  Job,
  Verb,
} from '../../../src/console/api-types.ts';
import { openConsole } from '../fixture.ts';
import { act, finished, pending, plan, post, ROOT, withPending } from './action-steps.ts';

test('a dry run changes nothing, and its token touches exactly what it showed', async () => {
  await using console = await openConsole();
  await withPending(console, 2);
  const target = { topic: 'orders', group: 'g', all: true };
  const planned = await plan(console, 'pending.acknowledge', { target });
  assert.equal(planned.count, 2);
  assert.match(planned.first[0]!, /^1-0 {2}held by ann, attempt 1, idle \d+ s$/);
  assert.equal((await pending(console)).total, 2);
  await console.client.call('XADD', 'orders', '3-0', 'body', 'late');
  await console.client.call('XREADGROUP', 'GROUP', 'g', 'ann', 'STREAMS', 'orders', '>');
  const done = await post(console, 'pending.acknowledge', { token: planned.token, reason: 'r' });
  assert.equal(done.json<ActionOutcome>().done, 2);
  assert.deepEqual(
    (await pending(console)).entries.map(({ id }) => id),
    ['3-0'],
  );
  const again = await post(console, 'pending.acknowledge', { token: planned.token });
  assert.equal(again.status, 412, 'a token works once');
});

test('an action without a token, with another verb or of another user does nothing', async () => {
  const users = [
    ['ann', 'on', '>ann', '~*', '&*', '+@all'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  await using console = await openConsole({}, users, { password: 'root' });
  await withPending(console, 1);
  const target = { topic: 'orders', group: 'g', ids: ['1-0'] };
  assert.equal((await post(console, 'pending.acknowledge', { target }, ROOT)).status, 400);
  assert.equal((await post(console, 'pending.acknowledge', [], ROOT)).status, 400);
  assert.equal((await post(console, 'pending.evil' as Verb, { target }, ROOT)).status, 404);
  const { token } = await plan(console, 'pending.acknowledge', { target }, ROOT);
  assert.equal((await post(console, 'pending.deliver', { token }, ROOT)).status, 403);
  const ann = { headers: { authorization: 'Bearer ann:ann' } };
  assert.equal((await post(console, 'pending.acknowledge', { token }, ann)).status, 403);
  assert.equal((await post(console, 'pending.acknowledge', { token: 'x' }, ROOT)).status, 412);
  const get = await console.ask('actions/pending.acknowledge', ROOT);
  assert.deepEqual([get.status, get.headers.allow], [400, 'POST']);
  const rows = await console.client.call('XPENDING', 'orders', 'g');
  assert.equal((rows as number[])[0], 1);
});

test('pending messages are delivered now, given back, claimed, dead-lettered, acknowledged', async () => {
  await using console = await openConsole();
  await withPending(console, 5);
  const target = (id: string) => ({ target: { topic: 'orders', group: 'g', ids: [id] } });
  await act(console, 'pending.deliver', target('1-0'));
  await act(console, 'pending.giveBack', {
    ...target('2-0'),
    options: { delayMs: 60_000, reason: 'x' },
  });
  await act(console, 'pending.claim', { ...target('3-0'), options: { consumer: 'bob' } });
  await act(console, 'pending.deadLetter', { ...target('4-0'), options: { reason: 'no use' } });
  await act(console, 'pending.acknowledge', target('5-0'));
  const { entries } = await pending(console);
  assert.deepEqual(
    entries.map(({ id, consumer }) => [id, consumer]),
    [
      ['1-0', ''],
      ['2-0', ''],
      ['3-0', 'bob'],
    ],
  );
  const read = await console.client.call(
    'XREADGROUP',
    'GROUP',
    'g',
    'eve',
    'STREAMS',
    'orders',
    '>',
  );
  assert.match(
    JSON.stringify(read instanceof Object ? [...(read as never as { entries: [] }).entries] : read),
    /./,
  );
  const after = await pending(console);
  assert.equal(after.entries.find(({ id }) => id === '1-0')?.consumer, 'eve', 'due at once');
  assert.equal(after.entries.find(({ id }) => id === '2-0')?.consumer, '', 'rests');
  const dead = await console.get('dead');
  assert.deepEqual(
    dead.entries.map((each: { origin: { id: string; reason: string } }) => each.origin),
    [{ ...dead.entries[0].origin, id: '4-0', reason: 'no use' }],
  );
  const gone = await plan(console, 'pending.acknowledge', target('5-0'));
  assert.deepEqual(gone.impossible, [{ what: '5-0', why: 'it is not pending any more' }]);
  assert.equal(gone.count, 0);
});

test('topics and groups are published to, scheduled, limited, replayed and deleted', async () => {
  await using console = await openConsole();
  const { client } = console;
  await withPending(console, 3);
  const topic = { target: { topic: 'orders' } };
  const group = { target: { topic: 'orders', group: 'g' } };
  const { made } = await act(console, 'topic.publish', {
    ...topic,
    options: { body: 'hello', headers: [['a', 'b']], key: 'k' },
  });
  const entry = await console.get(`topics/orders/entries/${made[0]}`);
  assert.deepEqual([entry.key, entry.headers, entry.body.text], ['k', [['a', 'b']], 'hello']);
  const later = await act(console, 'topic.schedule', {
    ...topic,
    options: { bodyBase64: 'AAE=', delayMs: 3_600_000 },
  });
  assert.deepEqual(later.made, ['s1']);
  const scheduled = await console.get('topics/orders/scheduled');
  assert.deepEqual([scheduled.total, scheduled.entries[0].bytes], [1, 2]);
  await act(console, 'topic.cancelScheduled', { target: { topic: 'orders', number: 's1' } });
  assert.equal(await client.call('XSCHEDULE', 'LEN', 'orders'), 0);
  await act(console, 'topic.retention', { ...topic, options: { maxLength: 2 } });
  assert.equal(await client.call('XLEN', 'orders'), 2);
  await act(console, 'group.policy', { ...group, options: { ackWaitMs: 500, deadLetter: null } });
  const [row] = await console.get('topics/orders/groups');
  assert.deepEqual([row.policy.ackWaitMs, row.policy.deadLetter], [500, null]);
  await act(console, 'group.replay', { ...group, options: { from: 'earliest' } });
  const [again] = await console.get('topics/orders/groups');
  assert.deepEqual([again.pending, again.lag, again.policy.ackWaitMs], [0, 2, 500]);
  await act(console, 'group.create', { target: { topic: 'orders', group: 'h' } });
  await act(console, 'group.delete', group);
  await act(console, 'topic.delete', topic);
  assert.equal(await client.call('EXISTS', 'orders'), 0);
  const audit = { target: { topic: '_rivulet.audit' }, dryRun: true };
  assert.equal((await post(console, 'topic.delete', audit)).status, 403);
});

test('a client is ended, a parameter and a user changed; no password is shown or stored', async () => {
  await using console = await openConsole();
  const id = String(await console.client.call('CLIENT', 'ID'));
  await act(console, 'server.config', { options: { name: 'slowlog-max-len', value: '7' } });
  const facts = await console.get('server');
  const find = (name: string) => facts.config.find(([each]: [string]) => each === name)?.[1];
  assert.equal(find('slowlog-max-len'), '7');
  const rules = 'on >hush ~* +@read';
  const planned = await plan(console, 'server.acl', { options: { user: 'ann', rules } });
  assert.ok(!JSON.stringify(planned).includes('hush'));
  await act(console, 'server.acl', { options: { user: 'ann', rules } });
  assert.equal(
    (await console.ask('', { headers: { authorization: 'Bearer ann:hush' } })).status,
    200,
  );
  const clients = await console.get('clients');
  assert.ok(clients.some((each: { id: string }) => each.id === id));
  const closed = new Promise((resolve) => console.client.once('disconnect', resolve));
  await act(console, 'server.killClient', { target: { client: id } });
  await closed;
  const audit = JSON.stringify(await console.get<AuditPage>('audit'));
  assert.ok(!audit.includes('hush'));
});

test('the audit has an intent before and an outcome after, with who, what and why', async () => {
  await using console = await openConsole();
  await withPending(console, 1);
  await act(console, 'pending.acknowledge', {
    target: { topic: 'orders', group: 'g', ids: ['1-0'] },
  });
  const { entries } = await console.get<AuditPage>('audit');
  assert.deepEqual(
    entries.map(({ phase, user, verb, target, count, reason, address }) => [
      phase,
      user,
      verb,
      target,
      count,
      reason,
      address,
    ]),
    ['done', 'intent'].map((phase) => [
      phase,
      'default',
      'pending.acknowledge',
      'orders / g',
      1,
      'because',
      '127.0.0.1',
    ]),
  );
  assert.equal(entries[0]!.action, entries[1]!.action);
});

test('where the audit cannot be written, nothing is done', async () => {
  await using console = await openConsole();
  await withPending(console, 1);
  await console.client.call('SET', '_rivulet.audit', 'in the way');
  const target = { topic: 'orders', group: 'g', ids: ['1-0'] };
  const { token } = await plan(console, 'pending.acknowledge', { target });
  const answer = await post(console, 'pending.acknowledge', { token, reason: 'r' });
  assert.equal(answer.status, 503);
  assert.match(answer.json().message, /nothing was done/);
  assert.equal((await pending(console)).total, 1);
});

test('verbs, lists and commands follow the rules of the user', async () => {
  const users = [
    ['reader', 'on', '>pw', '~*', '+@read'],
    ['worker', 'on', '>pw', '~orders*', '+@read', '+xadd', '+xack', '+xnack', '+xclaim', '+xdel'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  await using console = await openConsole({}, users, { password: 'root' });
  await withPending(console, 1);
  await console.client.call('XADD', 'secret', '1-0', 'body', 'x');
  const as = (user: string) => ({ headers: { authorization: `Bearer ${user}:pw` } });
  assert.deepEqual((await console.get('', as('reader'))).verbs, []);
  const { verbs, roles } = await console.get('', as('worker'));
  assert.deepEqual(roles, ['read', 'operate']);
  assert.ok(verbs.includes('pending.acknowledge') && !verbs.includes('topic.delete'));
  const acknowledge = { target: { topic: 'orders', group: 'g', ids: ['1-0'] }, dryRun: true };
  assert.equal((await post(console, 'pending.acknowledge', acknowledge, as('reader'))).status, 403);
  const foreign = { target: { topic: 'secret' }, options: { body: 'x' }, dryRun: true };
  assert.equal((await post(console, 'topic.publish', foreign, as('worker'))).status, 403);
  const remove = { target: { topic: 'orders' }, dryRun: true };
  assert.equal((await post(console, 'topic.delete', remove, as('worker'))).status, 403);
  await act(console, 'pending.acknowledge', { target: acknowledge.target }, as('worker'));
});

test('above 1000 things an action is a job, with progress, a list of failures, and a stop', async () => {
  await using console = await openConsole();
  const pipeline = [];
  for (let i = 1; i <= 5000; i++) {
    const dead = ['rivulet-dead-topic', i % 1000 === 0 ? 'text' : 'orders'];
    pipeline.push(['XADD', 'orders.dead', `${i}-0`, 'body', `{"n":${i}}`, ...dead]);
  }
  await console.client.call('SET', 'text', 'no stream');
  await console.client.pipeline(pipeline);
  const where = 'json.n > 1000';
  const target = { topic: 'orders.dead', all: true, where };
  const outcome = await act(console, 'dead.redrive', { target });
  assert.ok(outcome.job !== null);
  let job: Job = outcome.job;
  job = await finished(console, job.id);
  assert.deepEqual([job.state, job.total, job.done, job.failed], ['done', 4000, 3996, 4]);
  assert.equal(job.failures.length, 4);
  assert.match(job.failures[0]!.why, /WRONGTYPE|wrong kind/);
  assert.equal(await console.client.call('XLEN', 'orders'), 3996);
  const rest = await act(console, 'dead.delete', {
    target: { topic: 'orders.dead', all: true },
  });
  assert.ok(rest.job !== null);
  const stopped = await console.ask(`jobs/${rest.job.id}/stop`, { method: 'POST', body: {} });
  assert.equal(stopped.status, 200);
  job = await finished(console, rest.job.id);
  assert.ok(['stopped', 'done'].includes(job.state));
  assert.equal(Number(await console.client.call('XLEN', 'orders.dead')), 1004 - job.done);
});

test('a replay to an id that no message can have is refused before the group is touched', async () => {
  await using console = await openConsole();
  await withPending(console, 2);
  for (const from of ['99999999999999999999', '1-18446744073709551616', '18446744073709551616-0']) {
    const body = { dryRun: true, target: { topic: 'orders', group: 'g' }, options: { from } };
    const answer = await post(console, 'group.replay', body);
    assert.deepEqual([answer.status, answer.json().code], [400, 'INVALID_ARGUMENT'], from);
  }
  assert.equal((await pending(console)).total, 2);
});

test('what Rivulet writes alone is neither emptied nor written by an action', async () => {
  await using console = await openConsole();
  await act(console, 'topic.publish', { target: { topic: 'a' }, options: { body: 'x' } });
  await console.client.call('XGROUP', 'CREATE', 'a', 'g', '0');
  const target = { topic: '_rivulet.audit', all: true };
  const forged = { target: { topic: 'a', group: 'g' }, options: { deadLetter: '_rivulet.audit' } };
  const tries: [Verb, object][] = [
    ['dead.delete', { target }],
    ['dead.redrive', { target }],
    ['dead.edit', { target: { topic: '_rivulet.audit', ids: ['1-1'] }, options: { body: 'x' } }],
    ['group.policy', forged],
  ];
  for (const [verb, body] of tries) {
    const answer = await post(console, verb, { ...body, dryRun: true });
    assert.equal(answer.status, 403, `${verb}: ${answer.text}`);
  }
  assert.equal((await console.get<AuditPage>('audit')).entries.length, 2);
});

test('a job ends with its user: not one thing more is done with the rights of a deleted user', async () => {
  const users = [
    ['ann', 'on', '>ann', '~*', '&*', '+@all'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  await using console = await openConsole({}, users, { password: 'root' });
  const ann = { headers: { authorization: 'Bearer ann:ann' } };
  const add = Array.from({ length: 5000 }, () => ['XADD', 'a.dead', '*', 'body', 'x']);
  for (let i = 0; i < 4; i++) await console.client.pipeline(add);
  const target = { topic: 'a.dead', all: true };
  const { token } = await plan(console, 'dead.delete', { target }, ann);
  const body = { token, confirm: 'a.dead' };
  const started = (await post(console, 'dead.delete', body, ann)).json<ActionOutcome>();
  await console.client.call('ACL', 'DELUSER', 'ann');
  const left = await console.client.call('XLEN', 'a.dead');
  const job = await finished(console, started.job?.id, ROOT);
  assert.ok(Number(left) > 0, 'the user was deleted while the job ran');
  assert.equal(await console.client.call('XLEN', 'a.dead'), left);
  assert.equal(job.failed, left);
});

test('an error of the server shows no password, and the audit stores none', async () => {
  await using console = await openConsole();
  const hash = `${'ab'.repeat(31)}XY`;
  for (const rules of ['on <hush', `#${hash}`, `!${hash}`, '>hush +nonsense <hush2']) {
    const outcome = await act(console, 'server.acl', { options: { user: 'ann', rules } });
    assert.equal(outcome.done, 0);
    assert.doesNotMatch(JSON.stringify(outcome), /hush|abab/);
  }
  assert.doesNotMatch(JSON.stringify(await console.get<AuditPage>('audit')), /hush|abab/);
});

test('an action of a wrong form is refused for what is wrong, and nothing else is stored instead', async () => {
  await using console = await openConsole();
  const to = (options: object) => ({ target: { topic: 'a' }, options });
  const wrong: [Verb, object, RegExp][] = [
    ['dead.delete', { target: { topic: 'a.dead', all: true, where: 5 } }, /where is a text/],
    ['topic.cancelScheduled', { target: { topic: 'a', number: {} } }, /number is a text/],
    ['server.killClient', { target: { client: 1 } }, /client is a text/],
    ['topic.publish', to({ body: '\ud800' }), /body is a text/],
    ['topic.publish', to({ body: 'x', key: '\udc00' }), /key is a text/],
    ['topic.publish', to({ body: 'x', key: 5 }), /key is a text/],
    ['topic.publish', to({ body: 'x', headers: 'abc' }), /headers are an object/],
    ['topic.publish', to({ body: 'x', headers: { a: '\ud800' } }), /the header a is a text/],
    ['group.policy', { ...to({ backoffMs: ['x'] }), target: { topic: 'a', group: 'g' } }, /min is/],
  ];
  for (const [verb, body, why] of wrong) {
    const answer = await post(console, verb, { ...body, dryRun: true });
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.json().message, why);
  }
  const headers = JSON.parse('{"__proto__":"kept","constructor":"too"}');
  await act(console, 'topic.publish', to({ body: 'x', headers }));
  const page = await console.get<EntriesPage>('topics/a/entries');
  assert.deepEqual(page.entries[0]?.headers, [
    ['__proto__', 'kept'],
    ['constructor', 'too'],
  ]);
});

test('plans of one user hold 32 MiB: older ones make room for the next', async () => {
  await using console = await openConsole();
  const body = { target: { topic: 'a' }, options: { body: 'x'.repeat(7 * 1024 * 1024) } };
  const tokens: string[] = [];
  for (let i = 0; i < 6; i++) tokens.push((await plan(console, 'topic.publish', body)).token);
  const statuses: number[] = [];
  for (const token of tokens) {
    statuses.push((await post(console, 'topic.publish', { token })).status);
  }
  assert.deepEqual(statuses, [412, 412, 200, 200, 200, 200]);
});

test('a topic that is gone, or another kind of key by now, is not deleted', async () => {
  await using console = await openConsole();
  const { client } = console;
  const outcomes: ActionOutcome[] = [];
  for (const instead of [[], ['SET', 'a', 'kept']]) {
    await client.call('DEL', 'a');
    await client.call('XADD', 'a', '1-0', 'body', 'x');
    const { token } = await plan(console, 'topic.delete', { target: { topic: 'a' } });
    await client.call('DEL', 'a');
    if (instead.length > 0) await client.call(...(instead as [string]));
    const second = { token, confirm: 'a' };
    outcomes.push((await post(console, 'topic.delete', second)).json<ActionOutcome>());
  }
  assert.deepEqual(
    outcomes.map(({ done, failed }) => [done, failed.length]),
    [
      [0, 1],
      [0, 1],
    ],
  );
  assert.equal(String(await client.call('GET', 'a')), 'kept');
});

test('a console that closes stops its jobs, and the audit says how far they came', async () => {
  await using console = await openConsole();
  const { client } = console;
  const add = Array.from({ length: 5000 }, () => ['XADD', 'a.dead', '*', 'body', 'x']);
  for (let i = 0; i < 4; i++) await client.pipeline(add);
  const target = { topic: 'a.dead', all: true };
  const { token } = await plan(console, 'dead.delete', { target });
  await post(console, 'dead.delete', { token, confirm: 'a.dead' });
  await console.console.close();
  const left = Number(await client.call('XLEN', 'a.dead'));
  const entries = (await client.call('XRANGE', '_rivulet.audit', '-', '+')) as [string, Buffer[]][];
  const [intent, outcome] = entries.map(([, fields]) => JSON.parse(String(fields.at(-1))));
  assert.deepEqual([intent.phase, outcome?.phase], ['intent', 'failed']);
  assert.equal(outcome.error, `stopped: ${20_000 - left} of 20000 done, 0 failed`);
});

test('a replay by a user who may not run MULTI does nothing', async () => {
  const ann = ['ann', 'on', '>ann', '~*', '&*', '+@all', '-multi'];
  await using console = await openConsole({}, [ann]);
  await withPending(console, 2);
  const as = { headers: { authorization: 'Bearer ann:ann' } };
  const body = { target: { topic: 'orders', group: 'g' }, options: { from: 'earliest' } };
  const outcome = await act(console, 'group.replay', body, as);
  assert.match(outcome.failed[0]?.why ?? '', /NOPERM/);
  assert.equal((await pending(console)).total, 2);
});

test('a second step that is refused leaves its token, and the next one acts', async () => {
  await using console = await openConsole();
  const target = { topic: 'orders' };
  const { token } = await plan(console, 'topic.publish', { target, options: { body: 'x' } });
  const long = await post(console, 'topic.publish', { token, reason: 'x'.repeat(501) });
  assert.deepEqual([long.status, long.json().code], [400, 'INVALID_ARGUMENT']);
  const done = await post(console, 'topic.publish', { token, reason: 'short' });
  assert.deepEqual([done.status, done.json<ActionOutcome>().done], [200, 1]);
});

test('what is no number is refused as one, though JavaScript would make a number of it', async () => {
  await using console = await openConsole();
  await withPending(console, 1);
  const target = { topic: 'orders', group: 'g', ids: ['1-0'] };
  for (const delayMs of [true, [5], '1e3', ' 5', '0x10', 1.5, -1, {}]) {
    const body = { dryRun: true, target, options: { delayMs } };
    const answer = await post(console, 'pending.giveBack', body);
    assert.equal(answer.status, 400, JSON.stringify(delayMs));
    assert.match(answer.json().message, /delayMs is a whole number/);
  }
  const group = { topic: 'orders', group: 'g' };
  const list = { dryRun: true, target: group, options: { backoffMs: '5, 10' } };
  assert.match((await post(console, 'group.policy', list)).json().message, /backoffMs is a list/);
  await plan(console, 'pending.giveBack', { target, options: { delayMs: '5' } });
});
