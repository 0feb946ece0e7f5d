/**
 * OWNER of XNACK and XCLAIM: a late word about an entry that is another's changes nothing.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InProcessServer, type InProcessSession } from '../../helpers/in-process-server.ts';

function deliveredToA(): { server: InProcessServer; session: InProcessSession } {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', '1-1', 'f', 'v');
  session.call('XADD', 's', '1-2', 'f', 'v');
  session.call('XGROUP', 'CREATE', 's', 'g', 0);
  session.call('XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', 1000, 'DEADLETTER', 'dead');
  session.call('XREADGROUP', 'GROUP', 'g', 'a', 'COUNT', 1, 'STREAMS', 's', '>');
  session.call('XREADGROUP', 'GROUP', 'g', 'b', 'COUNT', 1, 'STREAMS', 's', '>');
  return { server, session };
}

const NACK = ['XNACK', 's', 'g'] as const;

describe('OWNER', () => {
  test('XNACK gives back only what is still the consumer’s', () => {
    const { session } = deliveredToA();
    const both = ['IDS', 2, '1-1', '1-2'] as const;
    const before = session.call('XPENDING', 's', 'g', '-', '+', 10);
    assert.equal(session.call(...NACK, 'DEADLETTER', ...both, 'OWNER', 'nobody'), 0);
    assert.deepEqual(session.call('XPENDING', 's', 'g', '-', '+', 10), before);
    assert.equal(session.call(...NACK, 'DEADLETTER', ...both, 'OWNER', 'a'), 1);
    assert.equal(session.call('XLEN', 'dead'), 1);
    const left = session.call('XPENDING', 's', 'g', '-', '+', 10) as unknown[][];
    assert.deepEqual(
      left.map(([id, owner]) => [id, owner]),
      [['1-2', 'b']],
    );
  });

  test('XCLAIM leaves what is another’s with it', () => {
    const { session } = deliveredToA();
    const claim = (...ids: string[]) =>
      session.call('XCLAIM', 's', 'g', 'a', 0, ...ids, 'JUSTID', 'OWNER', 'a');
    assert.deepEqual(claim('1-1', '1-2'), ['1-1']);
    assert.deepEqual(claim('1-2'), []);
  });

  test('an empty name means what belongs to no consumer', () => {
    const { session } = deliveredToA();
    const claim = () =>
      session.call('XCLAIM', 's', 'g', 'c', 0, '1-1', '1-2', 'JUSTID', 'OWNER', '');
    assert.deepEqual(claim(), []);
    assert.equal(session.call(...NACK, 'FAIL', 'IDS', 1, '1-2'), 1);
    assert.deepEqual(claim(), ['1-2']);
  });

  test('with IDLE below 0 an entry of a group with a policy is due that much later', () => {
    const { server, session } = deliveredToA();
    session.call('XCLAIM', 's', 'g', 'a', 0, '1-1', 'IDLE', -4000, 'JUSTID');
    const read = () => session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
    server.advance(1500);
    assert.match(JSON.stringify(read()), /1-2/);
    server.advance(900);
    session.call('XACK', 's', 'g', '1-2');
    server.advance(2500);
    assert.equal(read(), null);
    server.advance(200);
    assert.match(JSON.stringify(read()), /1-1/);
  });

  test('without a policy IDLE below 0 is now, as in Redis', () => {
    const { session } = deliveredToA();
    session.call('XGROUP', 'DELPOLICY', 's', 'g');
    session.call('XCLAIM', 's', 'g', 'a', 0, '1-1', 'IDLE', -4000, 'JUSTID');
    const [first] = session.call('XPENDING', 's', 'g', '-', '+', 10) as unknown[][];
    assert.deepEqual(first, ['1-1', 'a', 0, 1]);
  });
});
