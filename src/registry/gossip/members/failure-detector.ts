/**
 * Finds out which members no longer answer: SWIM's probes, one member after the other.
 *
 * A probe is a ping; where no answer comes within `probeTimeoutMs`, other members ping it for us and a
 * stream to it is tried; without an answer at the end of the interval the member is suspected. Invariants:
 * one probe of ours at a time; each present member is probed once a round, in an order that changes; a
 * probe during which this process stood still does not count; a member whose own health is bad (it misses
 * nacks, is suspected) probes more slowly; at most `MAX_RELAYS` pings for others wait. Cost: two datagrams
 * a second in a healthy ring.
 */
import type { Cancel, Scheduler } from '../../../util/time/scheduler.ts';
import type { Endpoint } from '../wire/endpoint.ts';
import {
  ACK,
  type Answer,
  INDIRECT_PING,
  type IndirectPing,
  NACK,
  PING,
  type Ping,
} from '../wire/messages.ts';
import type { Member } from './member-table.ts';

export interface FailureDetectorOptions {
  readonly scheduler: Scheduler;
  readonly probeIntervalMs: number;
  readonly probeTimeoutMs: number;
  readonly indirectChecks: number;
  readonly self: () => Member;
  /** The members to be probed. */
  readonly others: () => Member[];
  readonly send: (message: Ping | IndirectPing | Answer, to: Endpoint, peer: Member | null) => void;
  /** Whether the member answers a ping by stream within the time. */
  readonly pingByStream: (ping: Ping, member: Member, withinMs: number) => Promise<boolean>;
  readonly onSilent: (member: Member) => void;
  /** Once a round. */
  readonly onRound: () => void;
}

interface Waiting {
  readonly onAck: () => void;
  readonly onNack: () => void;
}

/** Pings for other members that wait for their answers. */
const MAX_RELAYS = 256;
const MAX_HEALTH = 7;
/** Versions of the protocol that know pings by stream, and nacks. */
const STREAM_PING_VERSION = 3;
const NACK_VERSION = 4;

export class FailureDetector {
  readonly #options: FailureDetectorOptions;
  readonly #waiting = new Map<number, Waiting>();
  #round: string[] = [];
  #seq = 0;
  #relays = 0;
  /** 0 is good; each point makes the probes one interval slower. */
  #health = 0;
  readonly #timers = new Set<Cancel>();
  #isClosed = false;

  constructor(options: FailureDetectorOptions) {
    this.#options = options;
  }

  get health(): number {
    return this.#health;
  }

  start(): void {
    const { scheduler, probeIntervalMs } = this.#options;
    // Not all members of a ring at the same moment.
    this.#schedule(probeIntervalMs * scheduler.fraction());
  }

  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.#waiting.clear();
  }

  /** A ping of another: answered where it means this member. */
  onPing(ping: Ping, from: Endpoint): void {
    const { self, send } = this.#options;
    if (ping.node !== '' && ping.node !== self().name) return;
    send({ type: ACK, seq: ping.seq }, ping.source ?? from, null);
  }

  /** Another member asks us to ping a third one. */
  onIndirectPing(asked: IndirectPing, from: Endpoint): void {
    if (this.#relays >= MAX_RELAYS) return;
    const { probeTimeoutMs, send } = this.#options;
    const to = asked.source ?? from;
    const seq = this.#nextSeq();
    this.#relays++;
    const end = () => {
      this.#relays--;
      this.#waiting.delete(seq);
    };
    const cancel = this.#after(probeTimeoutMs, () => {
      end();
      if (asked.wantsNack) send({ type: NACK, seq: asked.seq }, to, null);
    });
    const onAck = () => {
      cancel();
      end();
      send({ type: ACK, seq: asked.seq }, to, null);
    };
    this.#waiting.set(seq, { onAck, onNack: () => {} });
    send(this.#pingOf(asked.node, seq), asked.target, null);
  }

  onAnswer({ type, seq }: Answer): void {
    const waiting = this.#waiting.get(seq);
    if (type === ACK) waiting?.onAck();
    else waiting?.onNack();
  }

  /** Whether the member answers one ping: by datagram within `probeTimeoutMs`, else by stream. */
  async isThere(member: Member): Promise<boolean> {
    if (this.#isClosed) return false;
    const { probeIntervalMs, probeTimeoutMs, send } = this.#options;
    const seq = this.#nextSeq();
    const ping = this.#pingOf(member.name, seq);
    const isAcked = await new Promise<boolean>((resolve) => {
      const cancel = this.#after(probeTimeoutMs, () => resolve(false));
      const onAck = () => {
        cancel();
        resolve(true);
      };
      this.#waiting.set(seq, { onAck, onNack: () => {} });
      send(ping, member.endpoint, member);
    });
    this.#waiting.delete(seq);
    return isAcked || this.#pingByStream(ping, member, probeIntervalMs);
  }

  /** Others suspect this member: it may be the one that is slow. */
  onRefute(): void {
    this.#changeHealth(1);
  }

  #schedule(ms: number): void {
    this.#after(ms, () => this.#next());
  }

  /** A timer that `close` ends. */
  #after(ms: number, run: () => void): Cancel {
    if (this.#isClosed) return () => {};
    const cancel = this.#options.scheduler.after(
      ms,
      () => {
        this.#timers.delete(cancel);
        run();
      },
      false,
    );
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }

  #next(): void {
    const { scheduler, probeIntervalMs } = this.#options;
    const member = this.#pick();
    if (member === null) {
      this.#schedule(probeIntervalMs);
      return;
    }
    const begun = scheduler.monotonic();
    const again = () => {
      const passed = scheduler.monotonic() - begun;
      this.#schedule(Math.max(0, probeIntervalMs * (this.#health + 1) - passed));
    };
    this.#probe(member).then(again, again);
  }

  /** The next member of the round. */
  #pick(): Member | null {
    const others = new Map(this.#options.others().map((member) => [member.name, member]));
    for (let name = this.#round.pop(); name !== undefined; name = this.#round.pop()) {
      const member = others.get(name);
      if (member !== undefined) return member;
    }
    this.#options.onRound();
    this.#round = shuffled([...others.keys()], this.#options.scheduler);
    const name = this.#round.pop();
    return name === undefined ? null : (others.get(name) ?? null);
  }

  async #probe(member: Member): Promise<void> {
    const { scheduler, probeIntervalMs, probeTimeoutMs, send } = this.#options;
    const intervalMs = probeIntervalMs * (this.#health + 1);
    const begun = scheduler.monotonic();
    const seq = this.#nextSeq();
    const ping = this.#pingOf(member.name, seq);
    let nacks = 0;
    let cancel: Cancel = () => {};
    const acked = new Promise<true>((resolve) => {
      this.#waiting.set(seq, { onAck: () => resolve(true), onNack: () => nacks++ });
    });
    const passed = (ms: number) =>
      new Promise<false>((resolve) => {
        cancel = this.#after(ms, () => resolve(false));
      });
    try {
      send(ping, member.endpoint, member);
      if (await Promise.race([acked, passed(Math.min(probeTimeoutMs, intervalMs))])) {
        this.#changeHealth(-1);
        return;
      }
      if (this.#isClosed) return;
      const expected = this.#askOthers(member, seq);
      const left = Math.max(0, intervalMs - (scheduler.monotonic() - begun));
      const byStream = this.#pingByStream(ping, member, left);
      const isThere = (await Promise.race([acked, passed(left)])) || (await byStream);
      if (this.#isClosed) return;
      if (isThere) {
        this.#changeHealth(-1);
        return;
      }
      const stoodStill = scheduler.monotonic() - begun > intervalMs + probeTimeoutMs;
      if (stoodStill) {
        this.#changeHealth(1);
        return;
      }
      this.#changeHealth(expected === 0 ? 1 : Math.max(0, expected - nacks));
      this.#options.onSilent(member);
    } finally {
      cancel();
      this.#waiting.delete(seq);
    }
  }

  async #pingByStream(ping: Ping, member: Member, withinMs: number): Promise<boolean> {
    if (this.#isClosed || (member.versions[1] ?? 0) < STREAM_PING_VERSION) return false;
    return this.#options.pingByStream(ping, member, withinMs).catch(() => false);
  }

  /** How many nacks are to come where the member is silent for all. */
  #askOthers(member: Member, seq: number): number {
    const { scheduler, indirectChecks, others, self, send } = this.#options;
    const healthy = others().filter(({ name, state }) => name !== member.name && state === 'alive');
    let expected = 0;
    for (const peer of shuffled(healthy, scheduler).slice(0, indirectChecks)) {
      const wantsNack = (peer.versions[1] ?? 0) >= NACK_VERSION;
      if (wantsNack) expected++;
      const { name: sourceNode, endpoint: source } = self();
      const { name: node, endpoint: target } = member;
      const asked = {
        type: INDIRECT_PING,
        seq,
        target,
        node,
        wantsNack,
        source,
        sourceNode,
      } as const;
      send(asked, peer.endpoint, peer);
    }
    return expected;
  }

  #pingOf(node: string, seq: number): Ping {
    const { name: sourceNode, endpoint: source } = this.#options.self();
    return { type: PING, seq, node, source, sourceNode };
  }

  #nextSeq(): number {
    this.#seq = (this.#seq + 1) >>> 0;
    return this.#seq;
  }

  #changeHealth(by: number): void {
    this.#health = Math.min(MAX_HEALTH, Math.max(0, this.#health + by));
  }
}

/** The same members in another order. */
export function shuffled<T>(list: readonly T[], scheduler: Scheduler): T[] {
  const result = [...list];
  for (let at = result.length - 1; at > 0; at--) {
    const other = Math.floor(scheduler.fraction() * (at + 1));
    [result[at], result[other]] = [result[other] as T, result[at] as T];
  }
  return result;
}
