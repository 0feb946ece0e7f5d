/**
 * One member of a ring: joins it, passes messages on, answers others, and leaves.
 *
 * Composes the member table, the failure detector, the queues and the network. Invariants: nothing that
 * arrives throws past this file; what others send beyond the limits is refused and reported; a member
 * whose seeds do not answer tries them again, and so it does with members that died, so that a ring that
 * was cut in two becomes one again; every stream ends within `streamTimeoutMs`. Cost: two datagrams a
 * second, and one exchange of everything each `pushPullIntervalMs`.
 */
import { type Cancel, runOutside, type Scheduler } from '../../../util/time/scheduler.ts';
import type { GossipSettings } from '../options.ts';
import { type Endpoint, isLoopback, textOf } from '../wire/endpoint.ts';
import {
  ALIVE,
  type Answer,
  DEAD,
  encodeMessage,
  type GossipMessage,
  INDIRECT_PING,
  type IndirectPing,
  OWN_VERSIONS,
  PING,
  type Ping,
  SUSPECT,
  USER,
  type UserMessage,
} from '../wire/messages.ts';
import type { GossipNetwork } from '../wire/network.ts';
import { openPacket, PART_BYTES, roomOf, sealPacket } from '../wire/packet.ts';
import { encodeState, type RingState } from '../wire/push-pull.ts';
import { Malformed } from '../wire/raw-msgpack.ts';
import { Sealer } from '../wire/seal.ts';
import { BroadcastQueue } from './broadcast-queue.ts';
import { FailureDetector, shuffled } from './failure-detector.ts';
import { type Member, type MemberState, MemberTable } from './member-table.ts';
import { RingStreams } from './ring-streams.ts';
import { Seeds } from './seeds.ts';

export interface RingListener {
  /** A message that the members' registries send each other; `from` where a member sent it itself. */
  onUser(bytes: Uint8Array, from: Member | null): void;
  /** What this member's registry knows. */
  localState(): Promise<Uint8Array>;
  /** Resolves when everything in it is taken. */
  onState(bytes: Uint8Array): Promise<void>;
  onMember(member: Member, before: MemberState | null): void;
  /** Others took this member for dead, or it has come into another ring: what it announced is to be announced again. */
  onReturn(): void;
  /** What cannot be taken; `where` names the sender. */
  onRefused(where: string, reason: string): void;
}

/** By this a member is known as one of ours, not of go-micro: ours take the state of a registry in each exchange. */
const OWN_META = Buffer.from('rivulet/1');
const MAX_PARTS = 255;
/** Pings of one datagram that are answered: memberlist sends one in each. */
const MAX_PINGS = 4;
/** Members to which an own message goes at once where the ring has no more, and that are notified of a leave at once. */
const MAX_DIRECT = 64;
/** Datagrams to each of them at the end. */
const MAX_LAST_PACKETS = 64;
/** With fewer, one of a hundred messages would miss a member of a small ring. */
const LEAST_TIMES = 8;
/** Members beyond which exchanges become rarer, as memberlist's. */
const SCALE_FROM = 32;

export class Ring {
  readonly #settings: GossipSettings;
  readonly #scheduler: Scheduler;
  readonly #network: GossipNetwork;
  readonly #listener: RingListener;
  readonly #sealer: Sealer | null;
  readonly #streams: RingStreams;
  readonly #seeds: Seeds;
  readonly #memberMessages: BroadcastQueue;
  readonly #userMessages: BroadcastQueue;
  readonly #closing = new AbortController();
  #table: MemberTable | null = null;
  #detector: FailureDetector | null = null;
  /** The members of this round of passing on. */
  #round: string[] = [];
  #cancelGossip: Cancel | null = null;
  #cancelPushPull: Cancel = () => {};
  #cancelRejoin: Cancel = () => {};
  #listening: Promise<void> | null = null;
  #closed: Promise<void> | null = null;
  #sendingNow: Promise<void> | null = null;

  constructor(
    settings: GossipSettings,
    scheduler: Scheduler,
    network: GossipNetwork,
    listener: RingListener,
  ) {
    this.#settings = settings;
    this.#scheduler = scheduler;
    this.#network = network;
    this.#listener = listener;
    const { key } = settings;
    this.#sealer = key === null ? null : new Sealer(key, () => scheduler.uniqueName());
    this.#streams = new RingStreams({
      settings,
      scheduler,
      network,
      sealer: this.#sealer,
      signal: this.#closing.signal,
      self: () => this.self,
      stateOf: (isJoin) => this.#stateOf(isJoin),
      onState: (state) => this.#merge(state),
      onUser: (bytes) => listener.onUser(bytes, null),
      onRefused: (where, reason) => listener.onRefused(where, reason),
    });
    this.#seeds = new Seeds({
      settings,
      scheduler,
      signal: this.#closing.signal,
      resolve: (host) => network.resolve(host),
      self: () => this.self.endpoint,
      isMember: (place) => this.#members.at(place) !== undefined,
      hasOthers: () => this.others().length > 0,
      whyNot: (place) => this.#whyNot(place),
      join: (place) => this.#join(place),
      onRefused: (where, reason) => listener.onRefused(where, reason),
    });
    this.#memberMessages = new BroadcastQueue(settings.maxQueued);
    this.#userMessages = new BroadcastQueue(settings.maxQueued);
  }

  /** This member. */
  get self(): Member {
    return this.#members.self;
  }

  /** No other member is known, though there are seeds that should be some. */
  get isCut(): boolean {
    return this.#seeds.hasOtherSeeds && this.#members.others().length === 0;
  }

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  /** The others that are alive or suspected; none before it is open. */
  others(): Member[] {
    return this.#table?.others() ?? [];
  }

  /** Whether every other member is one of ours. */
  get isOurs(): boolean {
    return this.others().every(({ meta }) => OWN_META.equals(meta));
  }

  /** Listens, and tries each seed once. Rejects where it cannot listen. */
  async open(): Promise<void> {
    this.#listening = runOutside(this.#scheduler, () => this.#listen());
    await this.#listening;
    if (this.#closing.signal.aborted) return;
    this.#detector?.start();
    this.#schedulePushPull();
    this.#scheduleRejoin();
    await this.#seeds.join();
  }

  /**
   * To all members. `about` names what it is about: a newer message about the same replaces this one.
   * Resolves when an own message has been sent to the members that receive it at once.
   */
  broadcast(about: string, bytes: Uint8Array, isOwn: boolean): Promise<void> {
    const message = encodeMessage({ type: USER, bytes });
    const { maxPacketBytes, retransmitMult } = this.#settings;
    if (message.length + PART_BYTES > roomOf(maxPacketBytes, this.#sealer)) {
      // Other members send a long message no further: it goes to each by a stream.
      if (isOwn) this.#streams.sendLong(about, bytes, this.others());
      return Promise.resolve();
    }
    this.#userMessages.put(about, message, (others) => {
      const spread = timesOf(retransmitMult, others);
      return isOwn ? Math.max(spread, Math.min(others, MAX_DIRECT)) : spread;
    });
    this.#armGossip();
    if (!isOwn) return Promise.resolve();
    // Messages of one turn go together.
    this.#sendingNow ??= Promise.resolve().then(() => this.#sendNow());
    return this.#sendingNow;
  }

  /** Leaves the ring: the others are notified, and what waits for them is sent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#streams.idle();
    this.#closing.abort();
    this.#cancelGossip?.();
    this.#cancelPushPull();
    this.#cancelRejoin();
    // What listens only now is closed, too.
    await this.#listening?.catch(() => {});
    this.#detector?.close();
    const table = this.#table;
    if (table !== null) {
      const message = encodeMessage(table.leave());
      const others = shuffled(table.others(), this.#scheduler).slice(0, MAX_DIRECT);
      await Promise.all(others.map((member) => this.#sendAll(member, message)));
      table.close();
    }
    await this.#network.close();
  }

  get #members(): MemberTable {
    if (this.#table === null) throw new Error('the ring is not open');
    return this.#table;
  }

  async #listen(): Promise<void> {
    const { bind, advertise, name, maxStreams } = this.#settings;
    const bound = await this.#network.listen(bind, maxStreams, {
      onPacket: (bytes, from) => this.#onPacket(bytes, from),
      onStream: async (stream, from) => {
        if (this.#table !== null) await this.#streams.serve(stream, from);
      },
    });
    const { host, port } = advertise;
    const endpoint = { host, port: port === 0 ? bound.port : port };
    const node = name ?? `micro-rivulet-${this.#scheduler.uniqueName()}`;
    const self = { node, endpoint, meta: OWN_META, versions: OWN_VERSIONS, incarnation: 1 };
    const table = new MemberTable(self, {
      ...this.#settings,
      scheduler: this.#scheduler,
      whyNot: (place) => this.#whyNot(place),
      isThere: async (member) => (await this.#detector?.isThere(member)) ?? false,
      onNews: (about, message) => {
        this.#memberMessages.put(about, encodeMessage(message), (others) =>
          timesOf(this.#settings.retransmitMult, others),
        );
        this.#armGossip();
      },
      onState: (member, before) => {
        if (member.state === 'left' && member.name !== node) this.#ask(member);
        this.#listener.onMember(member, before);
      },
      onRefute: () => {
        this.#detector?.onRefute();
        this.#listener.onReturn();
      },
      onRefused: (where, reason) => this.#listener.onRefused(where, reason),
    });
    this.#table = table;
    this.#detector = new FailureDetector({
      ...this.#settings,
      scheduler: this.#scheduler,
      self: () => table.self,
      others: () => table.others(),
      send: (message, to, peer) => void this.#send(message, to, peer),
      pingByStream: (ping, member, withinMs) => this.#streams.ping(ping, member, withinMs),
      onSilent: (member) => table.onSilent(member.name),
      onRound: () => table.reap(),
    });
  }

  /** Why no member of this ring can be at this address. */
  #whyNot({ host }: Endpoint): string | null {
    const { key, bind } = this.#settings;
    if (key === null && !isLoopback(host)) {
      return 'is not on this machine, and a ring without a key is for one machine';
    }
    if (host.includes(':') === bind.host.includes(':')) return null;
    return `cannot be reached from ${bind.host}: one is IPv4, the other IPv6`;
  }

  // Datagrams.

  #onPacket(bytes: Uint8Array, from: Endpoint): void {
    if (this.#closing.signal.aborted || this.#table === null) return;
    const { messages, refused } = openPacket(bytes, this.#sealer);
    if (refused !== null) this.#listener.onRefused(`a datagram from ${from.host}`, refused);
    let pings = 0;
    let sender: Member | null | undefined;
    for (const message of messages) {
      if (message.type === PING || message.type === INDIRECT_PING) {
        if (++pings <= MAX_PINGS) this.#onPing(message, from);
      } else if (message.type === USER) {
        sender ??= this.#senderAt(from);
        this.#listener.onUser(message.bytes, sender);
      } else this.#onMessage(message);
    }
  }

  #senderAt(from: Endpoint): Member | null {
    const sender = this.#members.at(from);
    // A translated address may look like this member's own.
    return sender === undefined || sender === this.#members.self ? null : sender;
  }

  #onPing(message: Ping | IndirectPing, from: Endpoint): void {
    if (message.type === PING) this.#detector?.onPing(message, from);
    else this.#detector?.onIndirectPing(message, from);
  }

  #onMessage(message: Exclude<GossipMessage, Ping | IndirectPing | UserMessage>): void {
    const detector = this.#detector;
    const members = this.#members;
    if (message.type === ALIVE) members.onAlive(message);
    else if ('seq' in message) detector?.onAnswer(message);
    else if (message.type === SUSPECT) members.onSuspect(message);
    else members.onDead(message);
  }

  /** Sends a member that left, as another says, that claim: one that is there refutes it. */
  #ask({ name: node, incarnation, endpoint }: Member): void {
    const claim = encodeMessage({ type: DEAD, incarnation, node, from: node });
    void this.#network.send(sealPacket([claim], 0, this.#sealer), endpoint);
  }

  /** One message, and with it what waits to be passed on. */
  #send(message: Ping | IndirectPing | Answer, to: Endpoint, peer: Member | null): Promise<void> {
    const whyNot = this.#whyNot(to);
    if (whyNot !== null) {
      this.#listener.onRefused(`a ping for ${textOf(to)}`, `it ${whyNot}`);
      return Promise.resolve();
    }
    const known = peer ?? this.#members.at(to);
    const parts = [encodeMessage(message)];
    // A suspected member is notified with the ping, so that it can refute at once.
    if (message.type === PING && known?.state === 'suspect') {
      const { name: node, incarnation } = known;
      parts.push(encodeMessage({ type: SUSPECT, incarnation, node, from: this.self.name }));
    }
    if (known !== undefined) return this.#sendTo(known, parts);
    return this.#network.send(sealPacket(parts, 0, this.#sealer), to);
  }

  #sendTo(member: Member, first: readonly Uint8Array[]): Promise<void> {
    const parts = this.#partsFor(member, first);
    if (parts.length === 0) return Promise.resolve();
    const bytes = sealPacket(parts, member.versions[1] ?? 0, this.#sealer);
    return this.#network.send(bytes, member.endpoint);
  }

  #partsFor(member: Member, first: readonly Uint8Array[]): Uint8Array[] {
    const { maxPacketBytes } = this.#settings;
    const others = this.#members.listeners().length;
    const parts = [...first];
    for (const queue of [this.#memberMessages, this.#userMessages]) {
      const used = parts.reduce((sum, part) => sum + part.length + PART_BYTES, 0);
      const room = roomOf(maxPacketBytes, this.#sealer) - used;
      parts.push(...queue.take(member.name, others, room, PART_BYTES, MAX_PARTS - parts.length));
    }
    return parts;
  }

  async #sendNow(): Promise<void> {
    this.#sendingNow = null;
    const members = shuffled(this.#members.listeners(), this.#scheduler).slice(0, MAX_DIRECT);
    await Promise.all(members.map((member) => this.#sendTo(member, [])));
  }

  /** A message, and everything that waits for the member. */
  async #sendAll(member: Member, message: Uint8Array): Promise<void> {
    const key = this.#sealer;
    let parts = this.#partsFor(member, [message]);
    for (let count = 0; parts.length > 0 && count < MAX_LAST_PACKETS; count++) {
      const bytes = sealPacket(parts, member.versions[1] ?? 0, key);
      await this.#network.send(bytes, member.endpoint);
      parts = this.#partsFor(member, []);
    }
  }

  #armGossip(): void {
    if (this.#cancelGossip !== null || this.#closing.signal.aborted) return;
    this.#cancelGossip = this.#scheduler.after(
      this.#settings.gossipIntervalMs,
      () => this.#gossip(),
      false,
    );
  }

  /** Passes messages on to a few members; those of a round are all different. */
  #gossip(): void {
    this.#cancelGossip = null;
    const listeners = new Map(this.#members.listeners().map((member) => [member.name, member]));
    for (let count = 0; count < Math.min(this.#settings.gossipNodes, listeners.size); count++) {
      if (this.#round.length === 0) this.#round = shuffled([...listeners.keys()], this.#scheduler);
      const member = listeners.get(this.#round.pop() as string);
      if (member !== undefined) void this.#sendTo(member, []);
    }
    const isWaiting = this.#memberMessages.size > 0 || this.#userMessages.size > 0;
    if (isWaiting && listeners.size > 0) this.#armGossip();
  }

  async #stateOf(isJoin: boolean): Promise<Uint8Array> {
    const user = await this.#listener.localState();
    return encodeState({ isJoin, members: this.#members.facts(), user });
  }

  async #merge({ members, user }: RingState): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#members.merge(members);
    await this.#listener.onState(user);
  }

  // What recurs.

  #schedulePushPull(): void {
    if (this.#closing.signal.aborted) return;
    const scale = Math.max(1, Math.ceil(Math.log2((this.others().length + 1) / SCALE_FROM)) + 1);
    const wait =
      this.#settings.pushPullIntervalMs * scale * (0.75 + this.#scheduler.fraction() / 2);
    this.#cancelPushPull = this.#scheduler.after(wait, () => void this.#pushPull(), false);
  }

  async #pushPull(): Promise<void> {
    const alive = this.others().filter(({ state }) => state === 'alive');
    const [member] = shuffled(alive, this.#scheduler);
    // A member that does not answer is the failure detector's business.
    if (member !== undefined) await this.#streams.exchange(member.endpoint, false).catch(() => {});
    this.#schedulePushPull();
  }

  #scheduleRejoin(): void {
    if (this.#closing.signal.aborted) return;
    const wait = this.#settings.rejoinIntervalMs * (0.75 + this.#scheduler.fraction() / 2);
    this.#cancelRejoin = this.#scheduler.after(wait, () => void this.#rejoin(), false);
  }

  async #rejoin(): Promise<void> {
    await this.#seeds.join();
    if (this.#closing.signal.aborted) return;
    const [lost] = shuffled(this.#members.lost(), this.#scheduler);
    if (lost !== undefined) await this.#join(lost.endpoint);
    this.#scheduleRejoin();
  }

  async #join(place: Endpoint): Promise<boolean> {
    try {
      await this.#streams.exchange(place, true);
    } catch (error) {
      // One that is down is tried again; one that is there and refuses has a cause.
      if (error instanceof Malformed && !this.#closing.signal.aborted) {
        this.#listener.onRefused(`the member at ${textOf(place)}`, error.message);
      }
      return false;
    }
    if (this.#closing.signal.aborted) return false;
    this.#listener.onReturn();
    return true;
  }
}

/** How often a message is passed on so that it reaches all, go-micro's members too, which pass nothing on. */
function timesOf(mult: number, others: number): number {
  const times = mult * Math.max(1, Math.ceil(Math.log10(others + 1)));
  return Math.max(times, Math.min(others, LEAST_TIMES));
}
