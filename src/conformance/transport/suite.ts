/**
 * The suite that says which transports conform, at the level of the Transport contract: bodies are
 * opaque bytes, what calls mean is rpc's.
 *
 * Give it a test runner and a factory of fixtures; it registers one test per case of cases-unary.ts,
 * cases-streams.ts and cases-endings.ts. A fixture listens (a node that runs the handler it is given)
 * and dials (a channel to that node, as from another process). A case that needs what the fixture says
 * it `cannot` do is skipped and named; `cannot` must be what the transport's own page says, too.
 * Every case has its own node, so cases are independent of each other and of their order; nothing is
 * waited for by a sleep, but what has no event is polled.
 */
import type {
  Call,
  CallHandler,
  Channel,
  IncomingCall,
  Listener,
  MethodKind,
  OutgoingCall,
} from '../../transport/transport.ts';
import { type Runner, registerInContext, withFixture } from '../register-cases.ts';

export interface TransportNode {
  readonly listener: Listener;
  /** A channel to this node. */
  dial(): Promise<Channel>;
}

/** What a transport may lack; each name is what a case says that it needs. */
export type Ability =
  /** Any kind of stream. */
  | 'streams'
  /** The caller may go on sending while replies come, and after it has ended read on. */
  | 'clientStreams'
  /** Typed errors: the name and the data of a failure. */
  | 'errorData'
  /** A caller that gives up is noticed by the handler before the handler sends or ends. */
  | 'cancel'
  /** `timeoutMs` reaches the handler. */
  | 'deadline'
  /** Metadata of replies. */
  | 'replyMetadata'
  /** A failure that the node says before any handler ran arrives with `sent: 'no'`. */
  | 'sent'
  /** A listener that closes with a drain time lets calls in flight finish. */
  | 'drain';

/** How much a sender may hold whose peer does not read. */
export type Bound = { readonly bytes: number } | { readonly messages: number };

export interface TransportFixture extends AsyncDisposable {
  /** A new node; ended by the suite. */
  listen(handler: CallHandler): Promise<TransportNode>;
  /** Dials where no node is; null where such a dial has no meaning. */
  dialNowhere?(): Promise<Channel>;
  readonly cannot?: readonly Ability[];
  /** Content type of all messages. Default application/octet-stream. */
  readonly contentType?: string;
  /** Largest body of the cases, in bytes. Default 1 MiB. */
  readonly maxBody?: number;
  /** What a stream may hold: for tests of slow readers. */
  readonly bound: Bound;
  /** Calls at once in the largest case. Default 10 000. */
  readonly manyCalls?: number;
}

export interface TransportCase {
  readonly name: string;
  readonly needs?: readonly Ability[];
  readonly uses?: readonly (keyof TransportFixture)[];
  readonly timeoutMs?: number;
  run(context: TransportContext): Promise<void>;
}

/** What a case works with: nodes and channels that end with it. */
class TransportContext {
  readonly fixture: TransportFixture;
  readonly #nodes: TransportNode[] = [];
  readonly #channels: Channel[] = [];

  constructor(fixture: TransportFixture) {
    this.fixture = fixture;
  }

  get contentType(): string {
    return this.fixture.contentType ?? 'application/octet-stream';
  }

  /** A handler may be an async function: a call that ends under it is not its failure. */
  async node(handler: (call: IncomingCall) => unknown): Promise<TransportNode> {
    const node = await this.fixture.listen((call) => {
      Promise.resolve(handler(call)).catch(() => {});
    });
    this.#nodes.push(node);
    return node;
  }

  /** A channel to a node that runs this handler. */
  async channel(handler: (call: IncomingCall) => unknown): Promise<Channel> {
    return this.dial(await this.node(handler));
  }

  async dial(node: TransportNode): Promise<Channel> {
    const channel = await node.dial();
    this.#channels.push(channel);
    return channel;
  }

  call(kind: MethodKind, changes: Partial<OutgoingCall> = {}): OutgoingCall {
    const hasBody = kind === 'unary' || kind === 'serverStream';
    return {
      service: 'conformance.transport',
      endpoint: 'Suite.Method',
      kind,
      contentType: this.contentType,
      metadata: {},
      timeoutMs: 30_000,
      signal: null,
      body: hasBody ? bytes('request') : null,
      ...changes,
    };
  }

  /** Answers a unary call or a client stream. */
  reply(call: IncomingCall, body: Uint8Array | string, metadata = {}): void {
    const sent = typeof body === 'string' ? bytes(body) : body;
    call.reply({ contentType: this.contentType, metadata, body: sent });
  }

  async end(): Promise<void> {
    await Promise.all(this.#channels.map((channel) => channel.close()));
    await Promise.all(this.#nodes.map(({ listener }) => listener.close()));
  }
}

export interface TransportSetup {
  readonly name: string;
  readonly runner: Runner;
  readonly factory: () => Promise<TransportFixture>;
  readonly cases: readonly TransportCase[];
  /** Only cases whose name contains this. */
  readonly only?: string;
}

/** Registers the cases; `transportConformance` of index.ts gives it all of them. */
export function registerTransportCases(setup: TransportSetup): void {
  const { name, runner, only = '' } = setup;
  const cases = setup.cases.filter((each) => each.name.includes(only));
  withFixture(`${name} transport: conformance`, setup, (fixture) => {
    const contextOf = (each: TransportFixture) => new TransportContext(each);
    registerInContext(runner, cases, fixture, contextOf, ({ needs = [] }) => {
      const lacking = needs.find((need) => fixture().cannot?.includes(need));
      return lacking === undefined ? null : `the transport cannot: ${lacking}`;
    });
  });
}

export function bytes(text: string): Uint8Array {
  return Buffer.from(text);
}

export function text(body: Uint8Array): string {
  return Buffer.from(body).toString();
}

export async function readAll(call: Call): Promise<string[]> {
  const all: string[] = [];
  for await (const message of call.messages) all.push(text(message));
  return all;
}

/** Polls what has no event. */
export async function until(what: string, holds: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Until a number has not changed for `quietMs`. */
export async function settled(read: () => number, quietMs = 250): Promise<number> {
  let value = read();
  let since = performance.now();
  while (performance.now() - since < quietMs) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const now = read();
    if (now === value) continue;
    value = now;
    since = performance.now();
  }
  return value;
}
