/**
 * Requests and replies: RESPOND, UNRESPOND, REQUEST, REPLY, CANCEL, ASK, RESPONDERS, and OPEN, SEND and
 * GRANT for streams both ways. Not Redis's.
 *
 * All but ASK is multiplexed: REQUEST replies with the request's number at once, and its answers come as
 * pushes (request-session.ts lists them). A request or an answer has one part or more, each any bytes.
 * One responder receives a request: the groups of a topic take turns, and within a group the responder
 * with the fewest requests in flight receives it.
 * Cost: the replies of REQUEST and REPLY show nothing stored, so they may wait a millisecond for a push to
 * be sent with: a round trip is four writes instead of six.
 */
import { NO_PAYLOAD, type Payload, payloadRules } from '../../engine/requests/payload.ts';
import type { ReplyKind, TopicFacts } from '../../engine/requests/registrations.ts';
import { MOST_CREDIT_BYTES, type Refusal } from '../../engine/requests/request-router.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { Command, CommandFlag } from '../command/command.ts';
import { type Answer, RequestSession } from '../command/request-session.ts';
import type { Session } from '../connection/session.ts';
import { NOT_AN_INTEGER, SYNTAX, wrongArity } from './common.ts';

const DEFAULT_CREDIT = 100;
const MOST_CREDIT = 1_000_000;
/** The largest window of a stream, in bytes. */
const MOST_WINDOW = 2 ** 30;
/** Checked once a second. */
const LEAST_ALIVE_MS = 1000;
const LONGEST_TIMEOUT_MS = 24 * 60 * 60 * 1000;
const LONGEST_TEXT = 4096;

/** The session's own; made when it first sends a request or responds to a topic. */
function requestsOf(session: Session): RequestSession {
  session.requests ??= new RequestSession(session);
  return session.requests;
}

/** The parts of the command being run; handed on, never kept. */
const parts: { args: Arguments; from: number } = { ...NO_PAYLOAD };

function partsFrom(session: Session, from: number): Payload {
  parts.args = session.args;
  parts.from = from;
  return parts;
}

/** RESPOND topic [GROUP name] [CREDIT n] [ALIVE ms] [WINDOW bytes] */
function respond(session: Session): void {
  const { args, reply } = session;
  let group = '';
  let credit: number | null = DEFAULT_CREDIT;
  let alive: number | null = Number.POSITIVE_INFINITY;
  let window: number | null = 0;
  for (let i = 2; i < args.count; i += 2) {
    if (i + 1 < args.count && args.is(i, 'GROUP')) group = args.latin1(i + 1);
    else if (i + 1 < args.count && args.is(i, 'CREDIT')) credit = args.integer(i + 1);
    else if (i + 1 < args.count && args.is(i, 'ALIVE')) alive = args.integer(i + 1);
    else if (i + 1 < args.count && args.is(i, 'WINDOW')) {
      window = windowOf(session, i + 1);
      if (window === null) return;
    } else {
      reply.error(SYNTAX);
      return;
    }
  }
  if (credit === null || credit < 1 || credit > MOST_CREDIT) {
    reply.error(`ERR CREDIT must be between 1 and ${MOST_CREDIT}`);
  } else if (alive === null || alive < LEAST_ALIVE_MS) {
    reply.error(`ERR ALIVE must be at least ${LEAST_ALIVE_MS} milliseconds`);
  } else {
    const requests = requestsOf(session);
    if (requests.respond(args.copy(1), group, credit, window)) {
      requests.aliveMs = Math.min(requests.aliveMs, alive);
      reply.ok();
    } else {
      reply.error('ERR this connection responds on that topic already');
    }
  }
}

function unrespond(session: Session): void {
  const { args, reply } = session;
  reply.integer(requestsOf(session).unrespond(args.latin1(1)) ? 1 : 0);
}

/** A window in bytes; null after the refusal was written. */
function windowOf({ args, reply }: Session, at: number): number | null {
  const window = args.integer(at);
  if (window !== null && window >= 1 && window <= MOST_WINDOW) return window;
  reply.error(`ERR the window must be between 1 and ${MOST_WINDOW} bytes`);
  return null;
}

/** OPEN topic timeout-ms window part [part ...]; a timeout of 0 is none */
function open(session: Session): void {
  const { args, engine, reply } = session;
  const timeoutMs = args.integer(2);
  if (timeoutMs === null || timeoutMs < 0 || timeoutMs > LONGEST_TIMEOUT_MS) {
    reply.error(`ERR the timeout must be between 0 (none) and ${LONGEST_TIMEOUT_MS} milliseconds`);
    return;
  }
  const window = windowOf(session, 3);
  if (window === null) return;
  const { peer } = requestsOf(session);
  const lasts = timeoutMs === 0 ? Number.POSITIVE_INFINITY : timeoutMs;
  const now = engine.clock.monotonic();
  const taken = peer.open(args.latin1(1), lasts, now, window, partsFrom(session, 4));
  if (typeof taken !== 'number') {
    refuse(session, taken);
    return;
  }
  const start = reply.length;
  reply.integer(taken);
  session.deferrable(start);
}

/** SEND id MORE part [part ...], SEND id END, SEND id ERROR code text */
function send(session: Session): void {
  const { args, reply } = session;
  const id = args.integer(1);
  if (id === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  const { peer } = requestsOf(session);
  const isMore = args.is(2, 'MORE');
  const isError = args.is(2, 'ERROR');
  if (!isMore && !isError && !args.is(2, 'END')) {
    reply.error(SYNTAX);
    return;
  }
  if (isMore ? args.count < 4 : args.count !== (isError ? 5 : 3)) {
    wrongArity(session, 'send');
    return;
  }
  const delivered = isMore
    ? peer.send(id, partsFrom(session, 3))
    : isError
      ? peer.sendFailed(id)
      : peer.sendEnd(id);
  const start = reply.length;
  reply.integer(delivered ? 1 : 0);
  session.deferrable(start);
}

/** GRANT id bytes */
function grant(session: Session): void {
  const { args, reply } = session;
  const id = args.integer(1);
  const bytes = args.integer(2);
  if (id === null || bytes === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  if (bytes < 0 || bytes > MOST_CREDIT_BYTES) {
    reply.error(`ERR the bytes must be between 0 and ${MOST_CREDIT_BYTES}`);
    return;
  }
  const start = reply.length;
  reply.integer(requestsOf(session).peer.grant(id, bytes) ? 1 : 0);
  session.deferrable(start);
}

/** REQUEST topic timeout-ms part [part ...] */
function request(session: Session): void {
  const { reply } = session;
  const taken = take(session);
  if (taken === null) return;
  const start = reply.length;
  reply.integer(taken);
  session.deferrable(start);
}

/** ASK topic timeout-ms part [part ...]: replies with the answer, for clients that take no pushes. */
function ask(session: Session): void {
  const { reply } = session;
  const requests = requestsOf(session);
  const id = take(session);
  if (id === null) return;
  let answer: Answer = null;
  const answered = new Promise<void>((resolve) => {
    requests.expect(id, (given) => {
      answer = given !== null && 'args' in given ? payloadRules.keep(given) : given;
      resolve();
    });
  });
  const give = (): void => {
    // The wait may have been ended by CLIENT UNBLOCK: then so is the request.
    if (requests.cancelExpected(id) || answer === null) reply.nullArray();
    else if ('code' in answer) reply.error(`${answer.code} ${answer.text}`);
    else replyParts(session, answer);
  };
  session.waitFor(answered, give, { abandoned: () => requests.cancelExpected(id) });
}

function replyParts({ reply }: Session, { args, from }: Payload): void {
  reply.array(args.count - from);
  for (let i = from; i < args.count; i++) {
    reply.bulkSlice(args.buffer, args.offsets[i], args.lengths[i]);
  }
}

/** Reads and begins a request: its number, or null after the refusal was written. */
function take(session: Session): number | null {
  const { args, engine, reply } = session;
  const timeoutMs = args.integer(2);
  if (timeoutMs === null || timeoutMs < 1 || timeoutMs > LONGEST_TIMEOUT_MS) {
    reply.error(`ERR the timeout must be between 1 and ${LONGEST_TIMEOUT_MS} milliseconds`);
    return null;
  }
  const { peer } = requestsOf(session);
  const now = engine.clock.monotonic();
  const taken = peer.request(args.latin1(1), timeoutMs, now, partsFrom(session, 3));
  if (typeof taken === 'number') return taken;
  refuse(session, taken);
  return null;
}

function refuse({ args, reply }: Session, refusal: Refusal): void {
  const topic = args.latin1(1).slice(0, 128);
  const why = {
    NORESPONDERS: `no responder answers on '${topic}'`,
    LIMIT: `too many requests wait on '${topic}'`,
    UNSUPPORTED: `no responder on '${topic}' accepts streams: none gave a WINDOW`,
  };
  reply.errorBytes(`${refusal} ${why[refusal]}`);
}

/** REPLY id LAST|MORE part [part ...], REPLY id END [head], REPLY id ERROR code text */
function answer(session: Session): void {
  const { args, reply } = session;
  const id = args.integer(1);
  if (id === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  const { peer } = requestsOf(session);
  let delivered: boolean;
  if (args.is(2, 'ERROR')) {
    if (args.count !== 5) {
      wrongArity(session, 'reply');
      return;
    }
    delivered = peer.fail(id, args.text(3).slice(0, 64), args.text(4).slice(0, LONGEST_TEXT));
  } else {
    const kind = kindOf(args);
    if (kind === null) {
      reply.error(SYNTAX);
      return;
    }
    if (kind === 'end' ? args.count > 4 : args.count < 4) {
      wrongArity(session, 'reply');
      return;
    }
    delivered = peer.reply(id, kind, partsFrom(session, 3));
  }
  const start = reply.length;
  reply.integer(delivered ? 1 : 0);
  session.deferrable(start);
}

function kindOf(args: Arguments): ReplyKind | null {
  if (args.is(2, 'LAST')) return 'reply';
  if (args.is(2, 'MORE')) return 'more';
  return args.is(2, 'END') ? 'end' : null;
}

function cancel(session: Session): void {
  const { args, reply } = session;
  const id = args.integer(1);
  if (id === null) reply.error(NOT_AN_INTEGER);
  else reply.integer(requestsOf(session).peer.cancel(id) ? 1 : 0);
}

/** RESPONDERS [topic] */
function responders(session: Session): void {
  const { args, engine, reply } = session;
  if (args.count > 2) wrongArity(session, 'responders');
  else if (args.count === 1) replyAll(session);
  else {
    const facts = engine.requests.facts(args.latin1(1));
    reply.array(facts === undefined ? 0 : 1);
    if (facts !== undefined) replyFacts(session, facts);
  }
}

function replyAll(session: Session): void {
  const { engine, reply } = session;
  const mark = reply.deferred();
  let count = 0;
  for (const facts of engine.requests.topics()) {
    replyFacts(session, facts);
    count++;
  }
  reply.setLength(mark, count);
}

function replyFacts({ reply }: Session, { topic, queued, groups }: TopicFacts): void {
  reply.map(3);
  reply.bulk(TOPIC);
  reply.bulkLatin1(topic);
  reply.bulk(QUEUED);
  reply.integer(queued);
  reply.bulk(GROUPS);
  reply.array(groups.length);
  for (const { name, responders, credit, inFlight } of groups) {
    reply.map(4);
    reply.bulk(NAME);
    reply.bulkLatin1(name);
    reply.bulk(RESPONDERS);
    reply.integer(responders);
    reply.bulk(CREDIT);
    reply.integer(credit);
    reply.bulk(IN_HAND);
    reply.integer(inFlight);
  }
}

const TOPIC = Buffer.from('topic');
const QUEUED = Buffer.from('queued');
const GROUPS = Buffer.from('groups');
const NAME = Buffer.from('name');
const RESPONDERS = Buffer.from('responders');
const CREDIT = Buffer.from('credit');
const IN_HAND = Buffer.from('in-hand');

// Not in MULTI: their pushes would come before EXEC's reply is complete.
const FLAGS: readonly CommandFlag[] = [
  'pubsub',
  'noscript',
  'no_multi',
  'loading',
  'stale',
  'fast',
];

function row(
  name: string,
  arity: number,
  summary: string,
  complexity: string,
  run: (session: Session) => void,
): Command {
  return { name, arity, flags: FLAGS, group: 'pubsub', since: '8.10.0', summary, complexity, run };
}

export const requestCommands: readonly Command[] = [
  {
    ...row(
      'ask',
      -4,
      'Sends a request to one responder of a topic, and waits for the answer.',
      'O(N) of bytes and of responders',
      ask,
    ),
    flags: ['pubsub', 'noscript', 'no_multi', 'blocking'],
  },
  row('cancel', 2, 'Cancels a request, and notifies its responder.', 'O(1)', cancel),
  row('grant', 3, 'Lets the other side of a stream send this many more bytes.', 'O(1)', grant),
  row(
    'open',
    -5,
    'Opens a stream each way with one responder of a topic.',
    'O(N) of bytes and of responders',
    open,
  ),
  row(
    'reply',
    -3,
    'Answers a request, once or several times, or with an error.',
    'O(N) of bytes',
    answer,
  ),
  row(
    'request',
    -4,
    'Sends a request to one responder of a topic.',
    'O(N) of bytes and of responders',
    request,
  ),
  row('respond', -2, 'Begins to answer requests on a topic.', 'O(1)', respond),
  row(
    'responders',
    -1,
    'Lists the responders of topics and their requests in flight.',
    'O(N) of responders',
    responders,
  ),
  row(
    'send',
    -3,
    'Sends a message on an open stream, or ends one direction of it.',
    'O(N) of bytes',
    send,
  ),
  row(
    'unrespond',
    2,
    'Ends responding on a topic; requests in flight may still be answered.',
    'O(1)',
    unrespond,
  ),
];
