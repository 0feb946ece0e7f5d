/**
 * Requests and replies: RESPOND, UNRESPOND, REQUEST, REPLY, CANCEL, ASK, RESPONDERS. Not Redis's.
 *
 * All but ASK is multiplexed: REQUEST answers with the request's number at once, what is answered to
 * it comes as a push (exchange.ts lists them). Parts are opaque bytes, at least one.
 * A request goes to one responder in all: groups of a topic take turns, and a group's least busy
 * responder has it.
 * Cost: the replies of REQUEST and REPLY tell of nothing but that they were taken, so they wait a
 * moment for a push to leave with: a round trip is four writes, not six.
 */
import { NO_PARTS, type Parts, partsRules } from '../../engine/parts.ts';
import type { ReplyKind, TopicFacts } from '../../engine/responders.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { Command, CommandFlag } from '../command.ts';
import { connectionOf } from '../connection-of.ts';
import { type Answer, Exchange } from '../exchange.ts';
import type { Session } from '../session.ts';
import { NOT_AN_INTEGER, SYNTAX, wrongArity } from './common.ts';

const DEFAULT_CREDIT = 100;
const MOST_CREDIT = 1_000_000;
/** Looked at once a second. */
const LEAST_ALIVE_MS = 1000;
const LONGEST_TIMEOUT_MS = 24 * 60 * 60 * 1000;
const LONGEST_TEXT = 4096;

/** The parts of the command being run; handed on, never kept. */
const parts: { args: Arguments; from: number } = { ...NO_PARTS };

function partsFrom(session: Session, from: number): Parts {
  parts.args = session.args;
  parts.from = from;
  return parts;
}

/** RESPOND topic [GROUP name] [CREDIT n] [ALIVE ms] */
function respond(session: Session): void {
  const { args, reply } = session;
  let group = '';
  let credit: number | null = DEFAULT_CREDIT;
  let alive: number | null = Number.POSITIVE_INFINITY;
  for (let i = 2; i < args.count; i += 2) {
    if (i + 1 < args.count && args.is(i, 'GROUP')) group = args.latin1(i + 1);
    else if (i + 1 < args.count && args.is(i, 'CREDIT')) credit = args.integer(i + 1);
    else if (i + 1 < args.count && args.is(i, 'ALIVE')) alive = args.integer(i + 1);
    else {
      reply.error(SYNTAX);
      return;
    }
  }
  if (credit === null || credit < 1 || credit > MOST_CREDIT) {
    reply.error(`ERR CREDIT must be between 1 and ${MOST_CREDIT}`);
  } else if (alive === null || alive < LEAST_ALIVE_MS) {
    reply.error(`ERR ALIVE must be at least ${LEAST_ALIVE_MS} milliseconds`);
  } else {
    const exchange = Exchange.of(session);
    if (exchange.respond(args.copy(1), group, credit)) {
      exchange.longestSilence = Math.min(exchange.longestSilence, alive);
      reply.ok();
    } else {
      reply.error('ERR this connection responds on that topic already');
    }
  }
}

function unrespond(session: Session): void {
  const { args, reply } = session;
  reply.integer(Exchange.of(session).unrespond(args.latin1(1)) ? 1 : 0);
}

/** REQUEST topic timeout-ms part [part ...] */
function request(session: Session): void {
  const { reply } = session;
  const taken = take(session);
  if (taken === null) return;
  const start = reply.length;
  reply.integer(taken);
  session.unhurried(start);
}

/** ASK topic timeout-ms part [part ...]: waits for the answer, for clients that take no pushes. */
function ask(session: Session): void {
  const { reply } = session;
  const exchange = Exchange.of(session);
  const id = take(session);
  if (id === null) return;
  let answer: Answer = null;
  const answered = new Promise<void>((resolve) => {
    exchange.expect(id, (given) => {
      answer = given !== null && 'args' in given ? partsRules.keep(given) : given;
      resolve();
    });
  });
  const give = (): void => {
    // CLIENT UNBLOCK ends the wait, and with it the request.
    if (exchange.giveUp(id) || answer === null) reply.nullArray();
    else if ('code' in answer) reply.error(`${answer.code} ${answer.text}`);
    else replyParts(session, answer);
  };
  connectionOf(session).waitFor(answered, give, { abandoned: () => exchange.giveUp(id) });
}

function replyParts({ reply }: Session, { args, from }: Parts): void {
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
  const { party } = Exchange.of(session);
  const now = engine.clock.monotonic();
  const taken = party.request(args.latin1(1), timeoutMs, now, partsFrom(session, 3));
  if (typeof taken === 'number') return taken;
  const topic = args.latin1(1).slice(0, 128);
  if (taken === 'NORESPONDERS') reply.errorBytes(`NORESPONDERS nobody answers on '${topic}'`);
  else reply.errorBytes(`LIMIT too many requests wait on '${topic}'`);
  return null;
}

/** REPLY id LAST|MORE part [part ...], REPLY id END, REPLY id ERROR code text */
function answer(session: Session): void {
  const { args, reply } = session;
  const id = args.integer(1);
  if (id === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  const { party } = Exchange.of(session);
  let heard: boolean;
  if (args.is(2, 'ERROR')) {
    if (args.count !== 5) {
      wrongArity(session, 'reply');
      return;
    }
    heard = party.fail(id, args.text(3).slice(0, 64), args.text(4).slice(0, LONGEST_TEXT));
  } else {
    const kind = kindOf(args);
    if (kind === null) {
      reply.error(SYNTAX);
      return;
    }
    if (kind === 'end' ? args.count !== 3 : args.count < 4) {
      wrongArity(session, 'reply');
      return;
    }
    heard = party.reply(id, kind, partsFrom(session, 3));
  }
  const start = reply.length;
  reply.integer(heard ? 1 : 0);
  session.unhurried(start);
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
  else reply.integer(Exchange.of(session).party.cancel(id) ? 1 : 0);
}

/** RESPONDERS [topic] */
function responders(session: Session): void {
  const { args, engine, reply } = session;
  if (args.count > 2) wrongArity(session, 'responders');
  else if (args.count === 1) replyAll(session);
  else {
    const facts = engine.responders.facts(args.latin1(1));
    reply.array(facts === undefined ? 0 : 1);
    if (facts !== undefined) replyFacts(session, facts);
  }
}

function replyAll(session: Session): void {
  const { engine, reply } = session;
  const mark = reply.deferred();
  let count = 0;
  for (const facts of engine.responders.topics()) {
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
  for (const { name, responders, credit, inHand } of groups) {
    reply.map(4);
    reply.bulk(NAME);
    reply.bulkLatin1(name);
    reply.bulk(RESPONDERS);
    reply.integer(responders);
    reply.bulk(CREDIT);
    reply.integer(credit);
    reply.bulk(IN_HAND);
    reply.integer(inHand);
  }
}

const TOPIC = Buffer.from('topic');
const QUEUED = Buffer.from('queued');
const GROUPS = Buffer.from('groups');
const NAME = Buffer.from('name');
const RESPONDERS = Buffer.from('responders');
const CREDIT = Buffer.from('credit');
const IN_HAND = Buffer.from('in-hand');

// Not in MULTI: what one of them pushes would stand in the middle of EXEC's reply.
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
      'Asks one of those who answer on a topic, and waits for the answer.',
      'O(N) of bytes and of responders',
      ask,
    ),
    flags: ['pubsub', 'noscript', 'no_multi', 'blocking'],
  },
  row('cancel', 2, 'Gives up a request; its responder is told.', 'O(1)', cancel),
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
    'Asks one of those who answer on a topic.',
    'O(N) of bytes and of responders',
    request,
  ),
  row('respond', -2, 'Begins to answer requests on a topic.', 'O(1)', respond),
  row(
    'responders',
    -1,
    'Lists who answers on which topic, and how busy they are.',
    'O(N) of responders',
    responders,
  ),
  row(
    'unrespond',
    2,
    'Ends answering on a topic; requests in hand may still be answered.',
    'O(1)',
    unrespond,
  ),
];
