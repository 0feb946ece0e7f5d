/**
 * The rows of every option of every broker, and what each call checks.
 *
 * Holds: one table for each kind of options (broker, publish, subscribe, request, respond, pending,
 * redrive, nack). Invariant: no option reaches an implementation that its row does not allow.
 */
import {
  checkNumber,
  checkOptions,
  count,
  delay,
  invalid,
  type OptionTable,
  shown,
  timeout,
} from '../../client/option-table.ts';
import { isWellFormed } from '../message/text.ts';
import { MOST_WINDOW } from '../requests/call-costs.ts';
import { checkGroup, checkTopic } from '../topics/topics.ts';

export const MOST_IN_FLIGHT = 1_000_000;
/** Longest deduplication id. */
const MOST_ID_BYTES = 1024;
const MOST_ATTEMPTS = 2 ** 31 - 1;
const MOST_BYTES = 2 ** 32;

const backoffTable: OptionTable = {
  minMs: timeout(0),
  maxMs: timeout(0),
  factor: { kind: 'number', min: 1, max: 1000, integer: false, unit: '' },
  jitter: { kind: 'boolean' },
};

/** Every option of every broker: the range, the unit, and what is whole. */
export const brokerTable: OptionTable = {
  addresses: { kind: 'other', check: checkAddresses },
  clientName: { kind: 'text', check: checkClientName },
  publishTimeoutMs: timeout(),
  maxPendingPublishes: count(1, 10_000_000),
  connectTimeoutMs: timeout(),
  reconnect: { kind: 'group', table: backoffTable },
  drainTimeoutMs: timeout(0),
  maxBodyBytes: count(1, MOST_BYTES, 'bytes'),
  dedupWindowMs: timeout(),
  idWindowMs: { kind: 'renamed', to: 'dedupWindowMs' },
  goMicro: { kind: 'boolean' },
  scheduler: { kind: 'other', check: checkScheduler },
  client: { kind: 'other', check: checkBag },
};

export const subscribeTable: OptionTable = {
  group: { kind: 'text', check: (value) => checkGroup(value) },
  ack: { kind: 'one of', values: ['auto', 'manual'] },
  from: { kind: 'other', check: checkPosition },
  concurrency: count(1, MOST_IN_FLIGHT),
  maxInFlight: count(1, MOST_IN_FLIGHT),
  ordered: {
    kind: 'one of',
    values: ['none', 'key', 'strict'],
    renamed: { no: 'none', 'by-key': 'key', strictly: 'strict' },
  },
  ackWaitMs: timeout(),
  retry: {
    kind: 'group',
    table: { attempts: count(1, MOST_ATTEMPTS), backoff: { kind: 'group', table: backoffTable } },
  },
  deadLetter: { kind: 'other', check: checkDeadLetter },
  batch: { kind: 'group', table: { size: count(1, MOST_IN_FLIGHT), waitMs: timeout(0) } },
  signal: { kind: 'signal' },
};

const publishTable: OptionTable = {
  dedupId: { kind: 'text', check: checkDedupId },
  id: { kind: 'renamed', to: 'dedupId' },
  delayMs: delay(),
  deliverAt: { kind: 'date' },
  maxLength: count(0, Number.MAX_SAFE_INTEGER),
  signal: { kind: 'signal' },
};

const requestTable: OptionTable = { timeoutMs: timeout(), signal: { kind: 'signal' } };

const streamTable: OptionTable = {
  timeoutMs: timeout(),
  windowBytes: count(1, MOST_WINDOW, 'bytes'),
  signal: { kind: 'signal' },
};

const respondTable: OptionTable = {
  group: { kind: 'text', check: (value) => checkGroup(value) },
  concurrency: count(1, MOST_IN_FLIGHT),
  signal: { kind: 'signal' },
};

const pendingTable: OptionTable = {
  consumer: { kind: 'text' },
  minIdleMs: delay(),
  limit: count(1, MOST_IN_FLIGHT),
  after: { kind: 'text' },
};

const redriveTable: OptionTable = {
  from: { kind: 'text', check: checkTopicName },
  // Infinity = all, as when it is left out.
  limit: { kind: 'other', check: checkLimit },
};

const nackTable: OptionTable = { delayMs: delay(), reason: { kind: 'text' } };

/** What is no object at all would be lost when it is spread. */
export function checkBrokerOptions(options: unknown): void {
  checkOptions(brokerTable, options);
}

export function checkPublishOptions(options: { delayMs?: unknown; deliverAt?: unknown }): void {
  checkOptions(publishTable, options);
  if (options.delayMs !== undefined && options.deliverAt !== undefined) {
    throw invalid('delayMs and deliverAt exclude each other');
  }
}

export function checkRequestOptions(options: unknown): void {
  checkOptions(requestTable, options);
}

export function checkStreamOptions(options: unknown): void {
  checkOptions(streamTable, options);
}

export function checkRespondOptions(options: unknown): void {
  checkOptions(respondTable, options);
}

export function checkPendingQuery(query: unknown): void {
  checkOptions(pendingTable, query);
}

export function checkRedriveOptions(options: unknown): void {
  checkOptions(redriveTable, options);
}

export function checkNackOptions(options: unknown): void {
  checkOptions(nackTable, options);
}

export function checkExtension(ms: unknown): void {
  checkNumber(timeout(), ms, 'extend');
}

export function checkPosition(value: unknown, name = 'the position'): void {
  if (value === 'new' || value === 'earliest') return;
  const position = value as { id?: unknown; time?: unknown } | null;
  if (typeof position === 'object' && position !== null) {
    const keys = Object.keys(position);
    const { id, time } = position;
    if (keys.length === 1 && typeof id === 'string' && id !== '') return;
    if (keys.length === 1 && time instanceof Date && !Number.isNaN(time.getTime())) return;
  }
  throw invalid(
    `${name} is "new", "earliest", { id } with an id as text, or { time } with a valid Date, not ${shown(value)}`,
  );
}

function checkAddresses(value: unknown, name: string): void {
  const isGood = Array.isArray(value) && value.every((each) => typeof each === 'string');
  // Never shown: an address may hold a password.
  if (!isGood) throw invalid(`${name} must be an array of URLs`);
}

function checkClientName(value: string, name: string): void {
  if (value === '' || Buffer.byteLength(value) > 200) throw invalid(`${name} has 1 to 200 bytes`);
  // It is part of the names of consumers, queues and connections.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  if (/[\s\u0000-\u001f\u007f]/u.test(value)) {
    throw invalid(`${name} may hold neither spaces nor control characters`);
  }
}

function checkScheduler(value: unknown, name: string): void {
  const parts = ['after', 'now', 'monotonic', 'fraction', 'uniqueName'];
  const isGood =
    typeof value === 'object' &&
    value !== null &&
    parts.every((part) => typeof (value as Record<string, unknown>)[part] === 'function');
  if (!isGood) throw invalid(`${name} must be a Scheduler, with ${parts.join(', ')}`);
}

function checkBag(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${name} must be an object of the client library's options`);
  }
}

function checkDeadLetter(value: unknown, name: string): void {
  if (value === false) return;
  if (typeof value !== 'string') {
    throw invalid(`${name} is the name of a topic, or false, not ${shown(value)}`);
  }
  checkTopicName(value, name);
}

/** A topic among options: what is wrong with it is wrong with the option. */
function checkTopicName(value: string, name: string): void {
  try {
    checkTopic(value);
  } catch (cause) {
    throw invalid(`${name}: ${(cause as Error).message}`);
  }
}

function checkDedupId(value: string, name: string): void {
  if (value === '' || Buffer.byteLength(value) > MOST_ID_BYTES) {
    throw invalid(`${name} has 1 to ${MOST_ID_BYTES} bytes`);
  }
  // Two ids that differ only in halves of characters would become one as UTF-8.
  if (!isWellFormed(value)) throw invalid(`${name} holds half a character (a lone surrogate)`);
}

function checkLimit(value: unknown, name: string): void {
  if (value === Number.POSITIVE_INFINITY) return;
  checkNumber(count(1, Number.MAX_SAFE_INTEGER), value, name);
}
