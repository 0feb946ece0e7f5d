/**
 * A stream server (Rivulet, Redis) behind a broker's address, for what only its commands return.
 *
 * Invariant: topics are named as the broker of the same address names them: the stream of `orders` is
 * the key `orders`. Other brokers have no such commands: UNSUPPORTED, which says what they can do.
 */
import { parseAddress, splitAddresses, withoutPassword } from '../broker/addresses.ts';
import { decodeMessage } from '../broker/message/entry.ts';
import type { Message } from '../broker/message/message.ts';
import { type Client, connect } from '../client/client.ts';
import { pairsOf, type Reply, ReplyError } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import { CommandFailure, EXIT } from './exit-code.ts';

const PORTS: Readonly<Record<string, number>> = {
  rivulet: 7488,
  rivulets: 7488,
  redis: 6379,
  rediss: 6379,
};

export interface Entry {
  readonly id: string;
  readonly message: Message;
}

export function isStreamServer(address: string): boolean {
  return Object.hasOwn(PORTS, /^([a-z]+):/.exec(address)?.[1] ?? '');
}

/** Connects to the first server of the address. Throws UNSUPPORTED where it is no stream server. */
export async function openStreamServer(address: string, what: string): Promise<Client> {
  const scheme = /^([a-z]+):/.exec(address)?.[1] ?? '';
  if (!isStreamServer(address)) {
    const text = `${what} works on rivulet:// and redis:// only, and ${withoutPassword(address)} is neither`;
    throw new RivuletError('UNSUPPORTED', text);
  }
  const [first = address] = splitAddresses(address);
  const { host, port, username, password, path } = parseAddress(first);
  const client = connect({
    host: host || '127.0.0.1',
    port: port ?? (PORTS[scheme] as number),
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(/^\/\d+$/.test(path) ? { db: Number(path.slice(1)) } : {}),
    ...(scheme === 'rivulets' || scheme === 'rediss' ? { tls: true } : {}),
    connectTimeoutMs: 5000,
    name: 'micro',
  });
  return client.catch((error) => {
    if ((error as RivuletError).code !== 'CONNECTION_FAILED') throw error;
    // The client speaks of a connection that was lost; here there never was one.
    const why = /connect \w+|no connection[^;]*/.exec((error as Error).message)?.[0] ?? 'no answer';
    const text = `cannot connect to ${withoutPassword(first)}: ${why}; is it running?`;
    throw new CommandFailure(text, EXIT.unreachable);
  });
}

/** Runs the work with a connection, and closes it. */
export async function onStreamServer<T>(
  address: string,
  what: string,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const client = await openStreamServer(address, what);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Entries from `start` to `end` (ids, `-`, `+`, `(id`), oldest first. */
export async function entriesOf(
  client: Client,
  topic: string,
  start: string,
  end: string,
  limit: number,
): Promise<Entry[]> {
  return toEntries(await client.call('XRANGE', topic, start, end, 'COUNT', limit));
}

/** The last entries, oldest first. */
export async function lastEntries(client: Client, topic: string, limit: number): Promise<Entry[]> {
  return toEntries(await client.call('XREVRANGE', topic, '+', '-', 'COUNT', limit)).reverse();
}

function toEntries(reply: Reply): Entry[] {
  return (reply as [Buffer, Buffer[]][]).map(([id, fields]) => ({
    id: id.toString(),
    message: decodeMessage(fields),
  }));
}

/** Facts of XINFO as an object of numbers, texts and lists. */
export function factsOf(reply: Reply): Record<string, Reply> {
  return Object.fromEntries(pairsOf(reply).map(([name, value]) => [String(name), value]));
}

/** Null where the key or group is not there; other errors go on. */
export async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ReplyError && /no such key|NOGROUP/i.test(error.message)) return null;
    throw error;
  }
}

/** When an entry was added: ids of streams begin with it. */
export function timeOfId(id: string): Date | null {
  const ms = Number(/^(\d+)-\d+$/.exec(id)?.[1]);
  const time = new Date(ms);
  return ms > 0 && !Number.isNaN(time.getTime()) ? time : null;
}
