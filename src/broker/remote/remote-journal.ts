/**
 * Journals on `micro server`: a commit is MULTI ... EXEC IFLAST.
 *
 * Invariant: a commit whose reply was lost is sent again, and its token in the journal says whether the
 * first one was stored. Watchers are notified through a channel named after the key, and once each time
 * the listening connection is replaced, because a notification may have been missed.
 * Cost: one round trip a commit; one subscription for each watched key, all on one connection.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import { type Reply, ReplyError, ReplyMap } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import {
  committedBefore,
  type JournalCommit,
  type JournalEffect,
  type JournalEntry,
  type JournalRange,
  type JournalReply,
  type JournalStore,
  NO_RECORD,
  type QueueState,
  storedFields,
} from '../journal.ts';
import type { BrokerOptions } from '../options/options.ts';
import { ReconnectingConnection } from './reconnecting-connection.ts';
import type { Command, RemoteClient } from './remote-client.ts';

const SCANNED = 1000;

export interface RemoteJournalSetup {
  readonly client: () => RemoteClient;
  readonly broker: BrokerOptions;
  readonly consume: JournalStore['consume'];
  /** Tries again through an outage. */
  readonly withRetry: <T>(what: string, work: () => Promise<T>) => Promise<T>;
}

export class RemoteJournal implements JournalStore {
  readonly #setup: RemoteJournalSetup;
  readonly consume: JournalStore['consume'];
  readonly #listeners = new Map<string, Set<() => void>>();
  #channels: ReconnectingConnection | null = null;
  #opening: Promise<void> | null = null;

  constructor(setup: RemoteJournalSetup) {
    this.#setup = setup;
    this.consume = setup.consume;
  }

  read(key: string, range: JournalRange = {}): Promise<JournalEntry[]> {
    const { after, from, limit, newestFirst } = range;
    const start = after === undefined ? (from ?? '-') : `(${after}`;
    const command: CommandArgument[] =
      newestFirst === true ? ['XREVRANGE', key, '+', start] : ['XRANGE', key, start, '+'];
    if (limit !== undefined) command.push('COUNT', limit);
    return this.#withRetry(`read ${key}`, async (client) => {
      const rows = (await client.call(...command)) as [Buffer, Buffer[]][];
      return rows.map(([id, fields]) => ({ id: id.toString(), fields: fieldsOf(fields) }));
    });
  }

  length(key: string): Promise<number> {
    return this.#withRetry(`read ${key}`, async (client) => Number(await client.call('XLEN', key)));
  }

  commit(commit: JournalCommit): Promise<JournalReply | null> {
    const { key, last, records, also = [], restart, effects = [], token } = commit;
    const commands: CommandArgument[][] = [['MULTI']];
    for (const [i, record] of records.entries()) {
      const trim = restart === true && i === records.length - 1 ? ['MAXLEN', records.length] : [];
      commands.push(['XADD', key, ...trim, '*', ...storedFields(record, token)]);
    }
    const places = effects.map((effect) => {
      commands.push(...commandsOf(effect));
      return commands.length - 1;
    });
    for (const each of notifiedKeys(commit)) commands.push(['PUBLISH', this.#channel(each), '']);
    const conditions = also.flatMap((other) => [other.key, other.last]);
    commands.push(['EXEC', 'IFLAST', key, last, ...conditions]);
    let isKnown = true;
    return this.#withRetry(`commit to ${key}`, async (client) => {
      let reply: Reply;
      try {
        reply = await transact(client, commands);
      } catch (error) {
        // The commit may have been stored.
        isKnown = false;
        throw error;
      }
      if (!Array.isArray(reply)) {
        if (isKnown) return null;
        const after = last === NO_RECORD ? {} : { after: last };
        return committedBefore(commit, await this.read(key, after));
      }
      return {
        ids: records.map((_, i) => String(reply[i])),
        added: effects.flatMap(({ kind }, i) => {
          if (kind !== 'add') return [];
          const id = reply[(places[i] as number) - 1];
          return [id === null ? null : String(id)];
        }),
      };
    });
  }

  apply(effects: readonly JournalEffect[]): Promise<void> {
    if (effects.length === 0) return Promise.resolve();
    const commands = [['MULTI'], ...effects.flatMap(commandsOf), ['EXEC']];
    return this.#withRetry('settle tasks', async (client) => {
      await transact(client, commands);
    });
  }

  async watch(key: string, listener: () => void): Promise<() => void> {
    const listeners = this.#listeners.get(key) ?? new Set<() => void>();
    const isNew = listeners.size === 0;
    this.#listeners.set(key, listeners.add(listener));
    const end = () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      if (this.#listeners.get(key) === listeners) this.#listeners.delete(key);
      this.#say('UNSUBSCRIBE', key).catch(() => {});
    };
    try {
      await this.#listen();
      if (isNew) await this.#say('SUBSCRIBE', key);
    } catch (error) {
      // Unreachable: the next connection subscribes, and notifies.
      if (error instanceof ReplyError) {
        end();
        throw error;
      }
    }
    return end;
  }

  async keys(pattern: string): Promise<string[]> {
    const found = new Set<string>();
    for (let cursor = '0'; ; ) {
      const page = await this.#withRetry('list journals', (client) =>
        client.call('SCAN', cursor, 'MATCH', pattern, 'TYPE', 'stream', 'COUNT', SCANNED),
      );
      const [next, names] = page as [Buffer, Buffer[]];
      for (const name of names) found.add(name.toString());
      cursor = next.toString();
      if (cursor === '0') return [...found].sort();
    }
  }

  queue(key: string, group: string): Promise<QueueState | null> {
    return this.#withRetry(`read ${key}`, async (client) => {
      let groups: Reply;
      try {
        groups = await client.call('XINFO', 'GROUPS', key);
      } catch (error) {
        if (error instanceof ReplyError) return null;
        throw error;
      }
      const facts = (groups as ReplyMap[]).find((each) => String(each.get('name')) === group);
      if (!(facts instanceof ReplyMap)) return null;
      const lag = facts.get('lag');
      return {
        waiting: typeof lag === 'number' ? lag : null,
        pending: Number(facts.get('pending')),
      };
    });
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      await this.#withRetry(`remove ${key}`, async (client) => {
        for (;;) {
          const page = (await client.call('XSCHEDULE', 'LIST', key, 'COUNT', SCANNED)) as [
            Buffer,
          ][];
          if (page.length === 0) break;
          await client.call('XSCHEDULE', 'CANCEL', key, ...page.map(([name]) => name));
        }
        await client.pipeline([
          ['DEL', key],
          ['PUBLISH', this.#channel(key), ''],
        ]);
      });
    }
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    this.#channels?.stop();
    await this.#opening?.catch(() => {});
    await this.#channels?.close(new RivuletError('CLOSED', 'the broker is disconnected'));
  }

  #withRetry<T>(what: string, work: (client: RemoteClient) => Promise<T>): Promise<T> {
    return this.#setup.withRetry(what, () => work(this.#setup.client()));
  }

  #channel(key: string): string {
    return `${key}@${this.#setup.client().database}`;
  }

  /** Resolves when the connection for channels is open, or is being retried. */
  #listen(): Promise<void> {
    if (this.#opening !== null) return this.#opening;
    const connection = new ReconnectingConnection({
      client: this.#setup.client(),
      broker: this.#setup.broker,
      push: (items) => this.#onPush(items),
      onOpen: async (connection) => {
        const channels = [...this.#listeners.keys()].map((key) => this.#channel(key));
        if (channels.length > 0) await subscribe(connection, 'SUBSCRIBE', channels);
      },
      onReconnect: () => {
        for (const listeners of this.#listeners.values()) for (const each of listeners) each();
      },
    });
    this.#channels = connection;
    this.#opening = connection.connect().catch((error) => {
      if (error instanceof ReplyError) {
        this.#opening = null;
        throw error;
      }
      connection.keepTrying();
    });
    return this.#opening;
  }

  async #say(command: 'SUBSCRIBE' | 'UNSUBSCRIBE', key: string): Promise<void> {
    const connection = this.#channels?.current;
    if (connection) await subscribe(connection, command, [this.#channel(key)]);
  }

  #onPush(items: readonly Reply[]): void {
    if (String(items[0]) !== 'message') return;
    const channel = String(items[1]);
    const key = channel.slice(0, channel.lastIndexOf('@'));
    for (const listener of [...(this.#listeners.get(key) ?? [])]) listener();
  }
}

/** The reply to the last command, which is EXEC. Rejects with the first error among the replies. */
async function transact(client: RemoteClient, commands: readonly Command[]): Promise<Reply> {
  const replies = await client.pipeline(commands);
  const result = replies.at(-1) as Reply;
  const failed = Array.isArray(result)
    ? result.find((each) => each instanceof ReplyError)
    : replies.find((each) => each instanceof ReplyError);
  if (failed !== undefined) throw failed;
  return result;
}

/** An `add` is exactly one command. */
function commandsOf(effect: JournalEffect): CommandArgument[][] {
  const { key } = effect;
  switch (effect.kind) {
    case 'add': {
      const { fields, at, delayMs, onlyIfThere, dropBefore } = effect;
      const options: CommandArgument[] = onlyIfThere === true ? ['NOMKSTREAM'] : [];
      if (dropBefore !== undefined) options.push('MINID', '~', dropBefore);
      if (at !== undefined) options.push('AT', Math.max(0, Math.ceil(at)));
      else if (delayMs !== undefined) options.push('DELAY', Math.max(0, Math.ceil(delayMs)));
      return [['XADD', key, ...options, '*', ...fields]];
    }
    case 'delete':
      return [['XDEL', key, ...effect.ids]];
    case 'ack':
      return [
        ['XACK', key, effect.group, effect.id],
        ['XDEL', key, effect.id],
      ];
    case 'unschedule':
      return [['XSCHEDULE', 'CANCEL', key, effect.name]];
    case 'expire':
      return [
        effect.afterMs === null ? ['PERSIST', key] : ['PEXPIRE', key, Math.ceil(effect.afterMs)],
      ];
  }
}

function notifiedKeys({ key, effects = [] }: JournalCommit): Set<string> {
  const keys = new Set([key]);
  for (const effect of effects) {
    if (effect.kind === 'add' && effect.tell === true) keys.add(effect.key);
  }
  return keys;
}

function fieldsOf(raw: readonly Buffer[]): Record<string, string> {
  const fields: Record<string, string> = Object.create(null);
  for (let i = 0; i + 1 < raw.length; i += 2) fields[String(raw[i])] = String(raw[i + 1]);
  return fields;
}

function subscribe(
  connection: NonNullable<ReconnectingConnection['current']>,
  command: 'SUBSCRIBE' | 'UNSUBSCRIBE',
  channels: readonly string[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const reply = (value: Reply) => (value instanceof ReplyError ? reject(value) : resolve());
    connection.send([command, ...channels], { reply, fail: reject }, 0, channels.length);
  });
}
