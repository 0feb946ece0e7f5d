/**
 * Clients that send random commands and know, for each, which reply it must have.
 *
 * Every command carries a word of its own, so a reply that belongs to another command is noticed; and
 * a client's replies are matched in order, so a missing or an extra one is noticed by all that follow.
 * Several kinds of client: RESP3 with everything, RESP2 without pushes, a RESP2 subscriber, and
 * responders of both protocols.
 */
import { connect, type Socket } from 'node:net';
import { Random } from '../../../src/util/random.ts';
import { replyEnd } from '../../helpers/resp-session.ts';

type Kind = 'resp3' | 'resp2' | 'subscriber' | 'responder3' | 'responder2';

interface Expected {
  readonly command: string;
  readonly reply: RegExp;
  /** The text that a REQUEST carries; its reply is the number of the request. */
  readonly request?: string;
}

const KINDS: readonly Kind[] = [
  'resp3',
  'resp3',
  'resp3',
  'resp2',
  'resp2',
  'subscriber',
  'responder3',
  'responder2',
];

export async function randomClients(port: number, seed: number): Promise<RandomClient[]> {
  const world: World = { random: new Random(seed), ids: [], word: 0 };
  const clients: RandomClient[] = [];
  for (const [index, kind] of KINDS.entries()) {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new RandomClient(world, socket, kind, `${kind} ${index}`);
    clients.push(client);
    await client.begin();
  }
  return clients;
}

interface World {
  readonly random: Random;
  /** CLIENT ID of each client. */
  readonly ids: string[];
  word: number;
}

/** Ends of a wait that are not its data. */
const ENDED_EARLY = '-UNBLOCKED client unblocked via CLIENT UNBLOCK\\|';
const NULL = '(\\*-1\\||_\\||\\$-1\\|)';

export class RandomClient {
  readonly name: string;
  readonly findings: string[] = [];
  checked = 0;
  readonly #kind: Kind;
  readonly #world: World;
  readonly #socket: Socket;
  readonly #expected: Expected[] = [];
  readonly #requests = new Map<string, string>();
  #received: Buffer = Buffer.alloc(0);
  #lines: string[] = [];
  #subscriptions = 0;
  /** Requests that it has not answered yet. */
  readonly #late: string[] = [];
  readonly #words = new Map<string, string>();
  #waiting: (() => void)[] = [];

  constructor(world: World, socket: Socket, kind: Kind, name: string) {
    this.name = name;
    this.#kind = kind;
    this.#world = world;
    this.#socket = socket;
    socket.on('data', (chunk) => this.#receive(chunk as Buffer));
    socket.on('close', () => this.#finding('the connection was closed'));
  }

  async begin(): Promise<void> {
    if (this.#kind === 'resp3' || this.#kind === 'responder3') this.#send('HELLO 3', /^%7/);
    this.#send('CLIENT ID', /^:\d+\|$/);
    if (this.#kind === 'responder3') this.#send('RESPOND t', /^\+OK\|$/);
    if (this.#kind === 'responder2') this.#send('RESPOND u CREDIT 2', /^\+OK\|$/);
    await this.inStep();
  }

  /** Some random commands in one write. */
  step(): void {
    for (let n = 1 + this.#below(4); n > 0; n--) {
      if (this.#kind === 'resp3' || this.#kind === 'resp2') this.#anything();
      else if (this.#kind === 'subscriber') this.#subscriber();
      else this.#echo();
    }
    this.#flush();
  }

  /** Resolves when everything sent so far has been answered. */
  async inStep(): Promise<void> {
    if (this.#kind === 'subscriber' && this.#subscriptions > 0) {
      const word = this.#word();
      this.#send(`PING ${word}`, bulkWithin(word));
    } else this.#echo();
    this.#flush();
    const done = new Promise<void>((resolve) => this.#waiting.push(resolve));
    const timer = setTimeout(() => {
      this.#finding(`no reply to ${this.#expected[0]?.command}`);
      this.#wake();
    }, 20_000);
    await done;
    clearTimeout(timer);
  }

  close(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }

  // ---- What is sent

  #anything(): void {
    const { ids } = this.#world;
    const word = this.#word();
    const other = ids[this.#below(ids.length)];
    const resp3 = this.#kind === 'resp3';
    switch (this.#below(resp3 ? 16 : 13)) {
      case 0:
      case 1:
        this.#echo();
        return;
      case 2:
        this.#wait(word);
        return;
      case 3:
        this.#write('CLIENT REPLY SKIP');
        this.#wait(word, true);
        return;
      case 4: {
        const topic = this.#below(2) === 0 ? 't' : 'u';
        this.#send(
          `ASK ${topic} ${1 + this.#below(100)} ${word}`,
          new RegExp(
            `^(\\*1\\|\\$\\d+\\|${word}\\||${NULL}|${ENDED_EARLY}|-TIMEOUT.*|-LIMIT.*|-BUSY ${word}\\|)$`,
          ),
        );
        return;
      }
      case 5:
        this.#send(`CLIENT UNBLOCK ${other}`, /^:[01]\|$/);
        return;
      case 6:
        this.#send(`CLIENT UNBLOCK ${other} ERROR`, /^:[01]\|$/);
        return;
      case 7: {
        const how = this.#below(2) === 0 ? 'WRITE' : 'ALL';
        this.#send(`CLIENT PAUSE ${1 + this.#below(10)} ${how}`, /^\+OK\|$/);
        return;
      }
      case 8:
        this.#silence(word);
        return;
      case 9:
      case 10:
        this.#transaction(word);
        return;
      case 11:
        this.#send(`XADD s${this.#below(6)} * f ${word}`, /^\$\d+\|\d+-\d+\|$/);
        return;
      case 12:
        this.#send(`PUBLISH c${this.#below(3)} ${word}`, /^:\d+\|$/);
        return;
      case 13:
        this.#subscribe();
        return;
      case 14:
        this.#write('CLIENT REPLY SKIP');
        this.#subscribe();
        return;
      default: {
        const command = `REQUEST t ${20 + this.#below(100)} ${word}`;
        this.#expected.push({ command, reply: /^(:\d+\||-LIMIT.*)$/, request: word });
        this.#write(command);
        return;
      }
    }
  }

  #echo(): void {
    const word = this.#word();
    this.#send(`ECHO ${word}`, new RegExp(`^\\$\\d+\\|${word}\\|$`));
  }

  /** A command that blocks on data, on nothing, or not at all. */
  #wait(word: string, silent = false): void {
    const key = `s${this.#below(6)}`;
    const ms = 1 + this.#below(60);
    const data = `[*%]1\\|(\\*2\\|)?\\$2\\|${key}\\|.*`;
    const commands: [string, string][] = [
      [`XREAD BLOCK ${ms} STREAMS ${key} $`, `(${data}|${NULL}|${ENDED_EARLY})`],
      [`WAIT 1 ${ms}`, `(:0\\||${ENDED_EARLY})`],
      [`ECHO ${word}`, `\\$\\d+\\|${word}\\|`],
    ];
    const [command, reply] = commands[this.#below(3)] as [string, string];
    if (silent) this.#write(command);
    else this.#send(command, new RegExp(`^${reply}$`));
  }

  /** CLIENT REPLY OFF, commands of all kinds, CLIENT REPLY ON. */
  #silence(word: string): void {
    this.#write('CLIENT REPLY OFF');
    for (let n = this.#below(4); n > 0; n--) this.#wait(word, true);
    if (this.#below(2) === 0) {
      this.#write('MULTI');
      this.#write(`PUBLISH c0 ${word}`);
      this.#write('EXEC');
    }
    this.#send('CLIENT REPLY ON', /^\+OK\|$/);
  }

  #transaction(word: string): void {
    this.#send('MULTI', /^\+OK\|$/);
    const elements: string[] = [];
    const count = 1 + this.#below(4);
    for (let n = 0; n < count; n++) {
      const choices: [string, string][] = [
        [`ECHO ${word}-${n}`, `\\$\\d+\\|${word}-${n}\\|`],
        [`PUBLISH c${n % 3} ${word}`, ':\\d+\\|'],
        [`XADD s${n} * f ${word}`, '\\$\\d+\\|\\d+-\\d+\\|'],
        [`XREAD BLOCK 100 STREAMS none${n} $`, NULL],
        ['CLIENT REPLY SKIP', '\\+OK\\|'],
      ];
      const [command, reply] = choices[this.#below(choices.length)] as [string, string];
      this.#send(command, /^\+QUEUED\|$/);
      elements.push(reply);
      if (command.endsWith('SKIP')) break;
    }
    const skips = elements.at(-1) === '\\+OK\\|';
    const silent = this.#below(4) === 0;
    if (silent) {
      // Queued itself: the reply of EXEC is sent, that of the command after it is not.
      this.#send('CLIENT REPLY SKIP', /^\+QUEUED\|$/);
      elements.push('\\+OK\\|');
    }
    this.#send('EXEC', new RegExp(`^\\*${elements.length}\\|${elements.join('')}$`));
    if (silent || skips) this.#write(`ECHO ${word}`);
  }

  #subscribe(): void {
    const name = `c${this.#below(3)}`;
    const verb = ['SUBSCRIBE', 'UNSUBSCRIBE', 'SSUBSCRIBE', 'SUNSUBSCRIBE'][this.#below(4)];
    this.#send(
      `${verb} ${name}`,
      new RegExp(`^>3\\|\\$\\d+\\|${verb?.toLowerCase()}\\|\\$2\\|${name}`),
    );
  }

  /** A RESP2 client that listens may send little else. */
  #subscriber(): void {
    const word = this.#word();
    const choice = this.#below(6);
    if (this.#subscriptions === 0) {
      this.#subscriptions++;
      this.#send('SUBSCRIBE c0', /^\*3\|\$9\|subscribe\|\$2\|c0\|:1\|$/);
    } else if (choice < 2) {
      this.#subscriptions--;
      this.#send('UNSUBSCRIBE c0', /^\*3\|\$11\|unsubscribe\|\$2\|c0\|:0\|$/);
    } else if (choice === 2) {
      this.#send(`GET ${word}`, /^-ERR Can't execute 'get'/);
    } else this.#send(`PING ${word}`, bulkWithin(word));
  }

  #send(command: string, reply: RegExp): void {
    this.#expected.push({ command, reply });
    this.#write(command);
  }

  #write(command: string): void {
    this.#lines.push(command);
  }

  #flush(): void {
    if (this.#lines.length === 0) return;
    this.#socket.write(`${this.#lines.join('\r\n')}\r\n`);
    this.#lines = [];
  }

  // ---- What is received

  #receive(chunk: Buffer): void {
    const bytes = Buffer.concat([this.#received, chunk]);
    let from = 0;
    for (;;) {
      const end = bytes.length === from ? -1 : replyEnd(bytes, from);
      if (end < 0) break;
      this.#take(bytes.toString('latin1', from, end).replaceAll('\r\n', '|'));
      from = end;
    }
    this.#received = bytes.subarray(from);
    this.#flush();
  }

  #take(text: string): void {
    if (this.#isPush(text)) return;
    const expected = this.#expected.shift();
    if (expected === undefined) {
      this.#finding(`a reply to no command: ${text}`);
      return;
    }
    this.checked++;
    if (!expected.reply.test(text)) this.#finding(`${expected.command} was answered ${text}`);
    if (expected.command === 'CLIENT ID') this.#world.ids.push(text.slice(1, -1));
    if (expected.request !== undefined) this.#requests.set(text.slice(1, -1), expected.request);
    if (this.#expected.length === 0) this.#wake();
  }

  /** Whether it is no reply; a push that may not come is a finding. */
  #isPush(text: string): boolean {
    const [head, , kind, , first, , second] = text.split('|') as (string | undefined)[];
    if (this.#kind === 'resp3') {
      if (!text.startsWith('>') || kind?.endsWith('subscribe')) return false;
      if (kind === 'message' || kind === 'smessage') return true;
      const id = /^>\d+\|\$\d+\|\w+\|:(\d+)\|/.exec(text)?.[1] ?? '';
      const asked = this.#requests.get(id);
      if (asked === undefined) this.#finding(`an answer before its number, or to nothing: ${text}`);
      else if (kind !== 'failed' && kind !== 'end' && !text.includes(`|${asked}|`)) {
        this.#finding(`request ${asked} was answered ${text}`);
      }
      return true;
    }
    if (this.#kind === 'subscriber') {
      if (kind !== 'message') return false;
      if (head !== '*3' || first !== 'c0' || second === undefined) this.#finding(text);
      return true;
    }
    if (this.#kind.startsWith('responder') && (kind === 'request' || kind === 'cancel')) {
      if (kind === 'request') this.#respond(text);
      return true;
    }
    return false;
  }

  #respond(text: string): void {
    const parts = text.split('|');
    const id = parts[3]?.slice(1);
    const word = parts[7];
    const taken = /^:[01]\|$/;
    // Requests that were given up meanwhile, or soon will be, are answered late.
    const late = this.#below(2) === 0 ? this.#late.shift() : undefined;
    if (late !== undefined) this.#send(`REPLY ${late} LAST ${this.#words.get(late)}`, taken);
    switch (this.#below(5)) {
      case 0:
      case 4:
        if (id !== undefined && word !== undefined) {
          this.#late.push(id);
          this.#words.set(id, word);
        }
        return;
      case 1:
        this.#send(`REPLY ${id} MORE ${word}`, taken);
        this.#send(`REPLY ${id} END`, taken);
        return;
      case 2:
        this.#send(`REPLY ${id} ERROR BUSY ${word}`, taken);
        return;
      default:
        this.#send(`REPLY ${id} LAST ${word}`, taken);
        return;
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #finding(text: string): void {
    if (this.findings.length < 5) this.findings.push(text);
    if (this.findings.length === 5) this.#wake();
  }

  #word(): string {
    return `w${++this.#world.word}`;
  }

  #below(limit: number): number {
    return this.#world.random.below(limit);
  }
}

function bulkWithin(word: string): RegExp {
  return new RegExp(`^\\*2\\|\\$4\\|pong\\|\\$\\d+\\|${word}\\|$`);
}
