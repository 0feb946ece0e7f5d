/**
 * Requests and replies as a client sees them: pushes, refusals, bounds, and every way to end.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InProcessServer, type InProcessSession } from '../../helpers/in-process-server.ts';

/** Everything a session was sent since the last look, with `|` for line ends. */
function heard(session: InProcessSession): string {
  return session.takeBytes().toString().replaceAll('\r\n', '|');
}

function text(value: unknown): string {
  return value instanceof Error ? value.message : String(value);
}

describe('requests and replies', () => {
  test('a request reaches its responder part by part, its reply the caller', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(2)];
    assert.equal(responder.call('RESPOND', 'sum'), 'OK');
    assert.equal(caller.call('REQUEST', 'sum', 1000, 'head', ''), 1);
    assert.equal(heard(responder), '*5|$7|request|:1|$3|sum|$4|head|$0||');
    assert.equal(responder.call('REPLY', 1, 'LAST', 'three', 'tail'), 1);
    assert.equal(heard(caller), '>4|$5|reply|:1|$5|three|$4|tail|');
    assert.equal(responder.call('REPLY', 1, 'LAST', 'again'), 0);
    assert.equal(heard(caller), '');
  });

  test('many answers come in order and end; an error is code and text', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't');
    caller.call('REQUEST', 't', 1000, 'x');
    responder.call('REPLY', 1, 'MORE', 'a');
    responder.call('REPLY', 1, 'MORE', 'b');
    responder.call('REPLY', 1, 'END');
    assert.equal(heard(caller), '>3|$4|more|:1|$1|a|>3|$4|more|:1|$1|b|>2|$3|end|:1|');
    caller.call('REQUEST', 't', 1000, 'x');
    responder.call('REPLY', 2, 'ERROR', 'NOT_FOUND', 'no order größe');
    assert.equal(heard(caller), '>4|$6|failed|:2|$9|NOT_FOUND|$16|no order größe|');
  });

  test('without a responder a request fails at once, also when the last one leaves while requests wait', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    assert.match(text(caller.call('REQUEST', 't', 1000, 'x')), /^NORESPONDERS .*'t'$/);
    responder.call('RESPOND', 't', 'CREDIT', 1);
    caller.call('REQUEST', 't', 1000, 'first');
    caller.call('REQUEST', 't', 1000, 'waits');
    responder.call('UNRESPOND', 't');
    assert.match(heard(caller), /failed\|:2\|\$12\|NORESPONDERS/);
    assert.equal(responder.call('REPLY', 1, 'LAST', 'still'), 1);
    assert.match(text(caller.call('REQUEST', 't', 1000, 'x')), /^NORESPONDERS/);
    assert.equal(responder.call('UNRESPOND', 't'), 0);
  });

  test('a responder that goes loses its requests, a caller that goes cancels its own', () => {
    const server = new InProcessServer();
    const [caller, lost, other] = [server.session(3), server.session(3), server.session(3)];
    lost.call('RESPOND', 't');
    caller.call('REQUEST', 't', 1000, 'x');
    heard(lost);
    lost.requests?.clear();
    assert.match(heard(caller), /failed\|:1\|\$13\|RESPONDERLOST/);
    other.call('RESPOND', 't');
    caller.call('REQUEST', 't', 1000, 'x');
    caller.call('REQUEST', 't', 1000, 'y');
    heard(other);
    assert.equal(caller.call('CANCEL', 3), 1);
    assert.equal(caller.call('CANCEL', 3), 0);
    assert.equal(heard(other), '>2|$6|cancel|:3|');
    caller.requests?.clear();
    assert.equal(heard(other), '>2|$6|cancel|:2|');
  });

  test('no client answers or cancels for another', () => {
    const server = new InProcessServer();
    const [caller, responder, stranger] = [server.session(3), server.session(3), server.session(3)];
    responder.call('RESPOND', 't');
    caller.call('REQUEST', 't', 1000, 'x');
    assert.equal(stranger.call('REPLY', 1, 'LAST', 'forged'), 0);
    assert.equal(stranger.call('CANCEL', 1), 0);
    assert.equal(heard(caller), '');
    assert.equal(responder.call('REPLY', 1, 'LAST', 'real'), 1);
  });

  test('what is not answered in time fails, and the responder is notified', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't');
    caller.call('REQUEST', 't', 200, 'x');
    heard(responder);
    server.advance(190);
    assert.equal(heard(caller), '');
    server.advance(150);
    assert.match(heard(caller), /failed\|:1\|\$7\|TIMEOUT/);
    assert.equal(heard(responder), '>2|$6|cancel|:1|');
  });

  test('credit bounds what a responder has in hand; the rest waits in line, kept whole', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't', 'CREDIT', 2);
    for (const part of ['a', 'b', 'c', 'd']) caller.call('REQUEST', 't', 1000, part);
    assert.deepEqual(heard(responder).match(/\$1\|[a-d]\|/g), ['$1|a|', '$1|b|']);
    responder.run('REPLY', 2, 'LAST', 'done');
    assert.match(heard(responder), /request\|:3\|\$1\|t\|\$1\|c\|/);
    assert.equal(caller.call('CANCEL', 4), 1);
    responder.run('REPLY', 1, 'LAST', 'done');
    assert.doesNotMatch(heard(responder), /request/);
  });

  test('the least busy has it; groups take turns; one request goes to one of them', () => {
    const server = new InProcessServer();
    const caller = server.session(3);
    const members = Array.from({ length: 4 }, () => server.session(3));
    members.forEach((member, index) => {
      member.call('RESPOND', 't', 'GROUP', index < 3 ? 'many' : 'one');
    });
    for (let i = 0; i < 12; i++) caller.call('REQUEST', 't', 1000, 'x');
    const counts = members.map((member) => heard(member).match(/request/g)?.length ?? 0);
    assert.deepEqual(counts, [2, 2, 2, 6]);
  });

  test('a queue without room refuses with LIMIT', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't', 'CREDIT', 1);
    const large = Buffer.alloc(30 * 1024 * 1024);
    caller.call('REQUEST', 't', 1000, 'x');
    assert.equal(caller.call('REQUEST', 't', 1000, large), 2);
    assert.equal(caller.call('REQUEST', 't', 1000, large), 3);
    assert.match(text(caller.call('REQUEST', 't', 1000, large)), /^LIMIT /);
    caller.call('CANCEL', 2);
    assert.equal(caller.call('REQUEST', 't', 1000, large), 4);
  });

  test('RESPONDERS shows the responders and how busy they are', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(2)];
    responder.call('RESPOND', 't', 'GROUP', 'g', 'CREDIT', 1);
    caller.call('REQUEST', 't', 1000, 'x');
    caller.call('REQUEST', 't', 1000, 'y');
    heard(responder);
    const groups = ['name', 'g', 'responders', 1, 'credit', 1, 'in-hand', 1];
    const expected = [['topic', 't', 'queued', 1, 'groups', [groups]]];
    assert.deepEqual(responder.call('RESPONDERS', 't'), expected);
    assert.deepEqual(responder.call('RESPONDERS'), expected);
    assert.deepEqual(responder.call('RESPONDERS', 'u'), []);
  });

  test('nonsense is refused', () => {
    const server = new InProcessServer();
    const session = server.session(3);
    const refused = (...args: (string | number)[]) => text(session.call(...args));
    assert.match(refused('RESPOND', 't', 'CREDIT', 0), /^ERR CREDIT/);
    assert.match(refused('RESPOND', 't', 'CREDITS', 1), /^ERR syntax/);
    assert.match(refused('RESPOND', 't', 'ALIVE', 10), /^ERR ALIVE/);
    assert.match(refused('REQUEST', 't', 0, 'x'), /^ERR the timeout/);
    assert.match(refused('REQUEST', 't', 'soon', 'x'), /^ERR the timeout/);
    assert.match(refused('REPLY', 'one', 'LAST', 'x'), /^ERR value is not an integer/);
    assert.match(refused('REPLY', 1, 'PERHAPS', 'x'), /^ERR syntax/);
    assert.match(refused('REPLY', 1, 'LAST'), /^ERR wrong number/);
    assert.match(refused('REPLY', 1, 'END', 'head', 'x'), /^ERR wrong number/);
    assert.match(refused('REPLY', 1, 'ERROR', 'x'), /^ERR wrong number/);
    assert.equal(session.call('RESPOND', 't'), 'OK');
    assert.match(refused('RESPOND', 't'), /^ERR this connection responds/);
  });
});
