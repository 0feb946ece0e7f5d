/**
 * Streams both ways as a client sees them: OPEN, SEND, GRANT, and the pushes of both sides.
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

/** A stream that is open, with windows of 1000 bytes for the caller and 500 for the responder. */
function opened(): { caller: InProcessSession; responder: InProcessSession } {
  const server = new InProcessServer();
  const [caller, responder] = [server.session(3), server.session(3)];
  assert.equal(responder.call('RESPOND', 't', 'WINDOW', 500), 'OK');
  assert.equal(caller.call('OPEN', 't', 1000, 1000, 'head', 'body'), 1);
  assert.equal(heard(responder), '>6|$4|open|:1|$1|t|:1000|$4|head|$4|body|');
  assert.equal(heard(caller), '>3|$5|grant|:1|:500|');
  return { caller, responder };
}

describe('streams both ways', () => {
  test('messages go both ways, each side ends its own, and both ends end the stream', () => {
    const { caller, responder } = opened();
    assert.equal(caller.call('SEND', 1, 'MORE', 'a', 'b'), 1);
    assert.equal(heard(responder), '>4|$4|more|:1|$1|a|$1|b|');
    assert.equal(responder.call('REPLY', 1, 'MORE', 'c'), 1);
    assert.equal(heard(caller), '>3|$4|more|:1|$1|c|');
    assert.equal(responder.call('REPLY', 1, 'END', 'trailers'), 1);
    assert.equal(heard(caller), '>3|$3|end|:1|$8|trailers|');
    assert.equal(caller.call('SEND', 1, 'MORE', 'still'), 1);
    assert.equal(heard(responder), '>3|$4|more|:1|$5|still|');
    assert.equal(caller.call('SEND', 1, 'END'), 1);
    assert.equal(heard(responder), '>2|$3|end|:1|');
    assert.equal(caller.call('SEND', 1, 'MORE', 'late'), 0);
    assert.equal(responder.call('REPLY', 1, 'LAST', 'late'), 0);
    assert.equal(heard(caller) + heard(responder), '');
  });

  test('a last reply and an error end both directions', () => {
    const one = opened();
    one.responder.call('REPLY', 1, 'LAST', 'done');
    assert.equal(heard(one.caller), '>3|$5|reply|:1|$4|done|');
    assert.equal(one.caller.call('SEND', 1, 'MORE', 'x'), 0);
    const two = opened();
    two.responder.call('REPLY', 1, 'ERROR', 'NOT_FOUND', 'none');
    assert.match(heard(two.caller), /failed\|:1\|\$9\|NOT_FOUND/);
    const three = opened();
    assert.equal(three.caller.call('SEND', 1, 'ERROR', 'ABORTED', 'enough'), 1);
    assert.equal(heard(three.responder), '>2|$6|cancel|:1|');
    assert.equal(three.responder.call('REPLY', 1, 'MORE', 'x'), 0);
  });

  test('a message may be sent while the credit is above 0, and costs its bytes and 64', () => {
    const { caller, responder } = opened();
    assert.equal(caller.call('SEND', 1, 'MORE', 'x'.repeat(435)), 1);
    // 1 byte is left: one more message of any size.
    assert.equal(caller.call('SEND', 1, 'MORE', 'x'.repeat(10_000)), 1);
    heard(responder);
    assert.equal(responder.call('GRANT', 1, 10_064), 1);
    assert.equal(heard(caller), '>3|$5|grant|:1|:10064|');
    assert.equal(caller.call('SEND', 1, 'MORE', ''), 1);
    heard(responder);
    assert.equal(caller.call('SEND', 1, 'MORE', ''), 0);
    assert.match(heard(caller), /failed\|:1\|\$8\|PROTOCOL\|\$\d+\|SEND beyond the credit/);
    assert.equal(heard(responder), '>2|$6|cancel|:1|');
    assert.equal(caller.call('GRANT', 1, 5), 0);
  });

  test('a responder that sends beyond its credit breaks its stream and no other', () => {
    const { caller, responder } = opened();
    assert.equal(caller.call('OPEN', 't', 1000, 100, 'x'), 2);
    heard(caller);
    heard(responder);
    assert.equal(responder.call('REPLY', 2, 'MORE', 'y'.repeat(36)), 1);
    assert.equal(responder.call('REPLY', 2, 'MORE', 'z'), 0);
    assert.match(heard(caller), /more\|:2.*failed\|:2\|\$8\|PROTOCOL/);
    assert.equal(heard(responder), '>2|$6|cancel|:2|');
    assert.equal(responder.call('REPLY', 1, 'MORE', 'fine'), 1);
    assert.equal(caller.call('GRANT', 1, 68), 1);
    assert.equal(heard(responder), '>3|$5|grant|:1|:68|');
  });

  test('a grant of nothing shows that a side is there, one of too much breaks the stream', () => {
    const { caller, responder } = opened();
    assert.equal(caller.call('GRANT', 1, 0), 1);
    assert.equal(heard(responder), '>3|$5|grant|:1|:0|');
    assert.equal(responder.call('GRANT', 1, 2 ** 31 - 1), 0);
    assert.match(heard(caller), /PROTOCOL\|\$\d+\|GRANT of too much/);
    assert.equal(heard(responder), '>2|$6|cancel|:1|');
  });

  test('what comes after an end breaks the stream', () => {
    const one = opened();
    one.caller.call('SEND', 1, 'END');
    assert.equal(one.caller.call('SEND', 1, 'MORE', 'x'), 0);
    assert.match(heard(one.caller), /PROTOCOL\|\$\d+\|SEND after the end/);
    const two = opened();
    two.responder.call('REPLY', 1, 'END');
    assert.equal(two.responder.call('REPLY', 1, 'MORE', 'x'), 0);
    assert.match(heard(two.caller), /PROTOCOL\|\$\d+\|REPLY after the end/);
  });

  test('a request that is no stream takes neither messages nor grants', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't', 'WINDOW', 500);
    caller.call('REQUEST', 't', 1000, 'x');
    assert.equal(caller.call('SEND', 1, 'MORE', 'x'), 0);
    assert.match(heard(caller), /PROTOCOL\|\$\d+\|SEND to a request that is no stream/);
    caller.call('REQUEST', 't', 1000, 'x');
    assert.equal(responder.call('GRANT', 2, 5), 0);
    assert.match(heard(caller), /PROTOCOL\|\$\d+\|GRANT to a request that is no stream/);
  });

  test('a responder that named no window takes no stream, and no client opens one to itself', () => {
    const server = new InProcessServer();
    const [caller, plain, able] = [server.session(3), server.session(3), server.session(3)];
    assert.match(text(caller.call('OPEN', 't', 1000, 100, 'x')), /^NORESPONDERS/);
    plain.call('RESPOND', 't');
    assert.match(text(caller.call('OPEN', 't', 1000, 100, 'x')), /^UNSUPPORTED/);
    assert.equal(caller.call('REQUEST', 't', 1000, 'x'), 1);
    caller.call('RESPOND', 't', 'WINDOW', 100);
    assert.match(text(caller.call('OPEN', 't', 1000, 100, 'x')), /^UNSUPPORTED/);
    able.call('RESPOND', 't', 'WINDOW', 100);
    for (let id = 2; id < 6; id++) assert.equal(caller.call('OPEN', 't', 1000, 100, 'x'), id);
    assert.equal(heard(able).match(/\$4\|open/g)?.length, 4);
  });

  test('a stream that waits for a responder gets its first credit when one has it', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't', 'WINDOW', 500, 'CREDIT', 1);
    caller.call('OPEN', 't', 1000, 100, 'first');
    heard(caller);
    assert.equal(caller.call('OPEN', 't', 1000, 100, 'waits'), 2);
    assert.equal(heard(caller), '');
    assert.equal(caller.call('REQUEST', 't', 1000, 'behind'), 3);
    responder.call('REPLY', 1, 'LAST', 'done');
    assert.match(heard(caller), /grant\|:2\|:500.*reply\|:1/);
    responder.call('UNRESPOND', 't');
    assert.match(heard(caller), /failed\|:3\|\$12\|NORESPONDERS/);
    assert.equal(caller.call('SEND', 2, 'MORE', 'still'), 1);
  });

  test('when the last one that takes streams leaves, streams that wait fail and requests do not', () => {
    const server = new InProcessServer();
    const [caller, able, plain] = [server.session(3), server.session(3), server.session(3)];
    able.call('RESPOND', 't', 'WINDOW', 500, 'CREDIT', 1);
    plain.call('RESPOND', 't', 'CREDIT', 1);
    caller.call('OPEN', 't', 1000, 100, '1');
    caller.call('REQUEST', 't', 1000, '2');
    caller.call('OPEN', 't', 1000, 100, '3');
    caller.call('REQUEST', 't', 1000, '4');
    heard(caller);
    // The stream at the head of the queue does not stop the request behind it.
    plain.call('REPLY', 2, 'LAST', 'x');
    assert.match(heard(plain), /request\|:4/);
    able.call('UNRESPOND', 't');
    assert.match(heard(caller), /reply\|:2.*failed\|:3\|\$12\|NORESPONDERS/);
  });

  test('a side whose connection ends ends the stream for the other', () => {
    const one = opened();
    one.responder.requests?.clear();
    assert.match(heard(one.caller), /failed\|:1\|\$13\|RESPONDERLOST/);
    const two = opened();
    two.caller.requests?.clear();
    assert.equal(heard(two.responder), '>2|$6|cancel|:1|');
  });

  test('a stream without a deadline outlives every other, one with a deadline ends at it', () => {
    const server = new InProcessServer();
    const [caller, responder] = [server.session(3), server.session(3)];
    responder.call('RESPOND', 't', 'WINDOW', 500);
    caller.call('OPEN', 't', 0, 100, 'x');
    caller.call('OPEN', 't', 200, 100, 'x');
    heard(caller);
    heard(responder);
    server.advance(100_000_000);
    assert.match(heard(caller), /failed\|:2\|\$7\|TIMEOUT/);
    assert.equal(heard(responder), '>2|$6|cancel|:2|');
    assert.equal(caller.call('SEND', 1, 'MORE', 'x'), 1);
  });

  test('what the server holds for a side that reads nothing is a window and one message', () => {
    const { caller, responder } = opened();
    const body = Buffer.alloc(300);
    while (responder.call('REPLY', 1, 'MORE', body) === 1);
    // The window of 1000, the message that went beyond it, their overhead, and the word of the end.
    const forCaller = caller.takeBytes().length;
    assert.ok(forCaller >= 1000 && forCaller <= 1000 + 300 + 64 + 200, `${forCaller} bytes`);
    const other = opened();
    while (other.caller.call('SEND', 1, 'MORE', body) === 1);
    const forResponder = other.responder.takeBytes().length;
    assert.ok(forResponder <= 500 + 300 + 64 + 100, `${forResponder} bytes`);
  });

  test('nonsense is refused', () => {
    const { caller, responder } = opened();
    const refused = (...args: (string | number)[]) => text(caller.call(...args));
    assert.match(refused('OPEN', 't', -1, 100, 'x'), /^ERR the timeout/);
    assert.match(refused('OPEN', 't', 1000, 0, 'x'), /^ERR the window/);
    assert.match(refused('OPEN', 't', 1000, 2 ** 31, 'x'), /^ERR the window/);
    assert.match(refused('OPEN', 't', 1000, 'wide', 'x'), /^ERR the window/);
    assert.match(refused('OPEN', 't', 1000, 100), /^ERR wrong number/);
    assert.match(refused('SEND', 1, 'PERHAPS', 'x'), /^ERR syntax/);
    assert.match(refused('SEND', 1, 'MORE'), /^ERR wrong number/);
    assert.match(refused('SEND', 1, 'END', 'x'), /^ERR wrong number/);
    assert.match(refused('SEND', 'one', 'END'), /^ERR value is not an integer/);
    assert.match(refused('GRANT', 1, -1), /^ERR the bytes/);
    assert.match(refused('GRANT', 1, 2 ** 31), /^ERR the bytes/);
    assert.match(refused('GRANT', 1, 'all'), /^ERR value is not an integer/);
    assert.match(text(responder.call('RESPOND', 'u', 'WINDOW', 0)), /^ERR the window/);
    assert.equal(caller.call('SEND', 99, 'MORE', 'x'), 0);
    assert.equal(responder.call('SEND', 1, 'MORE', 'x'), 0);
    assert.equal(caller.call('SEND', 1, 'MORE', 'x'), 1);
  });
});
