/**
 * The connection of rivulet's nats registry: publish, subscribe and query.
 *
 * Invariants: subscriptions continue after a reconnect. Without a connection a publish or query fails at
 * once and fills no buffer. A query ends after its timeout, or as soon as the server reports that no
 * process is subscribed. Cost: one connection; one inbox per query.
 */
import { connect, createInbox, type NatsConnection } from '@nats-io/transport-node';
import { RivuletError, splitAddresses } from 'rivulet/adapter';
import { readAddress } from './address.ts';
import { toRivulet } from './errors.ts';

const PING_MS = 2000;
const CONNECT_MS = 5000;
/** How much longer than its timeout a query waits until the server has received it. */
const SLOW_MS = 2000;

export interface RegistryBus {
  publish(subject: string, text: string): Promise<void>;
  subscribe(subject: string, listener: (text: string, reply: string | null) => void): void;
  query(subject: string, text: string, timeoutMs: number): Promise<string[]>;
  onReconnect(listener: () => void): void;
  close(): Promise<void>;
}

/** `nats://host:4222`, or several separated by commas. */
export async function openRegistryBus(
  url: string,
  connectTimeoutMs = CONNECT_MS,
): Promise<RegistryBus> {
  const addresses = splitAddresses(url).map(readAddress);
  let nc: NatsConnection;
  try {
    nc = await connect({
      servers: addresses.map(({ host }) => host),
      ...addresses[0]?.credentials,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: PING_MS,
      maxPingOut: 2,
      timeout: connectTimeoutMs,
    });
  } catch (error) {
    throw toRivulet(error);
  }
  return new ConnectionBus(nc);
}

class ConnectionBus implements RegistryBus {
  readonly #nc: NatsConnection;
  readonly #onReconnect = new Set<() => void>();
  #isConnected = true;

  constructor(nc: NatsConnection) {
    this.#nc = nc;
    void this.#watch();
  }

  async publish(subject: string, text: string): Promise<void> {
    this.#mustBeConnected();
    this.#nc.publish(subject, text);
    await this.#nc.flush();
  }

  subscribe(subject: string, listener: (text: string, reply: string | null) => void): void {
    this.#nc.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) listener(message.string(), message.reply || null);
      },
    });
  }

  query(subject: string, text: string, timeoutMs: number): Promise<string[]> {
    this.#mustBeConnected();
    const inbox = createInbox();
    return new Promise((resolve, reject) => {
      const answers: string[] = [];
      let hasReached = false;
      const finish = () => {
        clearTimeout(timer);
        subscription.unsubscribe();
        // No reply is a result only if the server has received the query.
        if (hasReached) resolve(answers);
        else reject(new RivuletError('NOT_CONNECTED', 'the NATS server did not receive the query'));
      };
      // The server may receive the query after the timeout; until then no reply means nothing.
      let isLate = false;
      let timer = setTimeout(() => {
        if (hasReached) return finish();
        isLate = true;
        timer = setTimeout(finish, SLOW_MS);
      }, timeoutMs);
      const subscription = this.#nc.subscribe(inbox, {
        callback: (error, message) => {
          // 503: no process is subscribed.
          hasReached = error === null;
          if (error !== null || message.headers?.code === 503) finish();
          else answers.push(message.string());
        },
      });
      this.#nc.publish(subject, text, { reply: inbox });
      this.#nc.flush().then(
        () => {
          hasReached = true;
          if (isLate) finish();
        },
        () => {},
      );
    });
  }

  onReconnect(listener: () => void): void {
    this.#onReconnect.add(listener);
  }

  async close(): Promise<void> {
    await this.#nc.close();
  }

  #mustBeConnected(): void {
    if (this.#isConnected && !this.#nc.isClosed()) return;
    throw new RivuletError('NOT_CONNECTED', 'there is no connection to NATS');
  }

  async #watch(): Promise<void> {
    for await (const { type } of this.#nc.status()) {
      if (type === 'disconnect' || type === 'close') this.#isConnected = false;
      else if (type === 'reconnect') {
        this.#isConnected = true;
        for (const listener of this.#onReconnect) listener();
      }
    }
  }
}
