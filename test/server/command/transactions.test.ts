/** MULTI, EXEC, DISCARD, WATCH: what is queued, what is run, what fails an EXEC. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessServer } from '../../helpers/in-process-server.ts';

function open() {
  const server = new InProcessServer();
  return { server, a: server.session(), b: server.session() };
}

test('queued commands run as one step and their replies come together', () => {
  const { a, b } = open();
  a.call('MULTI');
  assert.equal(a.call('SET', 'k', '1'), 'QUEUED');
  assert.equal(a.call('INCR', 'k'), 'QUEUED');
  assert.equal(b.call('GET', 'k'), null);
  assert.equal(a.call('INCR', 'other'), 'QUEUED');
  assert.deepEqual(a.call('EXEC'), ['OK', 2, 1]);
});

test('MULTI, EXEC, DISCARD and WATCH say what they miss', () => {
  const { a } = open();
  const error = (...args: string[]): string => (a.call(...args) as Error).message;
  assert.equal(error('EXEC'), 'ERR EXEC without MULTI');
  assert.equal(error('DISCARD'), 'ERR DISCARD without MULTI');
  a.call('MULTI');
  assert.equal(error('MULTI'), 'ERR MULTI calls can not be nested');
  assert.equal(error('WATCH', 'k'), 'ERR WATCH inside MULTI is not allowed');
  assert.deepEqual(a.call('EXEC'), []);
  a.call('MULTI');
  assert.equal(error('SET', 'k'), "ERR wrong number of arguments for 'set' command");
  assert.equal(error('EXEC'), 'EXECABORT Transaction discarded because of previous errors.');
  a.call('MULTI');
  a.call('SET', 'k', 'v');
  assert.equal(a.call('DISCARD'), 'OK');
  assert.equal(a.call('GET', 'k'), null);
});

test('an error of one queued command does not stop the others', () => {
  const { a } = open();
  a.call('SET', 'k', 'text');
  a.call('MULTI');
  a.call('INCR', 'k');
  a.call('SET', 'k', '5');
  const [failed, done] = a.call('EXEC') as [Error, string];
  assert.equal(failed.message, 'ERR value is not an integer or out of range');
  assert.equal(done, 'OK');
});

/** Whether EXEC goes through after `other` did something between WATCH and EXEC. */
function survives(prepare: string[][], watched: string, between: string[][]): boolean {
  const { a, b, server } = open();
  for (const command of prepare) a.call(...command);
  a.call('WATCH', watched);
  for (const command of between) {
    if (command[0] === 'sleep') server.clock.advance(Number(command[1]));
    else b.call(...command);
  }
  a.call('MULTI');
  a.call('SET', 'done', '1');
  return a.call('EXEC') !== null;
}

test('a watched key that was written, created, removed, renamed, or has expired fails EXEC', () => {
  const set = [['SET', 'k', 'v']];
  assert.ok(survives(set, 'k', []));
  assert.ok(
    survives(set, 'k', [
      ['GET', 'k'],
      ['SET', 'other', 'v'],
    ]),
  );
  assert.ok(survives([], 'k', [['DEL', 'k'], ['FLUSHALL']]));
  assert.ok(!survives(set, 'k', [['SET', 'k', 'v']]));
  assert.ok(!survives([], 'k', [['SET', 'k', 'v']]));
  assert.ok(
    !survives([], 'k', [
      ['SET', 'k', 'v'],
      ['DEL', 'k'],
    ]),
  );
  assert.ok(!survives(set, 'k', [['DEL', 'k']]));
  assert.ok(!survives(set, 'k', [['EXPIRE', 'k', '100']]));
  assert.ok(!survives(set, 'k', [['RENAME', 'k', 'l']]));
  assert.ok(!survives(set, 'l', [['RENAME', 'k', 'l']]));
  assert.ok(!survives(set, 'l', [['COPY', 'k', 'l']]));
  assert.ok(!survives(set, 'k', [['MOVE', 'k', '1']]));
  assert.ok(!survives(set, 'k', [['FLUSHDB']]));
  assert.ok(!survives(set, 'k', [['SWAPDB', '0', '1']]));
  assert.ok(survives([], 'k', [['SWAPDB', '0', '1']]));
  assert.ok(!survives([['XADD', 'k', '1-1', 'f', 'v']], 'k', [['XADD', 'k', '2-1', 'f', 'v']]));
  assert.ok(!survives([['XADD', 'k', '1-1', 'f', 'v']], 'k', [['XDEL', 'k', '1-1']]));
});

test('a key that expires after WATCH fails EXEC, one that had expired before does not', () => {
  const set = [['SET', 'k', 'v', 'PX', '10']];
  assert.ok(!survives(set, 'k', [['sleep', '50']]));
  assert.ok(
    !survives(set, 'k', [
      ['sleep', '50'],
      ['GET', 'k'],
    ]),
  );
  const { a, server } = open();
  a.call('SET', 'k', 'v', 'PX', '10');
  server.clock.advance(50);
  a.call('WATCH', 'k');
  a.call('MULTI');
  assert.deepEqual(a.call('EXEC'), []);
});

test('UNWATCH, EXEC and DISCARD forget the watched keys', () => {
  for (const end of [['UNWATCH'], ['MULTI', 'EXEC'], ['MULTI', 'DISCARD']]) {
    const { a, b } = open();
    a.call('WATCH', 'k');
    if (end[0] === 'UNWATCH') b.call('SET', 'k', '1');
    for (const command of end) a.call(command);
    if (end[0] !== 'UNWATCH') b.call('SET', 'k', '1');
    a.call('MULTI');
    assert.deepEqual(a.call('EXEC'), [], end.join(' '));
  }
});
