/**
 * Records of hand-overs, because RabbitMQ counts deliveries.
 *
 * RabbitMQ counts how often a message was returned to its queue, whether a handler had it or it was only
 * fetched ahead. So a consumer records its hand-overs, as long as they may decide between a retry and
 * a dead letter, in one stream for all groups. A consumer that receives a message which another process
 * returned reads the stream to its end.
 * Invariants: the last record of a message counts. A record is stored once `write` resolves. The stream
 * keeps its last 32 MiB; a message whose record was removed gets more attempts, never fewer. A message
 * in the stream that is no record is skipped.
 * Cost: at most one small message for each hand-over; one every 50 ms for a trusted consumer whose
 * messages are settled within that time. A reading takes about 20 ms.
 */
import type { ConfirmChannel } from 'amqplib';
import { RivuletError } from 'rivulet/adapter';
import { toRivulet } from '../errors.ts';
import type { Link, LinkChannel } from '../link.ts';
import { type LogReaderSetup, readToEnd } from '../log-reader.ts';
import { HAND_OVERS } from '../names.ts';
import { ConfirmWatch } from '../publishing/confirm-watch.ts';

const KEPT_BYTES = 32 * 1024 * 1024;
const SEGMENT_BYTES = 4 * 1024 * 1024;
/** Records in memory for each queue. */
const MAX_REMEMBERED = 100_000;

/** The last record of one message in one queue. */
export interface HandOverRecord {
  /** Hand-overs to handlers so far, this one included. */
  readonly attempts: number;
  /** The attempts that the message has in a header: a retry is a copy, whose returns start at 0. */
  readonly base: number;
  /** How often the message was returned before. If it was returned more often, its consumer died. */
  readonly returns: number;
}

/** In the stream: queue, id (null: the queue was made again), attempts, base, returns. */
type Row = readonly [string, string | null, number, number, number];

export class HandOverLog {
  readonly #reader: LogReaderSetup;
  readonly #link: Link;
  #declared: Promise<void> | null = null;
  /** The records that were read so far, of the queues that were asked for. */
  readonly #known = new Map<string, Map<string, HandOverRecord>>();
  /** Where the next reading begins; null = at the start of the stream. */
  #next: number | null = null;
  #reading: Promise<void> | null = null;
  #following: Promise<void> | null = null;
  /** A channel for records alone. */
  #open: LinkChannel<ConfirmChannel> | null = null;
  #opening: Promise<void> | null = null;
  readonly #returned = new Set<string>();
  /** Records on the channel that RabbitMQ has not confirmed. */
  #unconfirmed = new Set<(error: unknown) => void>();
  #watch: ConfirmWatch | null = null;
  /** How many channels in a row confirmed nothing any more. */
  #late = 0;
  #number = 0;

  constructor(reader: LogReaderSetup) {
    this.#reader = reader;
    this.#link = reader.link;
  }

  /** The stream may be missing: the connection is new, or another queue was found missing. */
  forget(): void {
    this.#declared = null;
  }

  /** Resolves when the record is stored. Rejects with a retryable error when it may not be. */
  write(queue: string, id: string, record: HandOverRecord): Promise<void> {
    const { attempts, base, returns } = record;
    return this.#append([queue, id, attempts, base, returns]);
  }

  /** The queue is made again: its earlier records no longer count. */
  reset(queue: string): Promise<void> {
    return this.#append([queue, null, 0, 0, 0]);
  }

  /** The records of a queue, with every record that was stored before the call. */
  async read(queue: string): Promise<ReadonlyMap<string, HandOverRecord>> {
    let known = this.#known.get(queue);
    if (known === undefined) {
      known = new Map();
      this.#known.set(queue, known);
      // Its records may be anywhere in the stream, also before what a reading in progress still reads.
      this.#next = null;
    }
    await this.#refresh();
    return known;
  }

  /** Forgets the records of a queue. */
  drop(queue: string): void {
    this.#known.delete(queue);
  }

  /** Opens the channel on which a record is sent within the call of `write`. */
  async open(): Promise<void> {
    await this.#declare();
    this.#opening ??= this.#makeChannel().finally(() => {
      this.#opening = null;
    });
    await this.#opening;
  }

  async close(): Promise<void> {
    await this.#open?.close();
  }

  async #makeChannel(): Promise<void> {
    if (this.#open?.open) return;
    const open = await this.#link.confirmChannel();
    this.#link.writeAtOnce(open.channel);
    open.channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
    this.#open = open;
    const unconfirmed = new Set<(error: unknown) => void>();
    this.#unconfirmed = unconfirmed;
    const setup = {
      scheduler: this.#reader.scheduler,
      waits: () => unconfirmed.size > 0,
      isBlocked: () => this.#link.blocked !== null,
      late: () => {
        this.#late++;
        void open.close();
        const error = new Error(`RabbitMQ confirms nothing of the stream ${HAND_OVERS} any more`);
        for (const fail of [...unconfirmed]) fail(error);
      },
    };
    const watch = new ConfirmWatch(setup, this.#late);
    this.#watch = watch;
    void open.ended.then(() => watch.stop());
  }

  async #append(row: Row): Promise<void> {
    const body = Buffer.from(JSON.stringify([row]));
    // Without an `await` before it, so that the record is sent within the call.
    const before = this.#open;
    if (before?.open && (await this.#send(before, body))) return;
    // A new stream needs a new channel; see publisher.ts.
    void before?.close();
    this.#declared = null;
    await this.open();
    if (this.#open?.open && (await this.#send(this.#open, body))) return;
    throw new RivuletError('NOT_CONNECTED', `the stream ${HAND_OVERS} cannot be written`);
  }

  /** Resolves to false when the stream is missing. */
  #send(open: LinkChannel<ConfirmChannel>, body: Buffer): Promise<boolean> {
    const messageId = String(this.#number++);
    const unconfirmed = this.#unconfirmed;
    const watch = this.#watch;
    return new Promise((resolve, reject) => {
      const properties = { persistent: true, mandatory: true, messageId };
      const confirmed = (error: unknown) => {
        // Given up before.
        if (!unconfirmed.delete(confirmed)) return;
        watch?.answered();
        const returned = this.#returned.delete(messageId);
        if (error) reject(toRivulet(open.failure ?? error));
        else {
          this.#late = 0;
          resolve(!returned);
        }
      };
      unconfirmed.add(confirmed);
      try {
        open.channel.publish('', HAND_OVERS, body, properties, confirmed);
        watch?.sent();
      } catch (error) {
        unconfirmed.delete(confirmed);
        reject(toRivulet(open.failure ?? error));
      }
    });
  }

  /** One reading at a time. A call during a reading waits for the next one, whose mark is later. */
  #refresh(): Promise<void> {
    if (this.#reading === null) {
      this.#reading = this.#read().finally(() => {
        this.#reading = null;
      });
      return this.#reading;
    }
    this.#following ??= this.#reading
      .catch(() => {})
      .then(() => {
        this.#following = null;
        return this.#refresh();
      });
    return this.#following;
  }

  async #read(): Promise<void> {
    await this.#declare();
    const from = this.#next;
    if (from === null) for (const known of this.#known.values()) known.clear();
    // A queue that is asked for meanwhile sets it to null again: the next reading is from the start.
    this.#next = 0;
    try {
      const mark = await readToEnd(this.#reader, HAND_OVERS, from ?? 'first', ({ content }) => {
        for (const row of rowsIn(content)) this.#apply(row);
      });
      if (this.#next !== null) this.#next = mark + 1;
    } catch (error) {
      // The stream may have been deleted and declared again: its offsets start at 0.
      this.#next = null;
      this.#declared = null;
      throw error;
    }
  }

  #apply([queue, id, attempts, base, returns]: Row): void {
    const known = this.#known.get(queue);
    if (known === undefined) return;
    if (id === null) {
      known.clear();
      return;
    }
    known.delete(id);
    known.set(id, { attempts, base, returns });
    if (known.size <= MAX_REMEMBERED) return;
    const [oldest] = known.keys();
    known.delete(oldest as string);
  }

  #declare(): Promise<void> {
    this.#declared ??= this.#link
      .using(async (channel) => {
        await channel.assertQueue(HAND_OVERS, {
          durable: true,
          arguments: {
            'x-queue-type': 'stream',
            'x-max-length-bytes': KEPT_BYTES,
            'x-stream-max-segment-size-bytes': SEGMENT_BYTES,
          },
        });
      })
      .catch((error) => {
        this.#declared = null;
        throw error;
      });
    return this.#declared;
  }
}

/** Empty when another program wrote the message. */
function rowsIn(content: Buffer): Row[] {
  try {
    const rows: unknown = JSON.parse(content.toString());
    return Array.isArray(rows) ? rows.filter(isRow) : [];
  } catch {
    return [];
  }
}

function isRow(row: unknown): row is Row {
  if (!Array.isArray(row)) return false;
  const [queue, id, ...counts] = row;
  if (typeof queue !== 'string' || (id !== null && typeof id !== 'string')) return false;
  return counts.length === 3 && counts.every((each) => Number.isSafeInteger(each) && each >= 0);
}
